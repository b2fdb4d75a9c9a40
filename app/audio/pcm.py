"""The form in which all audio is cut and sent: signed 16 bit little endian, 16 kHz, one channel."""

SAMPLE_RATE = 16_000
SAMPLE_BYTES = 2
BYTES_PER_MS = SAMPLE_RATE * SAMPLE_BYTES // 1000
BYTES_PER_SECOND = BYTES_PER_MS * 1000
