"""How commands end: every way in which one can fail as one line and an exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated

import httpx
import typer
from rich.console import Console

from cli.client import ClientError
from errors import LipwrightError

_EXIT_FAILED, _EXIT_USAGE, _EXIT_INTERRUPTED = 1, 2, 130


DEFAULT_SERVER = "http://127.0.0.1:8000"
Server = Annotated[str, typer.Option(envvar="LIPWRIGHT_SERVER", help="Base URL of the service.")]
"""Option of commands that talk to a running service."""


class UsageError(Exception):
    """The command was called in a way that cannot work. Arguments: code, message."""


def console() -> Console:
    """The standard output; lines do not break where nobody reads along."""
    return Console(width=None if sys.stdout.isatty() else 160)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Every way in which a command can fail, as `error: code: message` and an exit code."""
    try:
        yield
    except UsageError as error:
        code, message = error.args
        _fail(code, message, _EXIT_USAGE)
    except ClientError as error:
        _fail(error.code, error.message, _EXIT_FAILED)
    except LipwrightError as error:
        _fail(error.code, str(error), _EXIT_FAILED)
    except httpx.HTTPError as error:
        _fail("connection_failed", f"The service cannot be reached: {error}", _EXIT_FAILED)
    except OSError as error:
        _fail("file_unusable", str(error), _EXIT_FAILED)
    except KeyboardInterrupt:
        _fail("interrupted", "Stopped.", _EXIT_INTERRUPTED)


def _fail(code: str, message: str, exit_code: int) -> None:
    print(f"error: {code}: {' '.join(message.split())}", file=sys.stderr)
    raise typer.Exit(exit_code)
