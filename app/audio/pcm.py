"""The form in which all audio is cut and sent: signed 16 bit little endian, 16 kHz, one channel."""

import hashlib

SAMPLE_RATE = 16_000
SAMPLE_BYTES = 2
BYTES_PER_MS = SAMPLE_RATE * SAMPLE_BYTES // 1000
BYTES_PER_SECOND = BYTES_PER_MS * 1000
# Sample rates that `resample` converts.
RATES = frozenset(
    (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)
)


def sha256_hex(pcm: bytes) -> str:
    """Return the SHA-256 of samples as 64 hex digits. Takes about 1 ms per MB."""
    return hashlib.sha256(pcm).hexdigest()
