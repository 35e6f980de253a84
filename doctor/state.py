"""The PostgreSQL of the job table."""

from __future__ import annotations

from doctor.check_result import CheckResult, ok, problem
from errors import LipwrightError
from storage.state import open_database


def check_state(state: str | None) -> CheckResult:
    """The job table can be reached, where it is elsewhere; a look at it makes or updates the tables."""
    name = "Job table"
    if state is None:
        return ok(name, "SQLite, in the data folder")
    try:
        database = open_database(state)
        (row,) = database.query("SELECT current_database() AS name, current_setting('server_version') AS version")
        database.close()
    except LipwrightError as error:
        fix = "Start the database, or correct args: state; a password comes from PGPASSWORD, .pgpass or the URL."
        return problem(name, str(error), "a PostgreSQL that lets this user in", fix)
    return ok(name, f"PostgreSQL {row['version']}, database {row['name']}")
