"""Describes every request of the API and how to parse its response. Does no I/O."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Required, TypedDict, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx

from lipwright_client.errors import UnexpectedAnswerError, UploadError
from lipwright_client.from_json import from_json
from lipwright_client.records import Avatar, AvatarList, EngineList, Job, JobList, ServiceStatus, Voices
from lipwright_client.sources import Source, Upload, is_url, upload_of

T = TypeVar("T")

UPLOAD_READ_S: Final = 3600.0
"""Read timeout of uploads: the service downloads URL inputs before it responds."""

_MAX_PAGE: Final = 500  # page size limit of the service
_UPLOAD_WRITE_S: Final = 120.0  # a busy service applies backpressure


class AvatarFields(TypedDict, total=False):
    """Fields of a new avatar.

    `face` is `largest`, an index by size, `point:x,y` or `box:x0,y0,x1,y1`; `face_image` is a portrait of the person,
    as an alternative. With `keep=False` the avatar is not listed and is evicted when unused.
    """

    video: Required[Source]
    face: str
    face_image: Source
    keep: bool


class JobFields(TypedDict, total=False):
    """Fields of a new job.

    Exactly one of `video` (a video or a still portrait) and `avatar_id`, and one of `audio` and `text` (spoken by
    `voice`). `visible_label` adds a visible AI mark. `face` and `face_image` as for avatars; `loop` is `pingpong`,
    `loop` or `hold`; `engine` is one of `engines.list()`; `priority` is -1, 0 or 1; `callback_url` receives a signed
    webhook; `metadata` is returned with the job. Repeating a call with the same `idempotency_key` returns the same job;
    without one, each call creates a new job.
    """

    audio: Source
    text: str
    voice: str
    video: Source
    avatar_id: str
    visible_label: bool
    engine: str
    face: str
    face_image: Source
    loop: str
    priority: int
    callback_url: str
    metadata: Mapping[str, str]
    idempotency_key: str


@dataclass(frozen=True)
class Body:
    """Fields and files of a request: sent as JSON, or as a multipart form if there are files."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    uploads: Mapping[str, Upload] = field(default_factory=dict)

    @property
    def is_repeatable(self) -> bool:
        """Whether the request can be retried."""
        return all(upload.is_repeatable for upload in self.uploads.values())

    @contextlib.contextmanager
    def opened(self) -> Iterator[dict[str, Any]]:
        """Yield the arguments for httpx; files are opened again for each try."""
        if not self.uploads:
            yield {"json": dict(self.fields)} if self.fields else {}
            return
        with contextlib.ExitStack() as files:
            parts = {name: (each.name, files.enter_context(each.opened())) for name, each in self.uploads.items()}
            yield {"data": {name: _form_text(value) for name, value in self.fields.items()}, "files": parts}


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request.

    Attributes:
        method: HTTP method.
        path: Path relative to the base URL.
        read: Parses a successful response.
        params: Query parameters.
        headers: Headers.
        body: Fields and files.
        read_timeout_s: Read timeout; None for the client's.
        removes: Whether the call deletes something, so that "not found" on a retry means success.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = Body()
    read_timeout_s: float | None = None
    removes: bool = False

    def timeout(self, usual: httpx.Timeout) -> httpx.Timeout:
        """Return the timeouts of this call; `usual` are the client's."""
        if self.read_timeout_s is None:
            return usual
        return httpx.Timeout(usual.connect, read=self.read_timeout_s, write=_UPLOAD_WRITE_S)


def create_job(fields: Mapping[str, Any]) -> Call[Job]:
    """Submit a job with `JobFields`. Safe to retry: it carries an idempotency key."""
    given = {name: value for name, value in fields.items() if name != "idempotency_key"}
    key = str(fields.get("idempotency_key") or uuid4().hex)
    headers = {"Idempotency-Key": key}
    return Call("POST", "/v1/jobs", reads(Job), headers=headers, body=body_of(given), read_timeout_s=UPLOAD_READ_S)


def get_job(job_id: str) -> Call[Job]:
    """Get a job."""
    return Call("GET", job_path(job_id), reads(Job))


class JobPages:
    """Lists jobs page by page, newest first.

    Args:
        limit: Maximum number of jobs.
        status: Filter by status.
        metadata: Filter by metadata.
    """

    def __init__(self, limit: int, status: str | None, metadata: Mapping[str, str] | None) -> None:
        self.jobs: tuple[Job, ...] = ()
        self._limit = limit
        self._query = {"status": status} if status else {}
        if metadata:
            self._query["metadata"] = json.dumps(dict(metadata))
        self._is_over = limit < 1

    def next_call(self) -> Call[JobList] | None:
        """Return the call for the next page; None after the last."""
        if self._is_over:
            return None
        page_size = min(_MAX_PAGE, self._limit - len(self.jobs))
        return Call("GET", "/v1/jobs", reads(JobList), {**self._query, "limit": str(page_size)})

    def take(self, page: JobList) -> None:
        """Add a received page."""
        self.jobs += page.jobs
        self._is_over = page.next_after is None or not page.jobs or len(self.jobs) >= self._limit
        self._query["after"] = str(page.next_after)


def cancel_job(job_id: str) -> Call[Job]:
    """Cancel a job."""
    return Call("POST", f"{job_path(job_id)}/cancel", reads(Job))


def delete_job(job_id: str) -> Call[None]:
    """Delete a finished job with its files. An unfinished job would only be cancelled: cancel it first."""
    return Call("DELETE", job_path(job_id), _nothing, removes=True)


def create_avatar(fields: Mapping[str, Any]) -> Call[Avatar]:
    """Create an avatar with `AvatarFields`. Repeating the call returns the same avatar."""
    return Call("POST", "/v1/avatars", reads(Avatar), body=body_of(fields), read_timeout_s=UPLOAD_READ_S)


def live_source(avatar_id: str | None, video: Source | None) -> str | Call[Avatar]:
    """Return the avatar ID of a live session, or the call that creates the avatar.

    Raises:
        UploadError: Not exactly one is given, or the video cannot be sent.
    """
    if (avatar_id is None) == (video is None):
        raise UploadError("Pass either avatar_id or video.")
    return avatar_id if avatar_id is not None else create_avatar({"video": video, "keep": False})


def get_avatar(avatar_id: str) -> Call[Avatar]:
    """Get an avatar."""
    return Call("GET", _avatar_path(avatar_id), reads(Avatar))


def list_avatars() -> Call[tuple[Avatar, ...]]:
    """List kept avatars."""
    return Call("GET", "/v1/avatars", lambda answer: reads(AvatarList)(answer).avatars)


def delete_avatar(avatar_id: str) -> Call[None]:
    """Delete an avatar."""
    return Call("DELETE", _avatar_path(avatar_id), _nothing, removes=True)


def list_engines() -> Call[EngineList]:
    """List engines."""
    return Call("GET", "/v1/engines", reads(EngineList))


def get_voices() -> Call[Voices]:
    """List voices."""
    return Call("GET", "/v1/voices", reads(Voices))


def get_status() -> Call[ServiceStatus]:
    """Get the queue status."""
    return Call("GET", "/v1/status", reads(ServiceStatus))


def job_path(job_id: str) -> str:
    """Return the path of a job."""
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _avatar_path(avatar_id: str) -> str:
    return f"/v1/avatars/{quote(avatar_id, safe='')}"


def body_of(fields: Mapping[str, Any]) -> Body:
    """Return the body with these fields: files as uploads, URLs as `NAME_url`.

    Raises:
        UploadError: A file cannot be sent.
    """
    plain: dict[str, Any] = {}
    uploads: dict[str, Upload] = {}
    for name, value in fields.items():
        if value is None:
            continue
        if name not in ("audio", "video", "face_image"):
            plain[name] = value
        elif is_url(value):
            plain[name if value.startswith("data:") else f"{name}_url"] = value
        else:
            uploads[name] = upload_of(value, name)
    if not plain and not uploads:
        raise UploadError("Pass at least one file, URL or option.")
    return Body(plain, uploads)


def reads(kind: type[T]) -> Callable[[httpx.Response], T]:
    """Return a parser for JSON responses of type `kind`."""

    def read(answer: httpx.Response) -> T:
        try:
            value = answer.json()
        except ValueError as error:
            found = answer.headers.get("content-type", "nothing")
            raise UnexpectedAnswerError(f"{answer.request.url}: expected JSON, found {found}.") from error
        return from_json(kind, value)

    return read


def _nothing(answer: httpx.Response) -> None:
    return None


def _form_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
