"""The sources to transcribe: files, folders and links, each with a name of its own."""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.cli.errors import UsageError

_SUFFIXES = (
    "3g2 3gp aac ac3 aif aifc aiff amr asf au avi caf flac flv m4a m4b m4v mka mkv mov mp2 mp3 mp4 "
    "mpeg mpg mts oga ogg ogv opus rm spx ts w64 wav webm wma wmv"
)
SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
REFERENCE_CHARS = 200  # that the API takes
NAME_CHARS = 100  # of one step of a result's name, well within a file system's 255 bytes in UTF-8
NAME_BYTES = 200
MOST_SHOWN = 100  # characters of an argument that is no name of anything
_OTHER_LINK = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\w.,()\[\]{}@+=~ -]")


@dataclass(frozen=True, slots=True)
class Source:
    """`source` is a file's path or a link; `name` is that of its results, without a suffix.

    `shown` is what people know it by, and never holds a link's query.
    """

    source: Path | str
    name: Path
    shown: str

    @property
    def reference(self) -> str:
        """The `reference` of its transcription, so that lists of jobs name files."""
        return self.shown[-REFERENCE_CHARS:].encode(errors="replace").decode()


def sources_of(given: Sequence[str]) -> list[Source]:
    """Return the recordings that arguments name, in their order, each once.

    Folders are searched with all that is below them. Raises WronglyUsed.
    """
    found: dict[str, Source] = {}
    for argument in given:
        for recording in _expanded(argument):
            same = str(recording.source)
            key = same if isinstance(recording.source, str) else os.path.realpath(same)
            found.setdefault(key, recording)
    return _apart(list(found.values()))


def _expanded(argument: str) -> Iterator[Source]:
    if argument.startswith(("http://", "https://")):
        yield _link(argument)
        return
    if _OTHER_LINK.match(argument):
        raise UsageError(f"{argument[:MOST_SHOWN]!r} cannot be fetched: only https:// links are.")
    path = Path(argument)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"There is no file or folder {path}.") from None
    except (OSError, ValueError) as error:  # a name too long, a folder that is closed to us
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{argument[:MOST_SHOWN]!r} cannot be read: {reason}.") from None
    if stat.S_ISDIR(mode):
        yield from _folder(path)
    elif stat.S_ISREG(mode):
        yield Source(path, Path(_safe(path.stem)), str(path))
    else:
        raise UsageError(f"{path} is neither a file nor a folder.")


def _folder(folder: Path) -> Iterator[Source]:
    files = [path for path in _files(folder) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise UsageError(f"The folder {folder} holds no audio or video.")
    for path in files:
        steps = [_safe(step) for step in path.relative_to(folder).with_suffix("").parts]
        yield Source(path, Path(*steps), str(path))


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


def _link(url: str) -> Source:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        raise UsageError("One of the links is no address, such as https://example.org/speech.mp3.")
    last = Path(unquote(parts.path).rpartition("/")[2]).stem
    shown = f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"
    return Source(url, Path(_safe(last or host)), shown)


def _safe(step: str) -> str:
    """Return one step of a path that is nothing else on any file system."""
    cleaned = _UNSAFE.sub("_", step)[:NAME_CHARS].strip(" .")
    return cleaned.encode()[:NAME_BYTES].decode(errors="ignore") or "recording"


def _apart(recordings: list[Source]) -> list[Source]:
    """Give those that would share a name the folders they are in, else a number."""
    alike = Counter(_key(one.name) for one in recordings)
    shared = [one.source for one in recordings if alike[_key(one.name)] > 1]
    paths = [Path(os.path.realpath(source)).parent for source in shared if isinstance(source, Path)]
    common = os.path.commonpath(paths) if paths else ""
    told = [_with_folders(one, common) if alike[_key(one.name)] > 1 else one for one in recordings]
    taken: set[str] = set()
    return [_numbered(one, taken) for one in told]


def _with_folders(one: Source, common: str) -> Source:
    if isinstance(one.source, str):
        return one
    steps = Path(os.path.relpath(os.path.realpath(one.source), common)).parts
    *folders, last = [_safe(step) for step in steps]
    return replace(one, name=Path(*folders, _safe(last)))


def _numbered(one: Source, taken: set[str]) -> Source:
    name, number = one.name, 1
    while _key(name) in taken:
        number += 1
        name = one.name.with_name(f"{one.name.name}-{number}")
    taken.add(_key(name))
    return replace(one, name=name)


def _key(name: Path) -> str:
    return str(name).casefold()  # as a file system that knows no case compares
