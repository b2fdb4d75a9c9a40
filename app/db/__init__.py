"""SQLite and PostgreSQL behind two verbs: `write(work)` and `read(work)`."""
