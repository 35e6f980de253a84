"""Replies of decoder processes as bytes: JSON of a few known types, validated when read.

A decoder that was taken over by a hostile file can send anything, so replies are never unpickled: unpickling executes
code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lipwright import errors
from lipwright.errors import LipwrightError
from lipwright.media.probe import AudioInfo, VideoInfo

_MAX_CHARS: Final = 2000  # of a message; FFmpeg's last line is one
_STRICT: Final = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")


class InvalidReplyError(Exception):
    """The bytes are not a reply of a known type."""


class UnexpectedDecoderError(Exception):
    """A decoder raised an error that says nothing about its file; its log has the traceback."""


@dataclass(frozen=True)
class ProcessExit:
    """The last message on a decoder's channel, from the fork server; a signal that killed it counts negative."""

    exit_code: int
    cpu_seconds: float


@dataclass(frozen=True)
class ErrorReply:
    """An error to be raised in the asking process: its class, by name (see `_ERRORS`), and its arguments."""

    kind: str
    args: tuple[str | int | float | bool | None, ...]

    @classmethod
    def of(cls, error: Exception) -> ErrorReply:
        """Return the reply for `error`."""
        if isinstance(error, OSError) and not isinstance(error, LipwrightError):
            return cls("OSError", (error.errno, error.strerror))
        plain = (arg if arg is None or isinstance(arg, int | float) else str(arg)[:_MAX_CHARS] for arg in error.args)
        if type(error).__name__ in _ERRORS:
            return cls(type(error).__name__, tuple(plain))
        return cls(type(error).__name__, (str(error)[:_MAX_CHARS],))

    @property
    def error(self) -> Exception:
        """The error, reconstructed."""
        if (known := _ERRORS.get(self.kind)) is not None:
            return known(*self.args)
        return UnexpectedDecoderError(f"{self.kind}: {self.args[0] if self.args else ''}")


@dataclass(frozen=True)
class FrameBatch:
    """Result of a frame request; the frames are in the memory file that came with it. `failed` ended it early."""

    num_frames: int
    failed: ErrorReply | None = None


_ERRORS: Final[dict[str, type[Exception]]] = {
    "OSError": OSError,
    "ValueError": ValueError,
    **{
        name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, LipwrightError)
    },
}
_KINDS: Final[dict[str, tuple[type, TypeAdapter[Any]]]] = {
    kind.__name__: (kind, TypeAdapter(kind, config=None if hasattr(kind, "__dataclass_fields__") else _STRICT))
    for kind in (FrameBatch, ErrorReply, ProcessExit, VideoInfo, AudioInfo, bool, int, str, bytes)
}
_NOTHING: Final = b"None"


def encode(value: object) -> bytes:
    """Return the bytes of a reply, which may be None; TypeError for a value of no known type."""
    if value is None:
        return _NOTHING
    name = type(value).__name__
    if name not in _KINDS or _KINDS[name][0] is not type(value):
        raise TypeError(f"Expected a reply of a known type, got {type(value)}.")
    return name.encode() + b" " + _KINDS[name][1].dump_json(value)


def decode(data: bytes) -> object:
    """Return the value of a reply; InvalidReplyError if the bytes are not one."""
    if data == _NOTHING:
        return None
    name, _, text = data.partition(b" ")
    try:
        return _KINDS[name.decode()][1].validate_json(text, strict=True)
    except (KeyError, UnicodeDecodeError, ValidationError) as error:
        raise InvalidReplyError(f"expected a reply of a known type, found {name[:40]!r}") from error
