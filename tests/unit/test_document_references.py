"""Files, modules, definitions and settings that the documents name must exist."""

import re
from functools import cache
from pathlib import Path

import pytest
from typer import Context
from typer.main import get_command

from app.cli.main import LazyGroup, app
from tests.support.env_example import names
from tests.support.markdown import ROOT, all_documents, settings

# docs/adding-an-engine.md creates this file; docs/failover.md defines an account named intl.
CREATED_BY_READERS = {"app/speech/engines/toy/engine.py"}
ACCOUNT_OF_READERS = "GATEWAY_DASHSCOPE__ACCOUNTS__INTL__"
FILES = {str(path.relative_to(ROOT)) for path in ROOT.glob("[atbdm]*/**/*.*")}

_PATH = re.compile(r"(?<![\w/.~-])(?:app|tests|bench|docs|migrations)/[\w./*-]*[\w*]")
_SHORT_PATH = re.compile(r"`((?:\w+/)*\w+\.py)\b")
_MODULE = re.compile(r"(?<![\w/.-])(?:app|tests|bench)(?:\.[a-z_]+)+\b(?!\.py)")
_DEFINITION = re.compile(r"`([\w/]+\.py): (\w+)`")
_IDENTIFIER = re.compile(r"`([a-z]+(?:_[a-z0-9]+)+)`")
_COMMAND = re.compile(r"(?<!lib/)\basr-gateway ([a-z]+)\b")
SOURCES = ("app/**/*.py", "app/**/*.toml", "tests/**/*.py", "bench/*.py", "migrations/**/*.py")


def exists(path: str) -> bool:
    """Tell whether a file or folder exists; `docs/decisions/0001` is short for its page."""
    is_decision = path.startswith("docs/decisions/")
    return any(ROOT.glob(f"{path}*" if is_decision else path)) or path in CREATED_BY_READERS


def is_module(dotted: str) -> bool:
    path = dotted.replace(".", "/")
    return exists(f"{path}.py") or exists(path)


@cache
def identifiers() -> frozenset[str]:
    """Return all words of the code: functions, columns, codes, options, JSON members."""
    files = (path for pattern in SOURCES for path in ROOT.glob(pattern))
    here = Path(__file__)
    return frozenset(
        word
        for path in files
        if path != here
        for word in re.findall(r"[A-Za-z_]\w*", path.read_text(errors="replace"))
    )


def unknown_names(document: str) -> set[str]:
    text = (ROOT / document).read_text()
    paths = {path for path in _PATH.findall(text) if not exists(path)}
    short = {
        path
        for path in _SHORT_PATH.findall(text)
        if path not in CREATED_BY_READERS
        and not any(name == path or name.endswith(f"/{path}") for name in FILES)
    }
    modules = {dotted for dotted in _MODULE.findall(text) if not is_module(dotted)}
    definitions = {
        f"{path}: {name}"
        for path, name in _DEFINITION.findall(text)
        if exists(path) and not defines(ROOT / path, name)
    }
    unknown = {name for name in settings(document) - set(names()) if ACCOUNT_OF_READERS not in name}
    return paths | short | modules | definitions | unknown


def defines(path: Path, name: str) -> bool:
    definition = rf"^\s*(?:async def|def|class) {name}\b|^{name}\b.*="
    return bool(re.search(definition, path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", all_documents())
def test_identifiers_in_a_document_occur_in_the_code(document: str) -> None:
    """Columns, options, codes, members of answers, functions."""
    text = (ROOT / document).read_text()
    assert set(_IDENTIFIER.findall(text)) - identifiers() == set()


@pytest.mark.parametrize("document", all_documents())
def test_commands_in_a_document_exist(document: str) -> None:
    group = get_command(app)
    assert isinstance(group, LazyGroup)
    known = set(group.list_commands(Context(group)))
    assert set(_COMMAND.findall((ROOT / document).read_text())) - known == set()


@pytest.mark.parametrize("document", all_documents())
def test_names_in_a_document_exist(document: str) -> None:
    assert unknown_names(document) == set()


def test_documents_name_files_modules_and_definitions() -> None:
    """The patterns find names, so that the test above compares something."""
    text = "\n".join((ROOT / document).read_text() for document in all_documents())
    assert len(_PATH.findall(text)) > 100
    assert len(_MODULE.findall(text)) > 5
    assert len(_DEFINITION.findall(text)) > 3
