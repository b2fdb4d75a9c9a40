"""Reads the documents: fenced blocks, links, names of settings."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCED = re.compile(r"^```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_SETTING = re.compile(r"\bGATEWAY_[A-Z0-9_]*[A-Z0-9]\b")


@dataclass(frozen=True)
class Block:
    """A fenced block. `line` is the line number of its first line."""

    document: str
    line: int
    language: str
    text: str


def documents() -> list[str]:
    """Return the names of all pages for users, relative to the repository."""
    pages = sorted(page for page in (ROOT / "docs").glob("*.md"))
    return ["README.md", *(str(page.relative_to(ROOT)) for page in pages)]


def all_documents() -> list[str]:
    """Return the names of all pages of the repository, also those for developers."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench" / "README.md"]
    return sorted(str(page.relative_to(ROOT)) for page in pages)


def blocks(document: str) -> list[Block]:
    text = (ROOT / document).read_text()
    return [
        Block(document, text.count("\n", 0, found.start(2)) + 1, found[1], found[2])
        for found in _FENCED.finditer(text)
    ]


def links(document: str) -> list[str]:
    """Return links into the repository, as they are written."""
    return _LINK.findall((ROOT / document).read_text())


def settings(document: str) -> set[str]:
    return set(_SETTING.findall((ROOT / document).read_text()))
