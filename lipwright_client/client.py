"""The synchronous client."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar, Unpack

import httpx

from lipwright_client import calls
from lipwright_client.calls import AvatarFields, Call, JobFields
from lipwright_client.downloads import Target, atomic_target
from lipwright_client.errors import ClientError, ConnectionFailedError
from lipwright_client.live import LiveSession
from lipwright_client.live_connection import DEFAULT_RATE
from lipwright_client.records import Avatar, EngineList, Job, ServiceStatus, Voices
from lipwright_client.retry import DEFAULT_RETRY, Retries, RetryPolicy, checked, retry_policy
from lipwright_client.settings import Settings
from lipwright_client.sources import Source
from lipwright_client.streams import AvatarPoll, JobEventStream, PreviewStream, ResumableStream, VideoStream

T = TypeVar("T")


class Transport:
    """Sends calls, reads streams, and waits between retries."""

    def __init__(self, http: httpx.Client, retry: RetryPolicy) -> None:
        self.retry = retry
        self._http = http

    def run(self, call: Call[T]) -> T:
        """Send a call, with retries, and return its result."""
        retries = Retries(call, self.retry)
        while True:
            outcome = self._send(call)
            pause_s = retries.pause_after(outcome)
            if pause_s is None:
                break
            time.sleep(pause_s)
        assert isinstance(outcome, httpx.Response)
        return call.read(outcome if retries.is_done(outcome) else checked(outcome))

    def read(self, stream: ResumableStream[T]) -> Iterator[T]:
        """Yield the items of a stream, reconnecting as needed."""
        while not stream.is_over:
            try:
                yield from self._connection(stream)
            except httpx.RequestError as error:
                stream.on_error(error)
            if not stream.is_over:
                time.sleep(stream.pause_s)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _send(self, call: Call[T]) -> httpx.Response | httpx.RequestError:
        with call.body.opened() as body:
            timeout = call.timeout(self._http.timeout)
            options = {"params": call.params, "headers": call.headers, "timeout": timeout, **body}
            try:
                return self._http.request(call.method, call.path, **options)
            except httpx.RequestError as error:
                return error

    def _connection(self, stream: ResumableStream[T]) -> Iterator[T]:
        answer = self._http.send(self._http.build_request(**stream.request()), stream=True)
        with contextlib.closing(answer):
            if not answer.is_success:
                answer.read()
            if not stream.on_response(answer):
                return
            for piece in answer.iter_bytes():
                yield from stream.feed(piece)
                if stream.is_over:
                    return
        stream.on_end()


class Jobs:
    """The jobs of the service."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, **fields: Unpack[JobFields]) -> Job:
        """Submit a job. Returns when the service has received and validated its files.

        Raises:
            UploadError: A file does not exist.
            InputError: A file or option is invalid.
            CapacityError: The service was full until the retry policy gave up.
        """
        return self._transport.run(calls.create_job(fields))

    def get(self, job_id: str) -> Job:
        """Return the current state of a job."""
        return self._transport.run(calls.get_job(job_id))

    def list(
        self, limit: int = 50, status: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> tuple[Job, ...]:
        """List jobs, newest first: at most `limit`, with this status and metadata."""
        pages = calls.JobPages(limit, status, metadata)
        while (call := pages.next_call()) is not None:
            pages.take(self._transport.run(call))
        return pages.jobs

    def cancel(self, job_id: str) -> Job:
        """Cancel a job. Has no effect on a finished job."""
        return self._transport.run(calls.cancel_job(job_id))

    def delete(self, job_id: str) -> None:
        """Delete a job with its files. Cancels an unfinished job first."""
        self.cancel(job_id)
        self._transport.run(calls.delete_job(job_id))

    def events(self, job_id: str) -> Iterator[Job]:
        """Yield the job at every change until it ends. Reconnects if the connection breaks."""
        return self._transport.read(JobEventStream(job_id, self._transport.retry))

    def wait(
        self, job_id: str, timeout_s: float | None = None, on_change: Callable[[Job], object] | None = None
    ) -> Job:
        """Wait until a job ends, and return it. `job.check()` raises its error, if any.

        Args:
            job_id: ID of the job.
            timeout_s: Maximum wait; None for no limit.
            on_change: Called with the job at every change.

        Raises:
            WaitTimeoutError: The job has not ended; it continues.
        """
        job = None
        for job in self._transport.read(JobEventStream(job_id, self._transport.retry, timeout_s)):
            if on_change is not None:
                on_change(job)
        return self.get(job_id) if job is None else job

    def download(self, job_id: str, out: Target) -> int:
        """Download the video of a job and return its size in bytes.

        Args:
            job_id: ID of the job.
            out: A path (replaced atomically), or a file open for writing.
        """
        num_bytes = 0
        with atomic_target(out) as file:
            for piece in self._transport.read(VideoStream(job_id, self._transport.retry)):
                file.write(piece)
                num_bytes += len(piece)
        return num_bytes

    def preview(self, job_id: str) -> Iterator[bytes]:
        """Yield the video while it is rendered: chunks of a fragmented MP4 that ends with the job."""
        return self._transport.read(PreviewStream(job_id, self._transport.retry))


class Avatars:
    """The avatars of the service."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, **fields: Unpack[AvatarFields]) -> Avatar:
        """Create an avatar. It can be used at once; its first job waits for the analysis."""
        return self._transport.run(calls.create_avatar(fields))

    def get(self, avatar_id: str) -> Avatar:
        """Return the current state of an avatar."""
        return self._transport.run(calls.get_avatar(avatar_id))

    def wait(self, avatar_id: str, timeout_s: float = 600.0) -> Avatar:
        """Wait until an avatar is analysed, and return it.

        Raises:
            WaitTimeoutError: The analysis has not ended; it continues.
        """
        poll = AvatarPoll(avatar_id, timeout_s)
        while True:
            avatar = self.get(avatar_id)
            if not poll.is_pending(avatar):
                return avatar
            time.sleep(poll.pause_s)

    def list(self) -> tuple[Avatar, ...]:
        """List kept avatars, newest first."""
        return self._transport.run(calls.list_avatars())

    def delete(self, avatar_id: str) -> None:
        """Delete an avatar. Fails while an unfinished job uses it."""
        self._transport.run(calls.delete_avatar(avatar_id))


class Engines:
    """The engines of the service."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> EngineList:
        """List all engines and post-processors, including those without weights."""
        return self._transport.run(calls.list_engines())


class Lipwright:
    """A client of a Lipwright service.

    Args:
        base_url: URL of the service. Default: LIPWRIGHT_URL, or http://127.0.0.1:8000.
        api_key: API key. Default: LIPWRIGHT_API_KEY.
        timeout_s: Timeout for connecting and for short responses, in seconds.
        retry: When and how long failed requests are retried.
        transport: httpx transport, for proxies, certificates and tests.
        headers: Extra header fields of every request.
        patience: Deprecated name of `retry`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retry: RetryPolicy = DEFAULT_RETRY,
        transport: httpx.BaseTransport | None = None,
        headers: Mapping[str, str] | None = None,
        patience: RetryPolicy | None = None,
    ) -> None:
        settings = Settings.of(base_url, api_key, timeout_s)
        self.base_url = settings.base_url
        self._settings, self._headers = settings, headers
        self._transport = Transport(
            httpx.Client(transport=transport, **settings.httpx_options(headers)), retry_policy(retry, patience)
        )
        self.jobs = Jobs(self._transport)
        self.avatars = Avatars(self._transport)
        self.engines = Engines(self._transport)

    def speak(
        self,
        out: Target | None = None,
        timeout_s: float | None = None,
        on_change: Callable[[Job], object] | None = None,
        **fields: Unpack[JobFields],
    ) -> Job:
        """Submit a job, wait for it, and save its video. If the wait is interrupted, the job is cancelled.

        Args:
            out: Where to save the video; None to leave it on the service.
            timeout_s: Maximum wait for the job.
            on_change: Called with the job at every change.
            **fields: As for `jobs.create`.

        Raises:
            ProblemError: The request was rejected or the job failed; the subclass depends on the code.
            WaitTimeoutError: It took longer than `timeout_s`.
        """
        job = self.jobs.create(**fields)
        try:
            job = self.jobs.wait(job.id, timeout_s, on_change)
        except ConnectionFailedError:
            raise  # the service cannot be reached
        except BaseException:
            with contextlib.suppress(ClientError):
                self.jobs.cancel(job.id)
            raise
        job.check()
        if out is not None:
            self.jobs.download(job.id, out)
        return job

    def live(
        self,
        avatar_id: str | None = None,
        sample_rate: int = DEFAULT_RATE,
        shows_at_once: bool = True,
        video: Source | None = None,
    ) -> LiveSession:
        """Return a live session: enter it with `with`, and iterate over its events.

        Args:
            avatar_id: ID of the avatar.
            sample_rate: Sample rate of the sent audio: 8000, 16000, 22050, 24000, 44100 or 48000 Hz.
            shows_at_once: Whether received video counts as played immediately. Otherwise report the position with
                `showed`; the service stays a few seconds ahead of it.
            video: Video or portrait to use instead of `avatar_id`; uploaded and analysed when the session starts, and
                not kept.

        Raises:
            UploadError: Not exactly one of `avatar_id` and `video` is given, or the file does not exist.
        """
        source = calls.live_source(avatar_id, video)

        def get_avatar_id() -> str:
            if isinstance(source, str):
                return source
            avatar = self._transport.run(source)
            return self.avatars.wait(avatar.id).check().id

        return LiveSession(self._settings, self._headers, get_avatar_id, sample_rate, shows_at_once)

    def voices(self) -> Voices:
        """Return the voices for `text`."""
        return self._transport.run(calls.get_voices())

    def status(self) -> ServiceStatus:
        """Return the queue status of the service."""
        return self._transport.run(calls.get_status())

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def __enter__(self) -> Lipwright:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
