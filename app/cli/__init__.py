"""The gateway from a terminal."""
