"""Who may call: projects, keys, principals."""
