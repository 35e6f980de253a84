"""Server-sent events of jobs (WHATWG HTML, section 9.2), and requests that wait for a job: limited in number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import Context
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from lipwright.api.problem import problem_of
from lipwright.api.v1.protocol import JobView
from lipwright.errors import BusyError, LipwrightError
from lipwright.jobs.model.record import JobRecord
from lipwright.jobs.ports import JobService

_RETRY_AFTER_S = 5.0
_PAUSE_S_PER_STREAM = 0.002  # sending an event through Ray Serve takes about 1 ms of the replica


class Feed:
    """Updates of one job, at every change and at least every `ping_s`."""

    def __init__(self, service: JobService, job: JobRecord, ping_s: float) -> None:
        self.job = job
        self.num_streams = 0
        self.number = 0
        self._service = service
        self._ping_s = ping_s
        self._is_closed = False
        self._news = asyncio.Event()
        self._texts: dict[str, str] = {}
        # In a separate context: Ray Serve cancels calls together with the request that made them.
        self._reader = asyncio.get_running_loop().create_task(self._read(), context=Context())
        self._reader.add_done_callback(self._end)

    @property
    def is_over(self) -> bool:
        """Whether the feed has ended."""
        return self._is_closed or self._reader.done()

    async def after(self, number: int) -> JobRecord:
        """Wait for an update after the given number and return the job.

        Raises:
            Exception: Whatever ended the feed.
        """
        while self.number <= number:
            if self._reader.done():
                self._reader.result()  # raises its error
                break
            await self._news.wait()
        return self.job

    def text(self, base_url: str) -> str:
        """Return the job as JSON, cached for all streams."""
        if base_url not in self._texts:
            self._texts[base_url] = JobView.of(self.job, base_url).model_dump_json()
        return self._texts[base_url]

    def close(self) -> None:
        """Stop reading."""
        self._is_closed = True
        self._reader.cancel()

    async def _read(self) -> None:
        while not self.job.status.is_final:
            job = await self._service.wait_job(self.job.id, self.job.version, self._ping_s)
            if job != self.job:
                self.job, self._texts = job, {}
            self.number += 1
            self._notify()
            await asyncio.sleep(min(1.0, self.num_streams * _PAUSE_S_PER_STREAM))

    def _end(self, reader: asyncio.Task[None]) -> None:
        if not reader.cancelled():
            reader.exception()  # or asyncio logs that it was never retrieved
        self._notify()

    def _notify(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class EventStream:
    """One stream of a job."""

    def __init__(self, streams: EventStreams, feed: Feed, owner: str | None) -> None:
        self.feed = feed
        self.owner = owner
        self._streams = streams

    def leave(self) -> None:
        """End the stream. May be called more than once."""
        self._streams.drop(self)


class EventStreams:
    """All streams of one replica.

    Args:
        service: The service.
        max_event_streams: Maximum number of streams.
        max_share: Maximum share of one API key.
        ping_s: Keep-alive interval.
    """

    def __init__(self, service: JobService, max_event_streams: int, max_share: float, ping_s: float) -> None:
        self._service = service
        self._max_event_streams = max_event_streams
        self._max_own = max(1, int(max_event_streams * max_share))
        self._ping_s = ping_s
        self._streams: set[EventStream] = set()
        self._feeds: dict[str, Feed] = {}

    def enter(self, job: JobRecord, owner: str | None) -> EventStream:
        """Return a new stream of `job`; call `leave` on it.

        Raises:
            BusyError: The limit of the replica or of the owner is reached.
        """
        num_own = sum(stream.owner == owner for stream in self._streams) if owner is not None else 0
        if len(self._streams) >= self._max_event_streams or num_own >= self._max_own:
            raise BusyError(
                f"Too many event streams: the limit is {self._max_event_streams}, and {self._max_own} per API key. "
                f"Poll GET /v1/jobs/{job.id} instead.",
                _RETRY_AFTER_S,
            )
        feed = self._feeds.get(job.id)
        if feed is None or feed.is_over:
            feed = self._feeds[job.id] = Feed(self._service, job, self._ping_s)
        feed.num_streams += 1
        stream = EventStream(self, feed, owner)
        self._streams.add(stream)
        return stream

    def drop(self, stream: EventStream) -> None:
        """Remove a stream, and end a feed without streams."""
        if stream not in self._streams:
            return
        self._streams.discard(stream)
        feed = stream.feed
        feed.num_streams -= 1
        if not feed.num_streams:
            feed.close()
            if self._feeds.get(feed.job.id) is feed:
                del self._feeds[feed.job.id]


class EventStreamResponse(StreamingResponse):
    """A streaming response that removes its stream when it ends."""

    def __init__(self, stream: EventStream, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.leave()


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
