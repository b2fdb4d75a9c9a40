"""asr-gateway: a self-hosted REST transcription gateway."""

__version__ = "0.1.0"
