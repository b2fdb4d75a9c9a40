"""The output folder of transcripts: text and JSON side by side, each file written atomically."""

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli.errors import UsageError

MOST_NUMBERED = 10_000
SUFFIXES = {"text": "txt"}  # the others are called like their form


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """A folder of results; `keep` is for one caller at a time, or two could take one name."""

    folder: Path

    def prepare(self) -> None:
        """Create the folder and test that it is writable, before any call. Raises WronglyUsed."""
        trial = self.folder / f".trial-{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            trial.write_bytes(b"")
            trial.unlink()
        except OSError as error:
            raise UsageError(
                f"Nothing can be written to the output folder {self.folder}: {error.strerror}."
            ) from error

    def keep(self, name: Path, body: Mapping[str, Any], rendered: Mapping[str, str]) -> Path:
        """Write a transcription in several formats; return the path without its suffix.

        Existing files of the same recording are replaced. For another recording of the same name,
        a number is added to the name. Raises OSError.
        """
        words_of = {SUFFIXES.get(form, form): words for form, words in rendered.items()}
        place = self._place(self.folder / name, body, words_of)
        place.parent.mkdir(parents=True, exist_ok=True)
        # The JSON first: a later run recognises its own results by it.
        _write(_with(place, "json"), json.dumps(body, ensure_ascii=False, indent=2) + "\n")
        for suffix, words in words_of.items():
            _write(_with(place, suffix), words)
        return place

    def _place(self, wished: Path, body: Mapping[str, Any], suffixes: Iterable[str]) -> Path:
        for number in range(1, MOST_NUMBERED):
            place = wished if number == 1 else wished.with_name(f"{wished.name}-{number}")
            if _is_free(place, body, suffixes):
                return place
        raise FileExistsError(f"{wished} and {MOST_NUMBERED} names like it are taken")


def _with(place: Path, suffix: str) -> Path:
    return place.with_name(f"{place.name}.{suffix}")


def _is_free(place: Path, body: Mapping[str, Any], suffixes: Iterable[str]) -> bool:
    try:
        there = json.loads(_with(place, "json").read_bytes())
    except FileNotFoundError:
        # Without it the existing file is the user's own, such as subtitles corrected by hand.
        return not any(os.path.lexists(_with(place, suffix)) for suffix in suffixes)
    except ValueError:
        return False
    return isinstance(there, dict) and _identity(there) == _identity(body)


def _identity(body: Mapping[str, Any]) -> tuple[object, object]:
    return body.get("reference"), (body.get("audio") or {}).get("bytes")


def _write(file: Path, words: str) -> None:
    part = file.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as opened:
            opened.write(words if words.endswith("\n") else f"{words}\n")
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
