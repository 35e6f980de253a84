"""Every request of the API, described once: what is sent, and what its answer is read as. Nothing here connects."""

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
"""Longest wait for the answer to an upload: the service fetches URL inputs before it answers (its own bound)."""

_MAX_PAGE: Final = 500  # jobs in one answer, the service's own bound
_UPLOAD_WRITE_S: Final = 120.0  # a busy service takes an upload in at its own pace


class AvatarFields(TypedDict, total=False):
    """What an avatar is made of.

    `face` is `largest`, an index by size, `point:x,y` or `box:x0,y0,x1,y1`; `face_image` a portrait of the person who
    is meant, in its place. Without `keep` it is listed and stays; with `keep=False` it goes when it is long unused.
    """

    video: Required[Source]
    face: str
    face_image: Source
    keep: bool


class JobFields(TypedDict, total=False):
    """What a job is made of.

    Either `video` (a video or a still portrait) or `avatar_id`; `audio` is the speech, or `text` what is said in its
    place by `voice`, where the service has one. `visible_label` marks the picture as synthetic. `face` and `face_image`
    as for avatars; `loop` is `pingpong`, `loop` or `hold`; `engine` one of `engines.list()`; `priority` -1, 0 or 1;
    `callback_url` gets a signed webhook; `metadata` comes back in every answer about the job. With an
    `idempotency_key`, the same submission again gives the same job; without one, each call makes its own.
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
    """The fields and files of a submission: JSON where there are no files, else a form."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    uploads: Mapping[str, Upload] = field(default_factory=dict)

    @property
    def is_repeatable(self) -> bool:
        """Whether a broken request can be repeated."""
        return all(upload.is_repeatable for upload in self.uploads.values())

    @contextlib.contextmanager
    def opened(self) -> Iterator[dict[str, Any]]:
        """The arguments that httpx sends it by; opened anew for each try."""
        if not self.uploads:
            yield {"json": dict(self.fields)} if self.fields else {}
            return
        with contextlib.ExitStack() as files:
            parts = {name: (each.name, files.enter_context(each.opened())) for name, each in self.uploads.items()}
            yield {"data": {name: _form_text(value) for name, value in self.fields.items()}, "files": parts}


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request.

    Attributes:
        method: HTTP method.
        path: Path below the base URL.
        read: Makes the result of a successful answer.
        params: Query.
        headers: Header fields.
        body: Fields and files.
        read_timeout_s: Longest wait for the answer; None takes the client's.
        removes: Whether it removes something, so that on a second try "not found" is what was asked for.
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
        """The bounds of the waits of this call, where others have the `usual` ones."""
        if self.read_timeout_s is None:
            return usual
        return httpx.Timeout(usual.connect, read=self.read_timeout_s, write=_UPLOAD_WRITE_S)


def create_job(fields: Mapping[str, Any]) -> Call[Job]:
    """Submit a job of `JobFields`; safe to repeat, as it carries an idempotency key."""
    given = {name: value for name, value in fields.items() if name != "idempotency_key"}
    key = str(fields.get("idempotency_key") or uuid4().hex)
    headers = {"Idempotency-Key": key}
    return Call("POST", "/v1/jobs", reads(Job), headers=headers, body=body_of(given), read_timeout_s=UPLOAD_READ_S)


def get_job(job_id: str) -> Call[Job]:
    """Look at a job."""
    return Call("GET", job_path(job_id), reads(Job))


class JobPages:
    """The newest jobs, over as many pages as it takes.

    Args:
        limit: How many at most.
        status: Only jobs of this status.
        metadata: Only jobs that bear these words.
    """

    def __init__(self, limit: int, status: str | None, metadata: Mapping[str, str] | None) -> None:
        self.jobs: tuple[Job, ...] = ()
        self._limit = limit
        self._query = {"status": status} if status else {}
        if metadata:
            self._query["metadata"] = json.dumps(dict(metadata))
        self._is_over = limit < 1

    def next_call(self) -> Call[JobList] | None:
        """The call for the next page; None when there is no more to ask for."""
        if self._is_over:
            return None
        page_size = min(_MAX_PAGE, self._limit - len(self.jobs))
        return Call("GET", "/v1/jobs", reads(JobList), {**self._query, "limit": str(page_size)})

    def take(self, page: JobList) -> None:
        """Add the page that was asked for."""
        self.jobs += page.jobs
        self._is_over = page.next_after is None or not page.jobs or len(self.jobs) >= self._limit
        self._query["after"] = str(page.next_after)


def cancel_job(job_id: str) -> Call[Job]:
    """Cancel a job; a finished one stays as it is."""
    return Call("POST", f"{job_path(job_id)}/cancel", reads(Job))


def delete_job(job_id: str) -> Call[None]:
    """Remove a finished job with its files. An unfinished one would only be cancelled: cancel first."""
    return Call("DELETE", job_path(job_id), _nothing, removes=True)


def create_avatar(fields: Mapping[str, Any]) -> Call[Avatar]:
    """Send an avatar of `AvatarFields`; the same again gives the same avatar."""
    return Call("POST", "/v1/avatars", reads(Avatar), body=body_of(fields), read_timeout_s=UPLOAD_READ_S)


def live_source(avatar_id: str | None, video: Source | None) -> str | Call[Avatar]:
    """Who speaks in a live session: an avatar that is there, or the call that sends one.

    Raises:
        UploadError: Both or neither are given, or the video cannot be sent.
    """
    if (avatar_id is None) == (video is None):
        raise UploadError(f"Expected either an avatar_id or a video, found {'neither' if video is None else 'both'}.")
    return avatar_id if avatar_id is not None else create_avatar({"video": video, "keep": False})


def get_avatar(avatar_id: str) -> Call[Avatar]:
    """Look at an avatar."""
    return Call("GET", _avatar_path(avatar_id), reads(Avatar))


def list_avatars() -> Call[tuple[Avatar, ...]]:
    """The avatars that are kept."""
    return Call("GET", "/v1/avatars", lambda answer: reads(AvatarList)(answer).avatars)


def delete_avatar(avatar_id: str) -> Call[None]:
    """Forget an avatar."""
    return Call("DELETE", _avatar_path(avatar_id), _nothing, removes=True)


def list_engines() -> Call[EngineList]:
    """What a job's engine can be."""
    return Call("GET", "/v1/engines", reads(EngineList))


def get_voices() -> Call[Voices]:
    """Whether texts are spoken."""
    return Call("GET", "/v1/voices", reads(Voices))


def get_status() -> Call[ServiceStatus]:
    """How busy the service is."""
    return Call("GET", "/v1/status", reads(ServiceStatus))


def job_path(job_id: str) -> str:
    """The path of a job."""
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _avatar_path(avatar_id: str) -> str:
    return f"/v1/avatars/{quote(avatar_id, safe='')}"


def body_of(fields: Mapping[str, Any]) -> Body:
    """The body with these fields: sources as files or, where they are URLs, as `NAME_url`.

    Raises:
        UploadError: A source cannot be sent.
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
        raise UploadError("Expected at least one file, URL or option, found none.")
    return Body(plain, uploads)


def reads(kind: type[T]) -> Callable[[httpx.Response], T]:
    """A reader of answers that are `kind` as JSON."""

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


def _form_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
