"""Output and error handling shared by all commands."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from cli.messages import Invocation, names_of
from errors import LipwrightError
from lipwright_client import ClientError, ConnectionFailedError, Lipwright, RetryPolicy, UnauthorizedError

_invocation: ContextVar[Invocation] = ContextVar("invocation")
_EXIT_FAILED, _EXIT_USAGE, _EXIT_INTERRUPTED = 1, 2, 130


DataDir = Annotated[Path | None, typer.Option(help="Data folder of the service. Default: from the config.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_MAX_SUBMIT_S = 1800.0  # how long to retry while the service is full


def service(url: str) -> Lipwright:
    """Return a client of the service at `url`, to which commands in error messages refer from now on."""
    _invocation.set(replace(_invocation.get(Invocation()), server=url))
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


def commands(**options: Any) -> typer.Typer:
    """Return an empty group of commands, whose errors are printed as `error: code: message`."""
    return typer.Typer(cls=_Commands, no_args_is_help=True, **options)


class _Commands(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            _invocation.set(Invocation(names_of(command.params), tuple(rest)))
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        with _one_line_errors():
            return super().invoke(ctx)


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    def fail(code: str, message: str, hint: str = "", exit_code: int = _EXIT_FAILED) -> NoReturn:
        _fail(code, _invocation.get(Invocation()).worded(" ".join(f"{message} {hint}".split())), exit_code)

    try:
        yield
    except UsageError as error:
        code, message = error.args
        fail(code, message, exit_code=_EXIT_USAGE)
    except ConnectionFailedError as error:
        hint = "`lipwright serve` starts one; --server or LIPWRIGHT_SERVER names another."
        fail(error.code, f"{error.detail}.", hint)
    except UnauthorizedError as error:
        hint = "The command line sends the key in LIPWRIGHT_API_KEY; `lipwright keys add NAME` creates one."
        fail(error.code, error.detail, hint)
    except ClientError as error:
        fail(error.code, error.detail)
    except LipwrightError as error:
        fail(error.code, str(error))
    except ModuleNotFoundError as error:
        message = f"The Python module {error.name} is missing. After an update of Lipwright, run `make setup`."
        _fail("config_invalid", message, _EXIT_FAILED)
    except BrokenPipeError:  # the reader of the output has ended, such as `head`; Typer exits without a message
        raise
    except OSError as error:
        _fail("file_unusable", str(error), _EXIT_FAILED)
    except KeyboardInterrupt:
        _fail("interrupted", "Stopped.", _EXIT_INTERRUPTED)


def _fail(code: str, message: str, exit_code: int) -> NoReturn:
    print(f"error: {code}: {' '.join(message.split())}", file=sys.stderr)
    raise typer.Exit(exit_code)
