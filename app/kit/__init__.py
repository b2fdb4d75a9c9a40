"""Small parts that know nothing of transcription."""
