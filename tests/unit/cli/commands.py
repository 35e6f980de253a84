"""Runs commands of `lipwright` in this process."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from lipwright.cli.main import app


def run(*arguments: str, **environment: str) -> Result:
    """Run `lipwright ARGUMENTS`; any error but an exit status is raised."""
    done = CliRunner().invoke(app, arguments, env=environment)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def succeed(*arguments: str, **environment: str) -> Result:
    """Run `lipwright ARGUMENTS`, which must succeed."""
    done = run(*arguments, **environment)
    assert done.exit_code == 0, done.output
    return done


def error_line(done: Result) -> str:
    """Return the error that a command ended with, its last line."""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.stderr.rstrip().endswith(line)
    return line
