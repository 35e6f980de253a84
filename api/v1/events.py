"""A job's changes as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from api.problem import problem_of
from api.v1.followers import Feed
from api.v1.protocol import JobView
from errors import LipwrightError
from storage.records import JobRecord

PING_S = 10.0
_RECONNECT_MS = 2000


async def job_events(feed: Feed, job: JobRecord, seen: int, base_url: str) -> AsyncIterator[str]:
    """Event text for every version of `job` after `seen` that `feed` tells of, up to the final one.

    A place in the queue moves without the job changing: it is told with the next ping. An error of the service ends
    the stream with `event: problem`; a client that comes again goes on where it was. A `seen` that the job has not
    reached yet is not from this job, and counts as nothing seen.
    """
    seen = seen if seen <= job.version else 0
    yield f"retry: {_RECONNECT_MS}\n\n"
    number, position = feed.number, None
    if feed.job.version > job.version:
        job = feed.job  # which may be the last that there is to tell
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
