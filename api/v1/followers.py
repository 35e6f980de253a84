"""Followers of jobs: limited in number, with one shared reader per job."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.v1.protocol import JobView
from errors import BusyError, LipwrightError
from jobs.model.record import JobRecord
from jobs.ports import JobService

_RETRY_AFTER_S = 5.0
_PAUSE_S_PER_FOLLOWER = 0.002  # sending an event through Ray Serve takes about 1 ms of the replica


class Feed:
    """Updates of one job, at every change and at least every `ping_s`."""

    def __init__(self, service: JobService, job: JobRecord, ping_s: float) -> None:
        self.job = job
        self.num_followers = 0
        self.number = 0
        self._service = service
        self._ping_s = ping_s
        self._error: LipwrightError | None = None
        self._is_closed = False
        self._news = asyncio.Event()
        self._texts: dict[str, str] = {}
        # In a separate context: Ray Serve cancels calls together with the request that made them.
        self._reader = asyncio.get_running_loop().create_task(self._read(), context=Context())

    @property
    def is_over(self) -> bool:
        """Whether the feed has ended."""
        return self._is_closed or self._reader.done()

    async def after(self, number: int) -> JobRecord:
        """Wait for an update after the given number and return the job.

        Raises:
            LipwrightError: The feed failed.
        """
        while self.number <= number:
            if self._error is not None:
                raise self._error
            await self._news.wait()
        return self.job

    def text(self, base_url: str) -> str:
        """Return the job as JSON, cached for all followers."""
        if base_url not in self._texts:
            self._texts[base_url] = JobView.of(self.job, base_url).model_dump_json()
        return self._texts[base_url]

    def close(self) -> None:
        """Stop reading."""
        self._is_closed = True
        self._reader.cancel()

    async def _read(self) -> None:
        try:
            while not self.job.status.is_final:
                job = await self._service.wait_job(self.job.id, self.job.version, self._ping_s)
                if job != self.job:
                    self.job, self._texts = job, {}
                self.number += 1
                self._notify()
                await asyncio.sleep(min(1.0, self.num_followers * _PAUSE_S_PER_FOLLOWER))
        except LipwrightError as error:
            self._error = error
            self._notify()

    def _notify(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Follower:
    """One follower of a job."""

    def __init__(self, followers: Followers, feed: Feed, owner: str | None) -> None:
        self.feed = feed
        self.owner = owner
        self._followers = followers

    def leave(self) -> None:
        """Stop following. May be called more than once."""
        self._followers.drop(self)


class Followers:
    """All followers of one replica.

    Args:
        service: The service.
        max_followers: Maximum number of followers.
        max_share: Maximum share of one API key.
        ping_s: Keep-alive interval.
    """

    def __init__(self, service: JobService, max_followers: int, max_share: float, ping_s: float) -> None:
        self._service = service
        self._max_followers = max_followers
        self._max_own = max(1, int(max_followers * max_share))
        self._ping_s = ping_s
        self._followers: set[Follower] = set()
        self._feeds: dict[str, Feed] = {}

    def enter(self, job: JobRecord, owner: str | None) -> Follower:
        """Start following `job`; call `leave` on the result.

        Raises:
            BusyError: The limit of the replica or of the owner is reached.
        """
        num_own = sum(follower.owner == owner for follower in self._followers) if owner is not None else 0
        if len(self._followers) >= self._max_followers or num_own >= self._max_own:
            raise BusyError(
                f"Too many clients follow jobs: the limit is {self._max_followers}, and {self._max_own} per API key. "
                f"Poll GET /v1/jobs/{job.id} instead.",
                _RETRY_AFTER_S,
            )
        feed = self._feeds.get(job.id)
        if feed is None or feed.is_over:
            feed = self._feeds[job.id] = Feed(self._service, job, self._ping_s)
        feed.num_followers += 1
        follower = Follower(self, feed, owner)
        self._followers.add(follower)
        return follower

    def drop(self, follower: Follower) -> None:
        """Remove a follower, and end a feed without followers."""
        if follower not in self._followers:
            return
        self._followers.discard(follower)
        feed = follower.feed
        feed.num_followers -= 1
        if not feed.num_followers:
            feed.close()
            if self._feeds.get(feed.job.id) is feed:
                del self._feeds[feed.job.id]


class FollowResponse(StreamingResponse):
    """A streaming response that removes its follower when it ends."""

    def __init__(self, follower: Follower, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._follower = follower

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._follower.leave()
