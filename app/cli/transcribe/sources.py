"""The recordings to transcribe: files, folders and URLs, each with a unique name."""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from app.cli.errors import UsageError

_SUFFIXES = (
    "3g2 3gp aac ac3 aif aifc aiff amr asf au avi caf flac flv m4a m4b m4v mka mkv mov mp2 mp3 mp4 "
    "mpeg mpg mts oga ogg ogv opus rm spx ts w64 wav webm wma wmv"
)
SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
REFERENCE_CHARS = 200  # limit of the API
NAME_CHARS = 100  # of one step of a result's name, well within a file system's 255 bytes in UTF-8
NAME_BYTES = 200
SHOWN_CHARS = 100  # of an argument that is not a name of a file
_OTHER_LINK = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\w.,()\[\]{}@+=~ -]")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording to send: `source` is a path or a URL, `name` the name of its results.

    `name` has no suffix. `shown` is its name in messages, without the query of a URL.
    """

    source: Path | str
    name: Path
    shown: str

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Return the recording at a URL. Raises UsageError if the URL is not valid."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host:
            raise UsageError(
                "One of the URLs is not valid. A valid one is https://example.org/speech.mp3."
            )
        last = Path(unquote(parts.path).rpartition("/")[2]).stem
        shown = f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"
        return cls(url, Path(_safe(last or host)), shown)

    @property
    def reference(self) -> str:
        """The `reference` of its transcription, so that lists of jobs name files."""
        return self.shown[-REFERENCE_CHARS:].encode(errors="replace").decode()


def recordings_of(given: Sequence[str]) -> list[Recording]:
    """Return the recordings that arguments name, in their order, without duplicates.

    Folders are searched recursively. Raises UsageError.
    """
    found: dict[str, Recording] = {}
    for argument in given:
        for recording in _expanded(argument):
            same = str(recording.source)
            key = same if isinstance(recording.source, str) else os.path.realpath(same)
            found.setdefault(key, recording)
    return _with_unique_names(list(found.values()))


def _expanded(argument: str) -> Iterator[Recording]:
    if argument.startswith(("http://", "https://")):
        yield Recording.from_url(argument)
        return
    if _OTHER_LINK.match(argument):
        raise UsageError(f"{argument[:SHOWN_CHARS]!r} cannot be fetched; only https:// URLs can.")
    path = Path(argument)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"There is no file or folder {path}.") from None
    except (OSError, ValueError) as error:  # a name too long, a folder that is closed to us
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{argument[:SHOWN_CHARS]!r} cannot be read: {reason}.") from None
    if stat.S_ISDIR(mode):
        files = [file for file in _files(path) if file.suffix.lower() in SUFFIXES]
        if not files:
            raise UsageError(f"The folder {path} holds no audio or video.")
        for file in files:
            steps = [_safe(step) for step in file.relative_to(path).with_suffix("").parts]
            yield Recording(file, Path(*steps), str(file))
    elif stat.S_ISREG(mode):
        yield Recording(path, Path(_safe(path.stem)), str(path))
    else:
        raise UsageError(f"{path} is neither a file nor a folder.")


def _files(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UsageError(f"The folder {error.filename} cannot be read: {error.strerror}.")

    for here, below, names in os.walk(folder, onerror=refuse):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            path = Path(here, name)
            try:
                is_recording = not name.startswith(".") and path.is_file()  # ._speech.mp3 of macOS
            except OSError as error:
                refuse(error)
            else:
                if is_recording:
                    yield path


def _safe(step: str) -> str:
    """Return a step of a path as a name that every file system accepts as a single step."""
    cleaned = _UNSAFE.sub("_", step)[:NAME_CHARS].strip(" .")
    return cleaned.encode()[:NAME_BYTES].decode(errors="ignore") or "recording"


def _with_unique_names(recordings: list[Recording]) -> list[Recording]:
    """Add folders to names that several recordings share, and numbers where that is not enough."""
    counts = Counter(_folded(one.name) for one in recordings)
    shared = [one.source for one in recordings if counts[_folded(one.name)] > 1]
    paths = [Path(os.path.realpath(source)).parent for source in shared if isinstance(source, Path)]
    common = os.path.commonpath(paths) if paths else ""
    named, taken = [], set[str]()
    for one in recordings:
        base = one.name
        if counts[_folded(base)] > 1 and isinstance(one.source, Path):
            steps = Path(os.path.relpath(os.path.realpath(one.source), common)).parts
            base = Path(*map(_safe, steps))
        name, number = base, 1
        while _folded(name) in taken:
            number += 1
            name = base.with_name(f"{base.name}-{number}")
        taken.add(_folded(name))
        named.append(replace(one, name=name))
    return named


def _folded(name: Path) -> str:
    return str(name).casefold()  # as a case-insensitive file system compares
