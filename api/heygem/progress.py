"""What a query says of a job: states, percentages and sentences of the services that this door replaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from api.heygem.data_root import result_name
from storage.records import JobRecord, JobStage, JobStatus

_RUNNING, _SUCCEEDED, _FAILED = 1, 2, 3
# Percentages at which the original stands still, and what it says there. Ours move between them.
_FETCHED: Final = (10, "文件下载完成")
_HEARD: Final = (20, "音频特征提取完成")
_PAINTED: Final = (90, "视频处理完成")
_DONE: Final = (100, "任务完成")
RENDERING_BEGINS: Final = 0.25
"""The job's own progress when all is analysed (`jobs.run`)."""
_FAILURES: Final[Mapping[JobStage, str]] = {
    JobStage.LISTENING: "[{code}]音频特征提取失败，异常信息:[{message}]",
    JobStage.ANALYSING: "[{code}]预处理失败，异常信息:[{message}]",
}
_OTHER_FAILURE: Final = "[{code}]**生成视频失败，异常信息:[{message}]"


def task_of(job: JobRecord, code: str) -> dict[str, Any]:
    """The `data` of a query's answer; the numbers in it are integers but `cost` and `video_duration`, in seconds."""
    if job.status is JobStatus.SUCCEEDED:
        return {**_task(code, _SUCCEEDED, *_DONE), "result": f"/{result_name(code)}", **_facts(job)}
    if job.status.is_final:
        return _task(code, _FAILED, 0, _failure(job, code))
    return _task(code, _RUNNING, *_progress(job))


def _task(code: str, status: int, progress: int, msg: str) -> dict[str, Any]:
    return {"code": code, "status": status, "progress": progress, "result": "", "msg": msg}


def _progress(job: JobRecord) -> tuple[int, str]:
    """Percent and sentence: from 10 to 20 with the analysis, from 20 to 90 with the frames that are done."""
    if job.stage is JobStage.JOINING:
        return _PAINTED
    if job.stage is JobStage.RENDERING:
        begin, end = _HEARD[0], _PAINTED[0]
        share = min(1.0, job.num_frames_done / job.num_frames) if job.num_frames else 0.0
        return begin + int((end - begin) * share), _HEARD[1]
    begin, end = _FETCHED[0], _HEARD[0]
    return begin + int((end - begin) * min(1.0, job.progress / RENDERING_BEGINS)), _FETCHED[1]


def _failure(job: JobRecord, code: str) -> str:
    if job.status is JobStatus.CANCELLED:
        return f"[{code}]任务已取消"
    message = "" if job.error is None else job.error.message
    return _FAILURES.get(job.stage, _OTHER_FAILURE).format(code=code, message=message)


def _facts(job: JobRecord) -> dict[str, float]:
    cost = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else 0.0
    return {"cost": round(cost, 2), "video_duration": round(job.audio_seconds, 2)}
