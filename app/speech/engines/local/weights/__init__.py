"""Model files by pinned hash, wherever they come from."""
