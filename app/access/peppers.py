"""The secrets that key hashes are made with: from the settings, else one file that we make."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr

PEPPER_BYTES = 32
PEPPER_FILE = "pepper"


def load_peppers(configured: Sequence[SecretStr], data_dir: Path) -> list[bytes]:
    """Return the peppers, newest first; new keys are hashed with the first one."""
    if configured:
        return [pepper.get_secret_value().encode() for pepper in configured]
    path = data_dir / PEPPER_FILE
    if not path.exists():
        _make(path)
    return [path.read_bytes()]


def _make(path: Path) -> None:
    """Write a new pepper whole or not at all; of two processes at once, the first one wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{PEPPER_FILE}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_hex(PEPPER_BYTES).encode())
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
