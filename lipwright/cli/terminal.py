"""Output and error handling shared by all commands. Errors name options and commands instead of fields and routes."""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, NoReturn, Protocol

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from lipwright.errors import LipwrightError
from lipwright_client import ClientError, ConnectionFailedError, Lipwright, RetryPolicy, UnauthorizedError

_COMMANDS: Final = (
    (r"Send it with POST /v1/backgrounds", "Pass the file with --background"),
    (r"GET /v1/avatars/(\w+)/people returns status 200", r"`lipwright avatars people \1` lists them"),
    (r"GET /v1/avatars/(\w+)/people", r"`lipwright avatars people \1`"),
    (r"GET /v1/avatars/\{id\}/people", "`lipwright avatars people ID`"),
    (r"GET /v1/engines", "`lipwright models list`"),
    (r"PATCH /v1/avatars/(\w+)", r"`lipwright avatars update \1`"),
    (r"POST /v1/avatars", "`lipwright avatars add FILE`"),
    (r"GET /v1/jobs/(\w+)", r"`lipwright jobs show \1`"),
    (r"GET /v1/voices", "`lipwright voices list`"),
)
"""Routes in messages, and the commands that do the same."""
OPTION_NAMES: Final[Mapping[str, str]] = {
    "background_file": "--background",
    "background_gain_db": "--background-gain",
    "loudness_lufs": "--loudness",
    "music_gain_db": "--music-gain",
    "idle_mouths": "--closed-mouths",
    "subtitles_output": "--show",
    "translate_to": "--language",
}
"""Fields of the API whose options have other names."""
_OTHER_NAMES: Final = (("background_gain_db", "--ambience-gain"), ("speakers", "--face, --voice"))
"""Further names of such options, in single commands that have them all."""
_OF_A_FOLDER: Final[Mapping[str, Sequence[str]]] = {
    "keys": ("--data-dir", "--config", "--state"),
    "models": ("--data-dir", "--config"),
    "serve": ("--data-dir", "--config"),
}
"""Commands that use no running service, and the options that choose what they work on."""


def with_commands(text: str) -> str:
    """Return a text with commands in place of routes."""
    for route, command in _COMMANDS:
        text = re.sub(rf"`?{route}`?", command, text)
    return text


class Parameter(Protocol):
    """An option or argument of a command, of Click or of Typer's copy of it."""

    @property
    def name(self) -> str | None:
        """Name of the function's parameter."""

    @property
    def opts(self) -> Sequence[str]:
        """Names on the command line."""


def names_of(parameters: Sequence[Parameter]) -> dict[str, str]:
    """Return the names of a command's options and arguments, by their parameters."""
    return {
        each.name: each.opts[0] if each.opts[0].startswith("--") else each.name.upper()
        for each in parameters
        if each.name is not None
    }


@dataclass(frozen=True)
class Invocation:
    """A command as it was called.

    Attributes:
        options: The names of its options and arguments, by their parameters.
        arguments: Its arguments.
        server: URL of the service that it talks to; empty if there is none.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    server: str = ""

    def worded(self, message: str) -> str:
        """Return an error message in the words of the command line, with commands that work as they stand."""
        message = with_commands(message)
        if "--subtitles" in self.options.values():  # of which each cue becomes a turn
            message = re.sub(r"turns\[(\d+)\](?:\.\w+)?", lambda match: f"cue {int(match[1]) + 1}", message)
        message = self._with_option_names(message)
        return re.sub(r"`lipwright (\w+)[^`]*(?=`)", lambda match: match[0] + self._options(match[1]), message)

    def _with_option_names(self, message: str) -> str:
        own = set(self.options.values())
        others = {
            name: option
            for name, option in (*OPTION_NAMES.items(), *_OTHER_NAMES)
            if own.issuperset(option.split(", "))
        }
        named = {**others, **self.options}
        listed = re.match(r"\w+ needs .*?\.", message)
        end = listed.end() if listed else 0
        start = re.sub(r"\w+", lambda match: named.get(match[0], match[0]), message[:end])
        rest = re.sub(
            r"(?:(?<=^)|(?<=; ))\w+(?=: )|\w+_\w+", lambda match: named.get(match[0], match[0]), message[end:]
        )
        return re.sub(r"(--[\w-]+), \1\b(?!-)", r"\1", start) + rest

    def _options(self, command: str) -> str:
        """Return the options with which another command works on the same service or folder."""
        if command not in _OF_A_FOLDER:
            return f" --server {self.server}" if self.server else ""
        return "".join(f" {name} {shlex.quote(value)}" for name, value in self._values_of(_OF_A_FOLDER[command]))

    def _values_of(self, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        for argument, following in pairwise((*self.arguments, "")):
            name, separator, value = argument.partition("=")
            if name in names:
                yield name, value if separator else following


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


class CommandError(Exception):
    """A command has failed. Arguments: code, message."""


class UsageError(CommandError):
    """Invalid use of a command: nothing was done."""


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
    except CommandError as error:
        code, message = error.args
        fail(code, message, exit_code=_EXIT_USAGE if isinstance(error, UsageError) else _EXIT_FAILED)
    except ConnectionFailedError as error:
        hint = "`lipwright serve` starts one; --server or LIPWRIGHT_SERVER names another."
        fail(error.code, f"{error.detail.rstrip('.')}.", "See `lipwright jobs list`." if error.is_timeout else hint)
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
