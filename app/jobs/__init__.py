"""The life of one transcription; the only domain that knows the others."""
