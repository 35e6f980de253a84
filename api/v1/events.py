"""Server-sent events of a job (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from api.problem import problem_of
from api.v1.event_streams import Feed
from api.v1.protocol import JobView
from errors import LipwrightError
from jobs.model.record import JobRecord

PING_S = 10.0
_RECONNECT_MS = 2000


async def job_events(feed: Feed, job: JobRecord, seen: int, base_url: str) -> AsyncIterator[str]:
    """Yield an event for every version of `job` after `seen`, until the final one.

    Changes of the queue position do not change the version; they are sent with the next ping. An error of the service
    ends the stream with `event: problem`; clients that reconnect continue where they were. A `seen` beyond the job's
    version is invalid and counts as 0.
    """
    seen = seen if seen <= job.version else 0
    yield f"retry: {_RECONNECT_MS}\n\n"
    number, position = feed.number, None
    if feed.job.version > job.version:
        job = feed.job  # possibly the final version
    try:
        while True:
            if job.version > seen or (job.version == seen and job.queue_position != position):
                text = feed.text(base_url) if job is feed.job else JobView.of(job, base_url).model_dump_json()
                yield _event("job", text, job.version)
                seen, position = job.version, job.queue_position
            else:
                yield ": ping\n\n"
            if job.status.is_final:
                return
            job = await feed.after(number)
            number = feed.number
    except LipwrightError as error:
        yield _event(
            "problem", problem_of(error, f"{urlsplit(base_url).path}/v1/jobs/{job.id}/events").model_dump_json()
        )


def _event(name: str, json_text: str, number: int | None = None) -> str:
    identity = "" if number is None else f"id: {number}\n"
    return f"{identity}event: {name}\ndata: {json_text}\n\n"
