"""The output folder of transcripts: text and JSON side by side, each file written atomically."""

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli.errors import UsageError

MAX_NUMBER = 10_000
SUFFIXES = {"text": "txt"}  # the other formats are suffixes themselves


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """A folder of results. `save` is for one caller at a time, or two could use the same name."""

    folder: Path

    def prepare(self) -> None:
        """Create the folder and test that it is writable, before any call. Raises UsageError."""
        trial = self.folder / f".trial-{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            trial.write_bytes(b"")
            trial.unlink()
        except OSError as error:
            raise UsageError(
                f"Nothing can be written to the output folder {self.folder}: {error.strerror}. "
                "Choose another one with --output-dir."
            ) from error

    def save(self, name: Path, body: Mapping[str, Any], rendered: Mapping[str, str]) -> Path:
        """Write a transcription in several formats; return the path without its suffix.

        Existing files of the same recording are replaced. For another recording of the same name,
        a number is added to the name. Raises OSError.
        """
        texts = {SUFFIXES.get(form, form): text for form, text in rendered.items()}
        base = self.folder / name
        names = (base.name, *(f"{base.name}-{number}" for number in range(2, MAX_NUMBER)))
        paths = map(base.with_name, names)
        path = next((path for path in paths if _is_free(path, body, texts)), None)
        if path is None:
            raise FileExistsError(f"{base} and {MAX_NUMBER} names like it are in use")
        path.parent.mkdir(parents=True, exist_ok=True)
        # The JSON first: a later run recognises its own results by it.
        _write_file(_with(path, "json"), json.dumps(body, ensure_ascii=False, indent=2) + "\n")
        for suffix, text in texts.items():
            _write_file(_with(path, suffix), text)
        return path


def _with(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _is_free(path: Path, body: Mapping[str, Any], suffixes: Iterable[str]) -> bool:
    """Tell whether no file of another recording has this name."""
    try:
        there = json.loads(_with(path, "json").read_bytes())
    except FileNotFoundError:
        # Without it the existing file is the user's own, such as subtitles corrected by hand.
        return not any(os.path.lexists(_with(path, suffix)) for suffix in suffixes)
    except ValueError:
        return False
    return isinstance(there, dict) and _identity(there) == _identity(body)


def _identity(body: Mapping[str, Any]) -> tuple[object, object]:
    return body.get("reference"), (body.get("audio") or {}).get("bytes")


def _write_file(file: Path, text: str) -> None:
    part = file.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as opened:
            opened.write(text if text.endswith("\n") else f"{text}\n")
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
