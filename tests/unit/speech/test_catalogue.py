"""The catalogue: every model can be called, and every retired model has a successor.

Covers: app.kit.money, app.speech.catalogue, app.speech.engines.http.json_body
"""

from pathlib import Path

import pytest

from app.errors import ModelRetired, UnknownModel
from app.kit.money import parse_nano
from app.speech.catalogue import load_catalogue
from app.speech.engines.http.json_body import base64_size
from tests.support.catalogue_page import EXAMPLE

MOST_ENCODED_BYTES = 10 << 20
FLAC_SHARE = 1.003  # of its PCM, for sound that cannot be made smaller
REVIVED = """
[models."qwen-audio-asr"]
engine = "dashscope"
upstream_model = "qwen-audio-asr"
wire = "qwen3"
title = "Back again"
part_seconds = 180
source = "an operator"
checked = 2026-11-21
"""


@pytest.mark.parametrize("name", ["qwen-audio-asr", "qwen-audio-asr-latest"])
def test_a_retired_model_names_its_successor(name: str) -> None:
    catalogue = load_catalogue()
    with pytest.raises(ModelRetired) as caught:
        catalogue.find(name)
    assert caught.value.members["successor"] in catalogue.models
    assert caught.value.members["successor"] in caught.value.detail


def test_an_operator_can_add_a_retired_model_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(REVIVED)
    catalogue = load_catalogue(str(file))
    assert catalogue.find("qwen-audio-asr").title == "Back again"
    with pytest.raises(ModelRetired):
        catalogue.find("qwen-audio-asr-latest")


def test_an_unknown_model_is_unknown_model() -> None:
    with pytest.raises(UnknownModel):
        load_catalogue().find("qwen-audio")


@pytest.mark.parametrize("name", ["Qwen3-ASR-Flash", " qwen3-asr-flash "])
def test_case_does_not_count_in_a_models_name(name: str) -> None:
    """CASES 19."""
    assert load_catalogue().find(name).name == "qwen3-asr-flash"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("whisper-1", "There is no model 'whisper-1'. Ready here: local/base. GET /v1/models"),
        ("qwen3-asr-flsh", "Did you mean `qwen3-asr-flash`? Ready here: local/base."),
        ("base", "Did you mean `local/base`?"),
    ],
)
def test_an_unknown_model_names_the_ready_ones(name: str, words: str) -> None:
    """CASES 19: it was a list of 31 names, most of them off."""
    with pytest.raises(UnknownModel) as caught:
        load_catalogue().find(name, lambda model: model.name == "local/base")
    assert words in caught.value.detail
    assert "filetrans" not in caught.value.detail


def test_every_model_of_dashscope_can_be_called_and_has_a_price() -> None:
    models = [m for m in load_catalogue().models.values() if m.engine == "dashscope"]
    assert len(models) >= 22
    assert all(m.task_model in {"", *(m.name for m in models if m.is_task)} for m in models)
    for model in models:
        assert model.wire, model.name
        assert model.calls_per_minute, model.name
        if model.is_task:
            assert (model.call_seconds, model.word_times) == (43_200, True)
            assert "mp3" in model.file_formats
        else:
            assert base64_size(int(model.part_seconds * 32_000 * FLAC_SHARE)) < MOST_ENCODED_BYTES
        assert model.prices, model.name
        for price in model.prices:
            assert parse_nano(price.amount) > 0
            assert price.region in {"cn-beijing", "ap-southeast-1", "us-east-1"}


def test_the_example_of_the_documents_is_a_catalogue_file(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(EXAMPLE)
    model = load_catalogue(str(file)).find("my/model")
    assert (model.call_seconds, model.prices[0].amount) == (240, "0")
