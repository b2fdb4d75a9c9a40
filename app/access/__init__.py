"""Access to the API: projects, keys, principals."""
