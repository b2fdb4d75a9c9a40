"""Model files with pinned hashes."""
