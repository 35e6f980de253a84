"""Requests and task states of HeyGem's API. Bodies are JSON under any content type; unknown fields are ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lipwright.api.heygem.data_root import result_name
from lipwright.errors import InputError
from lipwright.jobs.model.record import PROGRESS_AT_START, JobRecord, JobStage, JobStatus
from lipwright.media.playback import LoopMode

_MAX_CODE_BYTES: Final = 180  # becomes part of a file name (255 bytes) and an idempotency key (200)
_MAX_INPUT_CHARS: Final = 4096

_RUNNING, _SUCCEEDED, _FAILED = 1, 2, 3
# Progress steps of the original. Lipwright interpolates between them.
_FETCHED: Final = (10, "文件下载完成")
_ANALYSED: Final = (20, "音频特征提取完成")
_RENDERED: Final = (90, "视频处理完成")
_DONE: Final = (100, "任务完成")
_FAILURES: Final[Mapping[JobStage, str]] = {
    JobStage.PREPARING_AUDIO: "[{code}]音频特征提取失败，异常信息:[{message}]",
    JobStage.ANALYSING: "[{code}]预处理失败，异常信息:[{message}]",
}
_OTHER_FAILURE: Final = "[{code}]**生成视频失败，异常信息:[{message}]"


@dataclass(frozen=True)
class HeygemTask:
    """One task.

    Attributes:
        audio: URL or path of the speech.
        video: The face: a URL or a path.
        code: The client's ID of the task.
        loop: How to extend a video shorter than the speech: `pn` 1 is ping-pong, 0 loops.
        sharpens: `chaofen`: whether to use super resolution.
        marks_bottom: `watermark_switch`: watermark in the lower right corner.
        marks_top: `digital_auth`: watermark in the upper right corner.
    """

    audio: str
    video: str
    code: str
    loop: LoopMode
    sharpens: bool
    marks_bottom: bool
    marks_top: bool

    @classmethod
    def of(cls, body: bytes) -> HeygemTask:
        """Parse a request body.

        Raises:
            InputError: The body is invalid, or a field is missing; checked in the original's order.
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
        """Parse only the `code` of a request body.

        Raises:
            InputError: The body is invalid or has no code.
        """
        return checked_code(_text(_fields(body), "code", _MAX_INPUT_CHARS))


def checked_code(code: str) -> str:
    """Check that a code can be part of a file name.

    Raises:
        InputError: It cannot.
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
    return str(value).encode("utf-8", "replace").decode()  # drops lone surrogates


def _is_on(fields: dict[str, Any], name: str, default: bool = False) -> bool:
    value = fields.get(name, "")
    return default if value in ("", None) else str(value) == "1"


def task_of(job: JobRecord, code: str) -> dict[str, Any]:
    """Return the `data` of a query response. `cost` and `video_duration` are in seconds."""
    if job.status is JobStatus.SUCCEEDED:
        return {**_task(code, _SUCCEEDED, *_DONE), "result": f"/{result_name(code)}", **_facts(job)}
    if job.status.is_final:
        return _task(code, _FAILED, 0, _failure(job, code))
    return _task(code, _RUNNING, *_progress(job))


def _task(code: str, status: int, progress: int, msg: str) -> dict[str, Any]:
    return {"code": code, "status": status, "progress": progress, "result": "", "msg": msg}


def _progress(job: JobRecord) -> tuple[int, str]:
    """Return percentage and message: 10 to 20 during the analysis, 20 to 90 during rendering."""
    if job.stage is JobStage.MUXING:
        return _RENDERED
    if job.stage is JobStage.RENDERING:
        begin, end = _ANALYSED[0], _RENDERED[0]
        share = min(1.0, job.num_frames_done / job.num_frames) if job.num_frames else 0.0
        return begin + int((end - begin) * share), _ANALYSED[1]
    begin, end = _FETCHED[0], _ANALYSED[0]
    analysed = min(1.0, job.progress / PROGRESS_AT_START[JobStage.RENDERING])
    return begin + int((end - begin) * analysed), _FETCHED[1]


def _failure(job: JobRecord, code: str) -> str:
    if job.status is JobStatus.CANCELLED:
        return f"[{code}]任务已取消"
    message = "" if job.error is None else job.error.message
    return _FAILURES.get(job.stage, _OTHER_FAILURE).format(code=code, message=message)


def _facts(job: JobRecord) -> dict[str, float]:
    cost = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else 0.0
    return {"cost": round(cost, 2), "video_duration": round(job.result_seconds, 2)}
