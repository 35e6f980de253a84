"""Forecasts waiting times from finished jobs, and the disk space that a job needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lipwright.jobs.messages import OutputPicture
from lipwright.jobs.model.record import JobStatus, JobSummary

_UNMEASURED_RATE = 1.0
"""Seconds of video per second of wall clock, assumed before any job has finished."""
_SOUND_BYTES_PER_SECOND = 192_000 + 32_000  # PCM, the largest, at 48 kHz in stereo, and the 16 kHz copy


@dataclass(frozen=True)
class Forecast:
    """What the current jobs mean for the next one.

    Attributes:
        seconds_per_second: Seconds of finished video per second of wall clock, over all running jobs.
        is_measured: Whether that rate was measured; otherwise real time is assumed.
        next_start_s: Seconds until the next waiting job can start.
        wait_s: Seconds until a job accepted now starts.
    """

    seconds_per_second: float
    is_measured: bool
    next_start_s: float
    wait_s: float


def forecast(unfinished: Sequence[JobSummary], finished: Sequence[JobSummary], max_running: int) -> Forecast:
    """Return the forecast, from the unfinished jobs and the last succeeded ones."""
    rate = _measured_rate(finished)
    speed = rate if rate is not None else _UNMEASURED_RATE
    running = [_left_seconds(job) for job in unfinished if job.status is JobStatus.RUNNING]
    waiting = sum(_left_seconds(job) for job in unfinished if job.status is JobStatus.QUEUED)
    # Running jobs share the machine equally: the one with the least left ends first, after as much work on each other.
    first_end = min(running, default=0.0) * len(running) / speed
    next_start = first_end if len(running) >= max_running else 0.0
    return Forecast(speed, rate is not None, next_start, next_start + waiting / speed)


def _measured_rate(finished: Sequence[JobSummary]) -> float | None:
    """Return seconds of video per second in which at least one of these jobs ran; None if none did."""
    spans = sorted((job.started_at, job.finished_at) for job in finished if job.started_at and job.finished_at)
    busy_s, end = 0.0, None
    for start, stop in spans:
        begin: datetime = start if end is None or start > end else end
        if stop > begin:
            busy_s += (stop - begin).total_seconds()
            end = stop
    seconds = sum(job.result_seconds for job in finished)
    return seconds / busy_s if busy_s > 0 and seconds > 0 else None


def result_bytes(picture: OutputPicture, seconds: float) -> int:
    """Return the most disk space that making a result of this length needs.

    That is the segments, the file joined from them, and the signed copy that replaces it.
    """
    info, bits = picture.info, picture.file_format.bits_per_pixel[picture.quality]
    video = info.width * info.height * float(info.fps) * seconds * bits / 8
    return round(3 * video + 2 * _SOUND_BYTES_PER_SECOND * seconds)


def promised_bytes(unfinished: Sequence[JobSummary]) -> int:
    """Return the disk space that these jobs will still fill."""
    return sum(remaining_bytes(job) for job in unfinished if job.status is not JobStatus.REVIEW)


def remaining_bytes(job: JobSummary) -> int:
    """Return the disk space that a job fills from now on."""
    return round(job.disk_bytes * (1 - job.progress))


def _left_seconds(job: JobSummary) -> float:
    return max(job.result_seconds, 0.1) * (1 - job.progress)
