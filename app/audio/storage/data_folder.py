"""Checks of the data folder, before the start and by `asr-gateway doctor`."""

import os
import tempfile
from pathlib import Path

_OTHERS_MAY_WRITE = 0o002


def existing_folder(folder: Path) -> Path:
    """Return the folder, or its nearest existing parent: a check creates no folder."""
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())


def write_problem(folder: Path) -> tuple[Path, str] | None:
    """Return the place in which nothing can be written, and the reason; None if all is well.

    The place is the folder, or its nearest existing parent.
    """
    try:
        place = existing_folder(folder)
    except OSError as error:  # a parent is closed to this user
        return folder, f"cannot be read by user {os.getuid()} ({error.strerror})"
    try:
        with tempfile.TemporaryFile(dir=place, prefix="check-") as trial:
            trial.write(b"ready")
    except OSError as error:
        return place, f"cannot be written to by user {os.getuid()} ({error.strerror})"
    return None


def is_open_to_all(folder: Path) -> bool:
    """Tell whether every user of this machine may write to an existing folder."""
    return folder.is_dir() and bool(folder.stat().st_mode & _OTHERS_MAY_WRITE)


def data_folder_problem(data_dir: Path) -> tuple[str, str] | None:
    """Return why nothing can be written to the data folder, and the remedy. Blocks."""
    audio = data_dir / "audio"
    for folder in (data_dir, audio, audio / "incoming", audio / "blobs"):
        if problem := write_problem(folder):
            place, reason = problem
            remedy = (
                f"Make it writable for that user (chown -R {os.getuid()} {place}), or set "
                "GATEWAY_DATA_DIR to another folder."
            )
            return f"{place} {reason}", remedy
    return None
