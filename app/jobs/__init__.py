"""Transcription jobs. The only domain that depends on the other domains."""
