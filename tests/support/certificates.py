"""Certificates for TLS servers on loopback."""

import subprocess
from pathlib import Path

import pytest


def make_certificate(folder: Path, *names: str, addresses: tuple[str, ...] = ()) -> Path:
    """Return a file with a self-signed certificate and its key."""
    file = folder / f"{names[0]}.pem"
    made = file.with_suffix(".made")
    alternatives = [*(f"DNS:{name}" for name in names), *(f"IP:{one}" for one in addresses)]
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={names[0]}"]
    extension = ["-addext", f"subjectAltName={','.join(alternatives)}"]
    try:
        subprocess.run(
            ["openssl", "req", *options, *extension, "-keyout", file, "-out", made],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    file.write_bytes(file.read_bytes() + made.read_bytes())
    return file
