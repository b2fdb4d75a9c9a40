"""docs/adding-an-engine.md: its engine and catalogue rows transcribe, bill and fail as described.

Covers: app.speech.engine, app.speech.catalogue
"""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.billing.tables import ledger_line
from app.main import create_app
from tests.support.gateway import ADDRESS, Gateway, settings_for, speech
from tests.support.markdown import blocks
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

PAGE = "docs/adding-an-engine.md"
NANO_PER_SECOND = 100_000  # of the page's price


def written(folder: Path) -> Any:
    """Write the two files of the page; return the engine's module."""
    texts = {block.language: block.text for block in blocks(PAGE)}
    (folder / "models.toml").write_text(texts["toml"])
    (folder / "toy.py").write_text(texts["python"])
    spec = importlib.util.spec_from_file_location("toy", folder / "toy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def settings(migrated_sqlite: Path, tmp_path: Path) -> Any:
    shutil.copy(migrated_sqlite, tmp_path / "gateway.db")
    return settings_for(
        f"sqlite:///{tmp_path / 'gateway.db'}",
        tmp_path / "data",
        speech={"default_model": "toy/length", "catalogue": str(tmp_path / "models.toml")},
    )


async def test_the_engine_of_the_page_transcribes_and_is_billed(
    settings: Any, tmp_path: Path
) -> None:
    toy = written(tmp_path)
    app = create_app(settings, lambda *_: [toy.ToyEngine()])
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ADDRESS) as client,
    ):
        gateway = Gateway(app, client, ScriptedEngine(), settings)
        response = await gateway.send(speech(3))
        body = response.json()
        assert (response.status_code, body["text"]) == (200, "3 seconds of audio"), body
        assert body["cost"] == {"amount": "0.0003", "currency": "EUR", "nano": 3 * NANO_PER_SECOND}
        lines = await gateway.rows(ledger_line)
        assert [line["kind"] for line in lines] == ["hold", "settle", "release"]
        assert not lines[1]["estimated"]


async def test_its_refusal_is_the_clients_answer(settings: Any, tmp_path: Path) -> None:
    toy = written(tmp_path)

    class Refusing(toy.ToyEngine):  # type: ignore[misc]
        async def transcribe(self, _request: Any, _on_delta: Any = None) -> Any:
            raise toy.EngineError(
                toy.ErrorKind.REJECTED, "no", retryable=False, billed=toy.Billed.NO
            )

    app = create_app(settings, lambda *_: [Refusing()])
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ADDRESS) as client,
    ):
        gateway = Gateway(app, client, ScriptedEngine(), settings)
        response = await gateway.send(speech(3))
        assert (response.status_code, response.json()["code"]) == (422, "engine_refused")
        lines = await gateway.rows(ledger_line)
        assert [line["kind"] for line in lines] == ["hold", "release"]
