"""The life of one transcription, from accepted to settled; the only domain that knows the others."""
