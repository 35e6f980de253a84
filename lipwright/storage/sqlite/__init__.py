"""The job table in SQLite."""
