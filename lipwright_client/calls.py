"""Describes requests of the API and how to parse their responses. Does no I/O."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Required, TypedDict, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx

from lipwright_client.errors import UnexpectedAnswerError, UploadError
from lipwright_client.files import Source, Upload, is_url, upload_of
from lipwright_client.from_json import from_json
from lipwright_client.records import Job, Turns

T = TypeVar("T")

UPLOAD_READ_S: Final = 3600.0  # the service downloads URL inputs before it responds
_FILES: Final = ("audio", "video", "face_image", "subtitles", "diarization", "music", "background_file")
_FORMATS: Final = ("mp4", "webm", "mov")
_UPLOAD_WRITE_S: Final = 120.0  # a busy service applies backpressure


class AvatarSettings(TypedDict, total=False):
    """What an avatar's jobs and live sessions show unless they set it; None counts as absent.

    `expressiveness` scales the mouth movement (0 to 2), and `motion` says how far a still picture moves (0 to 1); both
    are 1 by default. Its `expression` is `neutral`, `happy`, `sad`, `angry`, `surprised` or `serious`, its `gaze` is
    `free`, `camera` or a point `x,y` (shares of the picture), and its `head` is `lively`, `calm` or `still`.
    `background` is a colour (`#00b140`, `white`) or `blur`, and `source` removes the background. Instead,
    `background_file` is a picture or a video, or `background_id` the ID of a stored one; `background_loop` says what
    follows the end of a video (`loop`, `pingpong`, `hold`). `matte` says how the person is cut out: `auto`, `person` or
    `chroma`.
    """

    expressiveness: float | None
    motion: float | None
    expression: str | None
    gaze: str | None
    head: str | None
    background: str | None
    background_file: Source | None
    background_id: str | None
    background_loop: str | None
    matte: str | None


class AvatarFields(AvatarSettings, total=False):
    """Fields of a new avatar; None counts as absent. Movement and background as in `AvatarSettings`.

    `face` is `largest`, `speaking` (who speaks most), `person:N` (see `avatars.people`), an index by size, `point:x,y`
    or `box:x0,y0,x1,y1`; `face_image` is a portrait of the person, as an alternative. `face_points` marks a face in a
    still picture in which none is found: `left_eye`, `right_eye`, `mouth_left`, `mouth_right` and `chin`, each x and y
    in pixels. With `keep=False` the avatar is not listed and is evicted when unused.
    """

    video: Required[Source]
    face: str | None
    face_image: Source | None
    face_points: Mapping[str, Sequence[float]] | None
    keep: bool | None


class JobFields(AvatarSettings, total=False):
    """Fields of a new job; None counts as absent.

    Exactly one of `video` (a video or a still portrait) and `avatar_id`, and one of `audio` and `text` (spoken by
    `voice`). `visible_label` and `visible_label_top` add a visible AI mark. `face`, `face_image` and `face_points` as
    for avatars; `loop` fits the video to the speech: `pingpong`, `natural`, `loop`, `hold`, `cut`, `source` or
    `retime`, with which `max_audio_stretch` fits the speech too; `background_gain_db` keeps the video's own sound under
    the speech; `music` is a file that plays under it, with `music_gain_db`; `loudness_lufs` normalizes the result;
    `size` (`1080x1920`), `crop` (`9:16`, following the face that speaks) and `fps` frame the picture; `format` is
    `mp4`, `webm` or `mov`, and its `quality` is `fast`, `balanced` or `best`;
    `background` is a colour (`#00b140`, `white`), `blur`, `transparent`, or `source` for an avatar with another
    background; `background_file`, `expressiveness`, `motion` and the others as in `AvatarSettings`, by default those of
    the avatar; `engine` is one of `engines.list()`; `priority` is
    -1, 0 or 1; `callback_url` receives a signed webhook; `metadata` is returned with the job.

    Several people speak with `turns` instead of one speech: each is a mapping with `start` and `end` in seconds of the
    video, a `face`, a `gain_db`, an `expression` of a still picture, and a `text` with a `voice`, or `audio`, the name
    of a file: `audio`, or a key of `more_audio` (`audio_NAME`). Turns can also be made of `subtitles` (SRT or WebVTT,
    spoken by voices), or of `audio` and its `diarization` (RTTM or JSON), or of what is said in the video, translated:
    `translate_to` (`de`, `German`), if the service is configured for that. `speakers` then maps names of speakers to
    mappings with `face` and `voice`. `idle_mouths` of people who do not speak stay as in the `source` or are `closed`;
    `subtitles_output` is `track` or `burnt`. `language` (`de`, `German`) chooses voices for texts without one, a
    different one for each speaker, and marks the sound and the text track. With `review`, the job stops once its texts
    are spoken: see `lipwright.jobs.turns`, `jobs.edit_turn` and `jobs.approve`.

    An avatar with clips shows `action` at the start, and the actions that turns have or texts name: `Hello! [wave]`.

    Repeating a call with the same `idempotency_key` returns the same job; without
    one, each call creates a new job.
    """

    audio: Source | None
    text: str | None
    voice: str | None
    video: Source | None
    avatar_id: str | None
    visible_label: bool | None
    visible_label_top: bool | None
    engine: str | None
    face: str | None
    face_image: Source | None
    face_points: Mapping[str, Sequence[float]] | None
    loop: str | None
    action: str | None
    turns: Sequence[Mapping[str, Any]] | None
    more_audio: Mapping[str, Source] | None
    subtitles: Source | None
    diarization: Source | None
    translate_to: str | None
    speakers: Mapping[str, Mapping[str, str]] | None
    idle_mouths: str | None
    subtitles_output: str | None
    review: bool | None
    language: str | None
    max_audio_stretch: float | None
    background_gain_db: float | None
    music: Source | None
    music_gain_db: float | None
    loudness_lufs: float | None
    size: str | None
    crop: str | None
    fps: float | None
    format: str | None
    quality: str | None
    priority: int | None
    callback_url: str | None
    metadata: Mapping[str, str] | None
    idempotency_key: str | None


class TurnOptions(TypedDict, total=False):
    """Fields that a new turn of a job in review may have; None is the default.

    The text is spoken by `voice`; `face` says who speaks, as in `turns` of a job; `speaker` is a name; the speech
    should end at `end` seconds of the video; `gain_db` is its gain; `action` is one that the avatar shows at its start;
    `expression` is that of a still picture.
    """

    voice: str | None
    face: str | None
    speaker: str | None
    end: float | None
    gain_db: float | None
    action: str | None
    expression: str | None


class TurnFields(TurnOptions, total=False):
    """Fields of a turn of a job in review that can be changed; None resets a field."""

    text: str
    start: float


class RevisionFields(TypedDict, total=False):
    """What a revision changes in a finished job.

    `turns` are mappings with the `number` of a turn and `TurnFields`, `removed_turns` numbers, and `added_turns`
    mappings with `text`, `start` and `TurnOptions`; all numbers are those of the turns of the finished job. `settings`
    are other values of `background_gain_db`, `loudness_lufs`, `music_gain_db`, `subtitles_output`, `visible_label` or
    `visible_label_top`, as in `JobFields`; None resets the first four. With `review`, the new job stops for review.
    """

    turns: Sequence[Mapping[str, Any]]
    removed_turns: Sequence[int]
    added_turns: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    review: bool


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
        is_idempotent: Whether the call may be repeated although the service may have obeyed it.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = Body()
    read_timeout_s: float | None = None
    removes: bool = False
    is_idempotent: bool = True

    def timeout(self, usual: httpx.Timeout) -> httpx.Timeout:
        """Return the timeouts of this call; `usual` are the client's."""
        if self.read_timeout_s is None:
            return usual
        return httpx.Timeout(usual.connect, read=self.read_timeout_s, write=_UPLOAD_WRITE_S)


def create_job(fields: Mapping[str, Any]) -> Call[Job]:
    """Submit a job with `JobFields`. Safe to retry: it carries an idempotency key."""
    given = {name: value for name, value in fields.items() if name != "idempotency_key"}
    headers = {"Idempotency-Key": str(fields.get("idempotency_key") or uuid4().hex)}
    return Call("POST", "/v1/jobs", reads(Job), headers=headers, body=body_of(given), read_timeout_s=UPLOAD_READ_S)


def format_of(suffix: str, chosen: str | None) -> str:
    """Return the format of a video whose file has this suffix; `chosen` is the format that the caller named.

    Raises:
        UploadError: The service makes no such files, or the caller named another format.
    """
    known = _FORMATS if chosen is None else (chosen,)
    if (found := suffix.lower().removeprefix(".")) not in known:
        expected = " or ".join(f".{name}" for name in known)
        raise UploadError(f"out: expected a file name that ends in {expected}, found {suffix}.")
    return found


def upload(path: str, read: Callable[[httpx.Response], T], fields: Mapping[str, Any], method: str = "POST") -> Call[T]:
    """Send fields and files to `path`.

    Raises:
        UploadError: A file cannot be sent, or there are no fields.
    """
    return Call(method, path, read, body=body_of(fields), read_timeout_s=UPLOAD_READ_S)


def edit_turns(
    method: str, job_id: str, place: str = "", version: int | None = None, fields: Mapping[str, Any] | None = None
) -> Call[Turns]:
    """Change the turns of a job in review. `place` follows `/turns` in the path.

    The numbers of turns change with edits, so an edit whose response is lost must not be repeated.

    Raises:
        UploadError: `fields` are empty.
    """
    if fields is not None and not fields:
        raise UploadError("Pass at least one field to change.")
    return Call(
        method,
        f"{path_of('jobs', job_id)}/turns{place}",
        reads(Turns),
        headers={} if version is None else {"If-Match": f'"{version}"'},
        body=Body(fields or {}),
        read_timeout_s=UPLOAD_READ_S,  # the text is spoken before the service responds
        is_idempotent=False,
    )


def delete(path: str) -> Call[None]:
    """Delete what is at `path`."""
    return Call("DELETE", path, lambda answer: None, removes=True)


def path_of(collection: str, name: str) -> str:
    """Return the path of a member of a collection, such as `jobs`."""
    return f"/v1/{collection}/{quote(name, safe='')}"


def body_of(fields: Mapping[str, Any]) -> Body:
    """Return the body with these fields: files as uploads, URLs as `NAME_url`.

    Raises:
        UploadError: A file cannot be sent.
    """
    plain: dict[str, Any] = {}
    uploads: dict[str, Upload] = {}
    more_audio = fields.get("more_audio") or {}
    for name, value in {**fields, "more_audio": None, **more_audio}.items():
        if value is None:
            continue
        if name not in _FILES and name not in more_audio:
            plain[name] = value
        elif is_url(value):
            plain[name if value.startswith("data:") else f"{name}_url"] = value
        else:
            uploads[name] = upload_of(value, name)
    if not plain and not uploads:
        raise UploadError("Pass at least one file, URL or option.")
    return Body(plain, uploads)


def text_of(answer: httpx.Response) -> str:
    """Parse a response that is a text."""
    return answer.text


def reads(kind: type[T]) -> Callable[[httpx.Response], T]:
    """Return a parser for JSON responses of type `kind`."""

    def read(answer: httpx.Response) -> T:
        try:
            value = answer.json()
        except ValueError:
            found = answer.headers.get("content-type", "nothing")
            raise UnexpectedAnswerError(f"{answer.request.url}: expected JSON, found {found}.") from None
        return from_json(kind, value)

    return read


def _form_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
