"""Those who follow jobs: a bounded number of them, and one reader for each job that feeds all of its followers."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.v1.protocol import JobView
from errors import BusyError, LipwrightError
from jobs.ports import JobService
from storage.records import JobRecord

_AGAIN_S = 5.0
_PAUSE_S_PER_FOLLOWER = 0.002  # an event takes about 1 ms of a replica, on its way through Ray Serve


class Feed:
    """One job as it changes, and at least once in `ping_s`, whether it has changed or not."""

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
        # In a context of its own: Ray Serve ends what was begun in a request together with that request.
        self._reader = asyncio.get_running_loop().create_task(self._read(), context=Context())

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more."""
        return self._is_closed or self._reader.done()

    async def after(self, number: int) -> JobRecord:
        """The job as soon as there is word of it after that of this number.

        Raises:
            LipwrightError: There will be none.
        """
        while self.number <= number:
            if self._error is not None:
                raise self._error
            await self._news.wait()
        return self.job

    def text(self, base_url: str) -> str:
        """The job of now as JSON, made once for all followers."""
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
                self._tell()
                await asyncio.sleep(min(1.0, self.num_followers * _PAUSE_S_PER_FOLLOWER))
        except LipwrightError as error:
            self._error = error
            self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Follower:
    """A place among the followers."""

    def __init__(self, followers: Followers, feed: Feed, owner: str | None) -> None:
        self.feed = feed
        self.owner = owner
        self._followers = followers

    def leave(self) -> None:
        """Give the place back; harmless when it was given back already."""
        self._followers.drop(self)


class Followers:
    """All followers of one replica.

    Args:
        service: Whose jobs they follow.
        max_followers: How many there may be.
        max_share: The share of them that one API key may have.
        ping_s: The longest time without a word to them.
    """

    def __init__(self, service: JobService, max_followers: int, max_share: float, ping_s: float) -> None:
        self._service = service
        self._max_followers = max_followers
        self._max_own = max(1, int(max_followers * max_share))
        self._ping_s = ping_s
        self._here: set[Follower] = set()
        self._feeds: dict[str, Feed] = {}

    def enter(self, job: JobRecord, owner: str | None) -> Follower:
        """Take a place to follow `job`; it has to be left again.

        Raises:
            BusyError: All places, or all of this owner, are taken.
        """
        num_own = sum(follower.owner == owner for follower in self._here) if owner is not None else 0
        if len(self._here) >= self._max_followers or num_own >= self._max_own:
            raise BusyError(
                f"Too many follow jobs here: expected fewer than {self._max_followers}, and {self._max_own} with one "
                f"API key, found {len(self._here)}. GET /v1/jobs/{job.id} tells the same.",
                _AGAIN_S,
            )
        feed = self._feeds.get(job.id)
        if feed is None or feed.is_over:
            feed = self._feeds[job.id] = Feed(self._service, job, self._ping_s)
        feed.num_followers += 1
        follower = Follower(self, feed, owner)
        self._here.add(follower)
        return follower

    def drop(self, follower: Follower) -> None:
        """Take a follower's place back, and end a feed that nobody follows."""
        if follower not in self._here:
            return
        self._here.discard(follower)
        feed = follower.feed
        feed.num_followers -= 1
        if not feed.num_followers:
            feed.close()
            if self._feeds.get(feed.job.id) is feed:
                del self._feeds[feed.job.id]


class FollowResponse(StreamingResponse):
    """A stream for one follower, who leaves with it, however it ends."""

    def __init__(self, follower: Follower, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._follower = follower

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._follower.leave()
