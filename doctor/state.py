"""Checks the PostgreSQL database of the job table."""

from __future__ import annotations

from doctor.check_result import CheckResult, ok, problem
from errors import LipwrightError
from storage.state import open_database


def check_state(state: str | None) -> CheckResult:
    """Checks that the job table is reachable; opening it creates or migrates the tables."""
    if state is None:
        return ok("SQLite in the data folder")
    try:
        database = open_database(state)
        (row,) = database.query("SELECT current_database() AS name, current_setting('server_version') AS version")
        database.close()
    except LipwrightError as error:
        fix = "Start the database, or correct `state` in args. The password comes from PGPASSWORD, .pgpass or the URL."
        return problem(str(error), "a PostgreSQL that accepts this user", fix)
    return ok(f"PostgreSQL {row['version']}, database {row['name']}")
