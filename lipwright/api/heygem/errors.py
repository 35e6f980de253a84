"""Response envelope of `/easy/*`: always HTTP 200, with four fields whose types clients rely on.

Codes and messages are those of HeyGem, and of a fork with a queue (10005).
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from enum import IntEnum
from typing import Any, Final, ParamSpec

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from lipwright.errors import InputError, LipwrightError, NotFoundError, StateError

logger = logging.getLogger(__name__)

_P = ParamSpec("_P")


class Code(IntEnum):
    """Result codes."""

    SYSTEM = 9999
    OK = 10000
    BUSY = 10001
    PARAMETER = 10002
    LOCK = 10003
    UNKNOWN = 10004
    RUNNING = 10005


MESSAGES: Final[Mapping[Code, str]] = {
    Code.SYSTEM: "系统异常",
    Code.OK: "成功",
    Code.BUSY: "忙碌中",
    Code.PARAMETER: "参数异常",
    Code.LOCK: "获取锁异常",
    Code.UNKNOWN: "任务不存在",
    Code.RUNNING: "任务已存在，正在执行中",
}
"""The original's messages."""
_SUCCESS: Final = (Code.OK, Code.BUSY, Code.UNKNOWN)  # `success` is false for the other codes


def envelope(code: Code, data: Mapping[str, Any] | None = None, msg: str | int | None = None) -> Response:
    """Return a response.

    Args:
        code: Result code.
        data: Content; None for an empty object.
        msg: Message, or the number that the original sends; None for the message of the code.
    """
    fields = {"code": int(code), "data": data or {}, "msg": MESSAGES[code] if msg is None else msg}
    text = json.dumps({**fields, "success": code in _SUCCESS}, sort_keys=True, indent=4, ensure_ascii=False)
    return Response(text, media_type="application/json; charset=utf-8", headers={"Cache-Control": "no-store"})


def envelope_of(error: LipwrightError) -> Response:
    """Return the response for an error: 10001 if a retry may help (the only code that clients retry).

    10002 describes an invalid request, 9999 an internal error.
    """
    if error.retryable and not isinstance(error, InputError):
        return envelope(Code.BUSY)
    if isinstance(error, InputError | NotFoundError | StateError):
        return envelope(Code.PARAMETER, msg=str(error))
    return envelope(Code.SYSTEM, msg=f"{MESSAGES[Code.SYSTEM]}: {error}")


def in_envelope(handler: Callable[_P, Awaitable[Response]]) -> Callable[_P, Coroutine[Any, Any, Response]]:
    """Make a handler return its errors in HeyGem's envelope."""

    @functools.wraps(handler)
    async def handle(*args: _P.args, **kwargs: _P.kwargs) -> Response:
        try:
            return await handler(*args, **kwargs)
        except ClientDisconnect:
            raise  # the client is gone
        except LipwrightError as error:
            logger.warning("/easy: %s", error)
            return envelope_of(error)
        except Exception:
            logger.exception("/easy: a request failed")
            return envelope(Code.SYSTEM)

    return handle
