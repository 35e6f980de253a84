"""Streaming responses that resume where they were after a connection error.

A `ResumableStream` builds the requests and parses the data; the clients do the I/O.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

import httpx

from lipwright_client.calls import path_of
from lipwright_client.errors import ConnectionFailedError, UnexpectedAnswerError, WaitTimeoutError
from lipwright_client.from_json import from_json
from lipwright_client.records import Job
from lipwright_client.retry import RetryPolicy, checked, connection_error, reconnect_delay, retry_delay

T = TypeVar("T")

_CONNECT_S: Final = 30.0
_SILENCE_S = 30.0  # three times the keep-alive interval of event streams, as documented by the service
_PIECE_READ_S = 120.0
_PREVIEW_READ_S = 3600.0  # a preview sends nothing while its job is queued


class ResumableStream(ABC, Generic[T]):
    """A stream over any number of connections.

    Args:
        path: Path of the stream.
        retry: Retry policy.
        silence_s: Read timeout.
        headers: Headers of the first request; `feed` updates them for the next.

    Attributes:
        is_over: Whether the stream has ended.
        pause_s: Delay before the next connection, in seconds.
    """

    def __init__(self, path: str, retry: RetryPolicy, silence_s: float, headers: Mapping[str, str]) -> None:
        self.is_over = False
        self.pause_s = 0.0
        self._path = path
        self._retry = retry
        self._silence_s = silence_s
        self._headers = dict(headers)
        self._received_at = time.monotonic()
        self._refused_until = time.monotonic() + retry.max_backpressure_wait_s
        self._num_reconnects = 0

    def request(self) -> dict[str, Any]:
        """Return the next request as arguments of `httpx.Client.build_request`."""
        timeout = httpx.Timeout(min(_CONNECT_S, self._silence_s), read=self._silence_s)
        return {"method": "GET", "url": self._path, "headers": self._headers, "timeout": timeout}

    @abstractmethod
    def feed(self, piece: bytes) -> Iterator[T]:
        """Parse the next chunk of the body."""

    def on_response(self, answer: httpx.Response) -> bool:
        """Check the response headers; return whether to read the body.

        Raises:
            ProblemError: The service returned a problem.
        """
        self._sent = answer.request
        pause_s = retry_delay(answer)
        if pause_s is not None and time.monotonic() + pause_s < self._refused_until:
            self.pause_s = pause_s
            return False
        checked(answer)
        self._refused_until = time.monotonic() + self._retry.max_backpressure_wait_s
        return True

    def on_end(self) -> None:
        """Handle the regular end of the body."""
        self.is_over = True

    def on_error(self, error: httpx.RequestError) -> None:
        """Handle a connection error or read timeout.

        Raises:
            ConnectionFailedError: There are no tries left.
        """
        self._num_reconnects += 1
        self.pause_s = reconnect_delay(self._num_reconnects)
        if time.monotonic() + self.pause_s > self._received_at + self._retry.max_silence_s:
            raise connection_error(error) from None

    def _note_received(self) -> None:
        self._received_at = time.monotonic()
        self._num_reconnects = 0


class JobEventStream(ResumableStream[Job]):
    """The events of a job until it ends.

    Args:
        job_id: ID of the job.
        retry: Retry policy.
        timeout_s: Timeout of the whole stream; None for none.
        ends_at_review: Whether the stream also ends when the job is in review.
    """

    def __init__(
        self, job_id: str, retry: RetryPolicy, timeout_s: float | None = None, ends_at_review: bool = False
    ) -> None:
        headers = {"Last-Event-ID": "0", "Accept": "text/event-stream"}
        super().__init__(f"{path_of('jobs', job_id)}/events", retry, _SILENCE_S, headers)
        self._job_id, self._ends_at_review = job_id, ends_at_review
        self._buffer = b""
        self._fields: dict[str, str] = {}
        self._timeout_s = timeout_s
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s

    def request(self) -> dict[str, Any]:
        """Return a request for the events after the last one seen."""
        self._buffer, self._fields = b"", {}
        self._silence_s = min(_SILENCE_S, max(0.05, self._remaining_s()))
        return super().request()

    def on_response(self, answer: httpx.Response) -> bool:
        """Check the response headers. 204: the job has ended and its final state was seen."""
        if answer.status_code == 204:
            self.is_over = True
            return False
        self._check_deadline()
        is_read = super().on_response(answer)
        self.pause_s = min(self.pause_s, max(0.0, self._remaining_s()))
        return is_read

    def feed(self, piece: bytes) -> Iterator[Job]:
        """Parse server-sent events (HTML Standard, section 9.2)."""
        self._note_received()
        *lines, self._buffer = (self._buffer + piece).split(b"\n")
        for line in lines:
            job = self._line(line.rstrip(b"\r").decode())
            if job is not None:
                yield job
        self._check_deadline()

    def on_end(self) -> None:
        """Handle the end of the body before the end of the job: reconnect."""
        if not self.is_over:
            self.on_error(httpx.RemoteProtocolError("The stream of events ended before the job.", request=self._sent))

    def on_error(self, error: httpx.RequestError) -> None:
        """Reconnect, unless the caller's timeout has expired."""
        self._check_deadline()
        if isinstance(error, httpx.ReadTimeout) and self._silence_s < _SILENCE_S:
            self.pause_s = 0.0  # caused by the caller's timeout, which is about to expire
            return
        super().on_error(error)
        self.pause_s = min(self.pause_s, max(0.0, self._remaining_s()))

    def _line(self, line: str) -> Job | None:
        if line:
            name, colon, value = line.partition(":")
            if name and colon:
                self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if fields.get("event") != "job" or "data" not in fields:
            return None
        try:
            job = from_json(Job, json.loads(fields["data"]))
        except ValueError:
            raise UnexpectedAnswerError(f"{self._path}: expected JSON, found {fields['data'][:80]!r}.") from None
        self._headers["Last-Event-ID"] = fields.get("id", self._headers["Last-Event-ID"])
        self.is_over = job.is_final or (self._ends_at_review and job.is_waiting_for_review)
        return job

    def _remaining_s(self) -> float:
        return float("inf") if self._deadline is None else self._deadline - time.monotonic()

    def _check_deadline(self) -> None:
        if self.is_over or self._deadline is None:
            return
        if self._remaining_s() <= 0:
            raise WaitTimeoutError(f"Job {self._job_id} did not end within {self._timeout_s:.1f} s.")


class VideoStream(ResumableStream[bytes]):
    """The bytes of a finished video. Resumes with a range request if the file is unchanged."""

    def __init__(self, job_id: str, retry: RetryPolicy) -> None:
        super().__init__(f"{path_of('jobs', job_id)}/video", retry, _PIECE_READ_S, {"Accept-Encoding": "identity"})
        self._num_bytes = 0
        self._etag = ""

    def on_response(self, answer: httpx.Response) -> bool:
        """Check the response headers."""
        if not super().on_response(answer):
            return False
        if self._num_bytes and answer.status_code != 206:
            raise ConnectionFailedError("The connection broke, and the video has changed since. Download it again.")
        self._etag = answer.headers.get("etag", "")
        return True

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the data unchanged."""
        self._note_received()
        self._num_bytes += len(piece)
        self._headers |= {"Range": f"bytes={self._num_bytes}-", "If-Range": self._etag}
        yield piece

    def on_error(self, error: httpx.RequestError) -> None:
        """Reconnect, if an ETag identifies the file."""
        if self._num_bytes and not self._etag:
            raise connection_error(error) from None
        super().on_error(error)


class PreviewStream(ResumableStream[bytes]):
    """The bytes of a preview, which grows with its job. Cannot resume after a connection error."""

    def __init__(self, job_id: str, retry: RetryPolicy) -> None:
        super().__init__(f"{path_of('jobs', job_id)}/preview", retry, _PREVIEW_READ_S, {})

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the data unchanged."""
        yield piece

    def on_error(self, error: httpx.RequestError) -> None:
        """End the stream."""
        raise connection_error(error) from None
