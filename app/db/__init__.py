"""SQLite and PostgreSQL behind two methods: `write(work)` and `read(work)`."""
