"""SQLite through aiosqlite: a thread for each connection."""
