"""Small modules that do not depend on transcription."""
