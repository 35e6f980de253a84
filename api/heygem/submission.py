"""What `/easy/submit` is sent: JSON under any content type, with more fields than are known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from errors import InputError
from storage.records import LoopMode

MAX_BODY_BYTES: Final = 65536
"""Of one submission; those of the known clients have less than 1 KiB."""
_MAX_CODE_BYTES: Final = 180  # with `-r.mp4` and a prefix it is a file name (255 bytes) and an idempotency key (200)
_MAX_INPUT_CHARS: Final = 4096


@dataclass(frozen=True)
class EasySubmission:
    """One task.

    Attributes:
        audio: The speech: a URL or a path.
        video: The face: a URL or a path.
        code: The client's name of the task.
        loop: How a source that is shorter than the speech goes on: `pn` 1 is there and back, 0 from the start again.
        sharpens: `chaofen`: the faces shall be restored.
        marks_bottom: `watermark_switch`: a visible mark in the lower right corner.
        marks_top: `digital_auth`: one in the upper right corner, where the original puts its sign of a digital human.
    """

    audio: str
    video: str
    code: str
    loop: LoopMode
    sharpens: bool
    marks_bottom: bool
    marks_top: bool

    @classmethod
    def of(cls, body: bytes) -> EasySubmission:
        """Read a request's body.

        Raises:
            InputError: It is no JSON object, or a field is missing; in the original's words and order.
        """
        fields = _fields(body)
        audio, video = (_text(fields, name, _MAX_INPUT_CHARS) for name in ("audio_url", "video_url"))
        return cls(
            audio=audio,
            video=video,
            code=cls.code_of(body),
            loop="pingpong" if _is_on(fields, "pn", default=True) else "loop",
            sharpens=_is_on(fields, "chaofen"),
            marks_bottom=_is_on(fields, "watermark_switch"),
            marks_top=_is_on(fields, "digital_auth"),
        )

    @staticmethod
    def code_of(body: bytes) -> str:
        """Read the task's name alone.

        Raises:
            InputError: The body is no JSON object, or there is no such name in it.
        """
        return checked_code(_text(_fields(body), "code", _MAX_INPUT_CHARS))


def checked_code(code: str) -> str:
    """The code of a task, which is part of a file's name.

    Raises:
        InputError: It cannot be that.
    """
    if "/" in code or "\\" in code or not code.isprintable() or len(code.encode()) > _MAX_CODE_BYTES:
        raise InputError(
            f"code参数异常: expected at most {_MAX_CODE_BYTES} bytes without slashes and control characters, "
            f"found {code[:80]!r}."
        )
    return code


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise InputError("参数异常: expected a JSON object, got something else.") from None
    if not isinstance(fields, dict):
        raise InputError("参数异常: expected a JSON object, got another value.")
    return fields


def _text(fields: dict[str, Any], name: str, max_chars: int) -> str:
    value = fields.get(name)
    if value is None or value == "":
        raise InputError(f"{name}参数缺失")
    if not isinstance(value, str | int) or isinstance(value, bool) or len(str(value)) > max_chars:
        raise InputError(f"{name}参数异常: expected text of at most {max_chars} characters.")
    return str(value).encode("utf-8", "replace").decode()  # half a surrogate pair names no file and cannot be shown


def _is_on(fields: dict[str, Any], name: str, default: bool = False) -> bool:
    value = fields.get(name, "")
    return default if value in ("", None) else str(value) == "1"
