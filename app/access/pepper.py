"""The secrets for key hashes: from the settings, else from one file that is created."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr

from app.kit.secrets import load_or_create_secret

PEPPER_FILE = "pepper"


def load_peppers(configured: Sequence[SecretStr], data_dir: Path) -> list[bytes]:
    """Return the peppers, newest first; new keys are hashed with the first one."""
    if configured:
        return [pepper.get_secret_value().encode() for pepper in configured]
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [load_or_create_secret(data_dir / PEPPER_FILE).encode()]
