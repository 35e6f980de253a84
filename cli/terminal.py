"""Output and error handling shared by all commands."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from errors import LipwrightError
from lipwright_client import ClientError, Lipwright, RetryPolicy

_EXIT_FAILED, _EXIT_USAGE, _EXIT_INTERRUPTED = 1, 2, 130


DEFAULT_SERVER = "http://127.0.0.1:8000"
SERVER_VARIABLES = ["LIPWRIGHT_URL", "LIPWRIGHT_SERVER"]
Server = Annotated[str, typer.Option(envvar=SERVER_VARIABLES, help="Base URL of the service.")]
"""Option of commands that need a running service."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_MAX_SUBMIT_S = 1800.0  # how long to retry while the service is full


def service(url: str) -> Lipwright:
    """Return a client of the service at `url`."""
    return Lipwright(url, retry=RetryPolicy(max_backpressure_wait_s=_MAX_SUBMIT_S))


def timestamp(time: datetime) -> str:
    """Format a date and time with its time zone."""
    return time.isoformat(" ", "seconds")


def name(text: str) -> Text:
    """Return an untrusted file name as one line without control characters."""
    return Text("".join(each if each.isprintable() else " " for each in text))


class UsageError(Exception):
    """Invalid use of a command. Arguments: code, message."""


def console() -> Console:
    """Return the standard output; uses a fixed width if it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else 160)


def interrupt_on_sigterm() -> None:
    """Handle SIGTERM like Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Print errors as `error: code: message` and set the exit code."""
    try:
        yield
    except UsageError as error:
        code, message = error.args
        _fail(code, message, _EXIT_USAGE)
    except ClientError as error:
        _fail(error.code, error.detail, _EXIT_FAILED)
    except LipwrightError as error:
        _fail(error.code, str(error), _EXIT_FAILED)
    except OSError as error:
        _fail("file_unusable", str(error), _EXIT_FAILED)
    except KeyboardInterrupt:
        _fail("interrupted", "Stopped.", _EXIT_INTERRUPTED)


def _fail(code: str, message: str, exit_code: int) -> None:
    print(f"error: {code}: {' '.join(message.split())}", file=sys.stderr)
    raise typer.Exit(exit_code)
