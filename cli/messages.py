"""Words the service's errors for the command line: options instead of fields, commands instead of routes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Protocol

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
_OTHER_NAMES: Final = (("background_gain_db", "--ambience-gain"), ("speakers", "--face"))
"""Further names of such options, in single commands."""
_OF_A_FOLDER: Final[Mapping[str, Sequence[str]]] = {
    "keys": ("--data-dir", "--state"),
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
        others = {name: option for name, option in (*OPTION_NAMES.items(), *_OTHER_NAMES) if option in own}
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
