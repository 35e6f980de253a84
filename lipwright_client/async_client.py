"""The client for coroutines, under asyncio and trio."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, TypeVar, Unpack

import anyio
import anyio.to_thread
import httpx

from lipwright_client import calls
from lipwright_client.async_live import AsyncLiveSession
from lipwright_client.calls import AvatarFields, Call, JobFields
from lipwright_client.downloads import Target, atomic_target
from lipwright_client.errors import ClientError, ConnectionFailedError
from lipwright_client.live_connection import DEFAULT_RATE
from lipwright_client.records import Avatar, EngineList, Job, ServiceStatus, Voices
from lipwright_client.retry import DEFAULT_RETRY, Retries, RetryPolicy, checked, retry_policy
from lipwright_client.settings import Settings
from lipwright_client.sources import Source
from lipwright_client.streams import AvatarPoll, JobEventStream, PreviewStream, ResumableStream, VideoStream

T = TypeVar("T")
_CANCEL_S = 5.0  # how long a cancelled coroutine stays to cancel its job


class AsyncTransport:
    """Carries calls and streams, and waits where it is told to; files are read and written in threads."""

    def __init__(self, http: httpx.AsyncClient, retry: RetryPolicy) -> None:
        self.retry = retry
        self._http = http

    async def run(self, call: Call[T]) -> T:
        """The result of a call, after as many tries as patience allows."""
        retries = Retries(call, self.retry)
        while True:
            outcome = await self._send(call)
            pause_s = retries.pause_after(outcome)
            if pause_s is None:
                break
            await anyio.sleep(pause_s)
        assert isinstance(outcome, httpx.Response)
        return call.read(outcome if retries.is_done(outcome) else checked(outcome))

    async def read(self, stream: ResumableStream[T]) -> AsyncIterator[T]:
        """What a stream says, over as many connections as it takes."""
        while not stream.is_over:
            try:
                async for item in self._connection(stream):
                    yield item
            except httpx.RequestError as error:
                stream.on_error(error)
            if not stream.is_over:
                await anyio.sleep(stream.pause_s)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _send(self, call: Call[Any]) -> httpx.Response | httpx.RequestError:
        with call.body.opened() as body:
            timeout = call.timeout(self._http.timeout)
            options = {"params": call.params, "headers": call.headers, "timeout": timeout, **body}
            request = self._http.build_request(call.method, call.path, **options)
            if call.body.uploads:
                assert isinstance(request.stream, httpx.SyncByteStream)
                request.stream = _ReadInThreads(request.stream)
            try:
                return await self._http.send(request)
            except httpx.RequestError as error:
                return error

    async def _connection(self, stream: ResumableStream[T]) -> AsyncIterator[T]:
        answer = await self._http.send(self._http.build_request(**stream.request()), stream=True)
        async with contextlib.aclosing(answer):
            if not answer.is_success:
                await answer.aread()
            if not stream.on_response(answer):
                return
            async for piece in answer.aiter_bytes():
                for item in stream.feed(piece):
                    yield item
                if stream.is_over:
                    return
        stream.on_end()


class _ReadInThreads(httpx.AsyncByteStream):
    """A body whose files are read where that blocks nobody."""

    def __init__(self, body: httpx.SyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces: Iterator[bytes] = iter(self._body)
        while (piece := await anyio.to_thread.run_sync(next, pieces, None)) is not None:
            yield piece


class AsyncJobs:
    """Jobs of the service."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, **fields: Unpack[JobFields]) -> Job:
        """Submit a job; returns it as soon as the service has taken its files.

        Raises:
            UploadError: A file is not there.
            InputError: The service cannot use a file or an option.
            CapacityError: The service stayed full.
        """
        return await self._transport.run(calls.create_job(fields))

    async def get(self, job_id: str) -> Job:
        """The job as it is now."""
        return await self._transport.run(calls.get_job(job_id))

    async def list(
        self, limit: int = 50, status: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> tuple[Job, ...]:
        """The newest jobs first: at most `limit`, of this status, with these words."""
        pages = calls.JobPages(limit, status, metadata)
        while (call := pages.next_call()) is not None:
            pages.take(await self._transport.run(call))
        return pages.jobs

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job; a finished one stays as it is."""
        return await self._transport.run(calls.cancel_job(job_id))

    async def delete(self, job_id: str) -> None:
        """Remove a job with its files; an unfinished one is cancelled first."""
        await self.cancel(job_id)
        await self._transport.run(calls.delete_job(job_id))

    def events(self, job_id: str) -> AsyncIterator[Job]:
        """The job at every change up to its end; goes on where it was when the line breaks."""
        return self._transport.read(JobEventStream(job_id, self._transport.retry))

    async def wait(
        self, job_id: str, timeout_s: float | None = None, on_change: Callable[[Job], object] | None = None
    ) -> Job:
        """The job when it has ended, whichever way: `job.check()` raises what went wrong.

        Args:
            job_id: The job.
            timeout_s: Longest wait; None waits for as long as it takes.
            on_change: Called with the job at every change, and awaited if that is needed.

        Raises:
            WaitTimeoutError: The job goes on.
        """
        job = None
        async for job in self._transport.read(JobEventStream(job_id, self._transport.retry, timeout_s)):
            if on_change is not None and inspect.isawaitable(said := on_change(job)):
                await said
        return await self.get(job_id) if job is None else job

    async def download(self, job_id: str, out: Target) -> int:
        """Save the video of a job that succeeded, and return its bytes.

        Args:
            job_id: The job.
            out: A path, which then holds the whole video or what it held before; or a file open for writing.
        """
        num_bytes = 0
        with atomic_target(out) as file:
            async for piece in self._transport.read(VideoStream(job_id, self._transport.retry)):
                await anyio.to_thread.run_sync(file.write, piece)
                num_bytes += len(piece)
        return num_bytes

    def preview(self, job_id: str) -> AsyncIterator[bytes]:
        """The video while it is rendered: pieces of a fragmented MP4 that ends with the job."""
        return self._transport.read(PreviewStream(job_id, self._transport.retry))


class AsyncAvatars:
    """Avatars of the service."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, **fields: Unpack[AvatarFields]) -> Avatar:
        """Send an avatar. It can be used at once; the first job waits for its analysis."""
        return await self._transport.run(calls.create_avatar(fields))

    async def get(self, avatar_id: str) -> Avatar:
        """The avatar as it is now."""
        return await self._transport.run(calls.get_avatar(avatar_id))

    async def wait(self, avatar_id: str, timeout_s: float = 600.0) -> Avatar:
        """The avatar when it is analysed, whichever way.

        Raises:
            WaitTimeoutError: The analysis goes on.
        """
        poll = AvatarPoll(avatar_id, timeout_s)
        while True:
            avatar = await self.get(avatar_id)
            if not poll.is_pending(avatar):
                return avatar
            await anyio.sleep(poll.pause_s)

    async def list(self) -> tuple[Avatar, ...]:
        """All that are kept, the newest first."""
        return await self._transport.run(calls.list_avatars())

    async def delete(self, avatar_id: str) -> None:
        """Forget one; refused while an unfinished job needs it."""
        await self._transport.run(calls.delete_avatar(avatar_id))


class AsyncEngines:
    """What makes faces speak."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self) -> EngineList:
        """All engines and steps, also those whose weights are missing."""
        return await self._transport.run(calls.list_engines())


class AsyncLipwright:
    """A Lipwright service; as `Lipwright`, awaited.

    Args:
        base_url: Its address; LIPWRIGHT_URL, or port 8000 of this machine, without it.
        api_key: An API key; LIPWRIGHT_API_KEY without it.
        timeout_s: Bound of a connection, and of each wait for a short answer.
        retry: When and how long failed requests are retried.
        transport: What httpx sends requests by; for proxies, certificates and tests.
        headers: Extra header fields of every request.
        patience: Deprecated name of `retry`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retry: RetryPolicy = DEFAULT_RETRY,
        transport: httpx.AsyncBaseTransport | None = None,
        headers: Mapping[str, str] | None = None,
        patience: RetryPolicy | None = None,
    ) -> None:
        settings = Settings.of(base_url, api_key, timeout_s)
        self.base_url = settings.base_url
        self._settings, self._headers = settings, headers
        self._transport = AsyncTransport(
            httpx.AsyncClient(transport=transport, **settings.httpx_options(headers)), retry_policy(retry, patience)
        )
        self.jobs = AsyncJobs(self._transport)
        self.avatars = AsyncAvatars(self._transport)
        self.engines = AsyncEngines(self._transport)

    async def speak(
        self,
        out: Target | None = None,
        timeout_s: float | None = None,
        on_change: Callable[[Job], object] | None = None,
        **fields: Unpack[JobFields],
    ) -> Job:
        """Make a face speak: submit, wait, save. Whatever ends the wait early cancels the job.

        Args:
            out: Where the video is saved; None leaves it at the service.
            timeout_s: Longest wait for the job's end.
            on_change: Called with the job at every change, and awaited if that is needed.
            **fields: As for `jobs.create`.

        Raises:
            ProblemError: The submission was refused, or the job failed; the class follows the code.
            WaitTimeoutError: It took longer than `timeout_s`.
        """
        job = await self.jobs.create(**fields)
        try:
            job = await self.jobs.wait(job.id, timeout_s, on_change)
        except ConnectionFailedError:
            raise  # nobody is there to be told
        except BaseException:
            with contextlib.suppress(ClientError), anyio.move_on_after(_CANCEL_S, shield=True):
                await self.jobs.cancel(job.id)
            raise
        job.check()
        if out is not None:
            await self.jobs.download(job.id, out)
        return job

    def live(
        self,
        avatar_id: str | None = None,
        sample_rate: int = DEFAULT_RATE,
        shows_at_once: bool = True,
        video: Source | None = None,
    ) -> AsyncLiveSession:
        """A live session: `async with` begins it, `async for` gives what it shows.

        Args:
            avatar_id: The avatar, one that is kept or was sent before.
            sample_rate: Of the sound that is sent: 8000, 16000, 22050, 24000, 44100 or 48000.
            shows_at_once: Whether everything counts as shown as it comes. Otherwise `showed` says how far it is, and
                the service stays a few seconds ahead.
            video: In place of `avatar_id`: a video or a portrait, which is sent and analysed when the session begins,
                and not kept.

        Raises:
            UploadError: There are both or neither, or there is no such file.
        """
        source = calls.live_source(avatar_id, video)

        async def get_avatar_id() -> str:
            if isinstance(source, str):
                return source
            avatar = await self._transport.run(source)
            return (await self.avatars.wait(avatar.id)).check().id

        return AsyncLiveSession(self._settings, self._headers, get_avatar_id, sample_rate, shows_at_once)

    async def voices(self) -> Voices:
        """Whether the service speaks a `text` in place of `audio`."""
        return await self._transport.run(calls.get_voices())

    async def status(self) -> ServiceStatus:
        """How busy the service is."""
        return await self._transport.run(calls.get_status())

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncLipwright:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
