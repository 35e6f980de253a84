"""The one form of every answer of `/easy/*`: HTTP 200, and four keys whose types clients rely on.

Codes and words are those of the services that this door replaces, and of their fork that knows a queue (10005).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from starlette.responses import Response

from errors import InputError, LipwrightError, NotFoundError, StateError


class Code(IntEnum):
    """What came of a request."""

    SYSTEM = 9999
    OK = 10000
    BUSY = 10001
    PARAMETER = 10002
    LOCK = 10003
    UNKNOWN = 10004
    RUNNING = 10005


WORDS: Final[Mapping[Code, str]] = {
    Code.SYSTEM: "系统异常",
    Code.OK: "成功",
    Code.BUSY: "忙碌中",
    Code.PARAMETER: "参数异常",
    Code.LOCK: "获取锁异常",
    Code.UNKNOWN: "任务不存在",
    Code.RUNNING: "任务已存在，正在执行中",
}
"""The original's words for its codes."""
_SUCCESS: Final = (Code.OK, Code.BUSY, Code.UNKNOWN)  # `success` of the others is false


def envelope(code: Code, data: Mapping[str, Any] | None = None, msg: str | int | None = None) -> Response:
    """One answer.

    Args:
        code: What came of it.
        data: Its content; an empty object where there is none.
        msg: A text, or the number that the original has in its place; None takes the code's words.
    """
    fields = {"code": int(code), "data": data or {}, "msg": WORDS[code] if msg is None else msg}
    text = json.dumps({**fields, "success": code in _SUCCESS}, sort_keys=True, indent=4, ensure_ascii=False)
    return Response(text, media_type="application/json; charset=utf-8", headers={"Cache-Control": "no-store"})


def envelope_of(error: LipwrightError) -> Response:
    """The answer to a request that `error` ended: 10001 where trying again may help, which clients do for no other.

    10002 names what is wrong with the request, 9999 what is wrong here.
    """
    if error.retryable and not isinstance(error, InputError):
        return envelope(Code.BUSY)
    if isinstance(error, InputError | NotFoundError | StateError):
        return envelope(Code.PARAMETER, msg=str(error))
    return envelope(Code.SYSTEM, msg=f"{WORDS[Code.SYSTEM]}: {error}")
