"""Builds and checks job requests, for all API dialects and for batch jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import Field

from errors import ForbiddenError, KeyReuseError, OptionError
from storage.avatar_settings import AvatarSettings
from storage.job_settings import JobSettings
from storage.records import MUSIC, Frozen, JobInputs, JobOptions, JobRecord, SubtitlePlace, Turn, UploadedFile, new_id

_NORMAL_PRIORITY: Final = 0
_TOP_PRIORITY: Final = 1


@dataclass(frozen=True)
class Caller:
    """Who sent a request: the id of the API key, None without keys, and the highest priority of the caller's jobs."""

    owner: str | None = None
    max_priority: int = _TOP_PRIORITY


class JobRequest(JobInputs):
    """A job as it is handed to the Director, with exactly one of `video` and `avatar_id`.

    Sending it again is safe: the answer is the job that `job_id` already names.
    """

    job_id: str
    admission_id: str | None = None
    avatar_id: str | None = None
    face_image: UploadedFile | None = Field(None, description="Picture of the person in the video who speaks.")
    max_audio_stretch: float | None = Field(
        None, description="How much faster or slower the speech may be played to fit the video; null: not at all."
    )


class TurnsRequest(Frozen):
    """Turns with texts that are not yet spoken, with exactly one of `video` and `avatar_id`."""

    turns: tuple[Turn, ...]
    audio_files: dict[str, UploadedFile]
    video: UploadedFile | None = None
    avatar_id: str | None = None
    face: str = Field(description="The face of the job, for turns without one.")
    owner: str | None = None


class TurnFacts(Frozen):
    """What is known of turns before their texts are spoken.

    Attributes:
        faces: The face of each turn; those that are known to be the same person have the same name.
        video_seconds: Length of the video; None for a still.
    """

    faces: tuple[str | None, ...]
    video_seconds: float | None


class AvatarRequest(Frozen):
    """An avatar to analyse."""

    admission_id: str | None = None
    video: UploadedFile
    face: str = "largest"
    face_image: UploadedFile | None = None
    keep: bool = Field(True, description="Whether it stays until it is deleted; otherwise it is part of the cache.")
    settings: AvatarSettings = Field(
        AvatarSettings(),
        description="Defaults of its jobs and live sessions; fields that are not set stay as they are.",
    )
    background_file: UploadedFile | None = Field(None, description="Its background as a picture or video.")
    owner: str | None = None


class AvatarChange(Frozen):
    """A change of the settings of an avatar; fields as in `AvatarRequest`."""

    admission_id: str | None = None
    avatar_id: str
    settings: AvatarSettings
    background_file: UploadedFile | None = None
    owner: str | None = None


class BackgroundRequest(Frozen):
    """A picture or video that becomes a stored background."""

    admission_id: str | None = None
    background_file: UploadedFile
    owner: str | None = None


class JobRequestBuilder:
    """Builds job requests with the defaults of one service."""

    def __init__(self, default_engine: str, check_callback_url: Callable[[str], object] | None = None) -> None:
        """Set the defaults; `check_callback_url` raises UrlRefusedError for a URL that webhooks may not be sent to."""
        self._default_engine = default_engine
        self._check_callback_url = check_callback_url

    def build(
        self,
        caller: Caller,
        settings: JobSettings,
        *,
        audio: UploadedFile,
        more_audio: Mapping[str, UploadedFile] | None = None,
        turns: Sequence[Turn] | None = None,
        idle_mouths: Literal["source", "closed"] | None = None,
        subtitles: SubtitlePlace | None = None,
        video: UploadedFile | None = None,
        avatar_id: str | None = None,
        face_image: UploadedFile | None = None,
        engine: str | None = None,
        max_audio_stretch: float | None = None,
        visible_label_top: bool = False,
        music: UploadedFile | None = None,
        background_file: UploadedFile | None = None,
        music_gain_db: float | None = None,
        priority: int | None = None,
        callback_url: str | None = None,
        metadata: Mapping[str, str] | None = None,
        job_id: str | None = None,
        admission_id: str | None = None,
        idempotency_key: str | None = None,
        request_digest: str | None = None,
        base_url: str = "",
    ) -> JobRequest:
        """Return the checked request; None stands for a default, see `JobRequest` and `JobOptions` for the rest.

        Of `settings`, for example a form, only the fields of `JobSettings` are used. Those that are not set take the
        value of the avatar, see `AvatarSettings`, or their default.

        Raises:
            ForbiddenError: The priority is above the caller's.
            OptionError: There is not exactly one of `video` and `avatar_id`.
            UrlRefusedError: The callback URL is not allowed.
        """
        priority = _checked_priority(caller, priority)
        if (video is None) == (avatar_id is None):
            raise OptionError(f"Expected either a video or an avatar_id, found {'both' if video else 'neither'}.")
        if callback_url is not None and self._check_callback_url is not None:
            self._check_callback_url(callback_url)
        return JobRequest(
            job_id=job_id or new_id(),
            admission_id=admission_id,
            audio=audio,
            more_audio={**(more_audio or {}), **({} if music is None else {MUSIC: music})},
            background_file=background_file,
            video=video,
            avatar_id=avatar_id,
            face_image=face_image,
            max_audio_stretch=max_audio_stretch,
            options=JobOptions(
                **{**settings.shared(), **({} if turns is None else {"loop": "source"})},
                engine=engine or self._default_engine,
                turns=None if turns is None else tuple(turns),
                idle_mouths=None if turns is None else idle_mouths or "source",
                subtitles=subtitles,
                visible_label_top=visible_label_top,
                music_gain_db=None if music is None else music_gain_db,
            ),
            owner=caller.owner,
            idempotency_key=idempotency_key,
            callback_url=callback_url,
            priority=priority,
            metadata=dict(metadata or {}),
            request_digest=request_digest,
            base_url=base_url,
        )


def _checked_priority(caller: Caller, priority: int | None) -> int:
    """The priority of a job: by default normal, or the caller's highest where that is lower."""
    if priority is None:
        return min(_NORMAL_PRIORITY, caller.max_priority)
    if priority > caller.max_priority:
        raise ForbiddenError(f"priority: expected at most {caller.max_priority} with this API key, found {priority}.")
    return priority


def check_same_request(job: JobRecord, request_digest: str | None) -> None:
    """Refuse a request that carries the idempotency key of `job` but differs from the request that created it.

    One key stands for one request, however often it is sent; the IETF draft of the header
    (draft-ietf-httpapi-idempotency-key-header, section 2.6) answers another request with 422. Jobs of other dialects
    and of older versions have no digest, so that any request with their key counts as the same.

    Raises:
        KeyReuseError: It differs.
    """
    if None not in (job.request_digest, request_digest) and job.request_digest != request_digest:
        raise KeyReuseError(
            f"This Idempotency-Key was used for job {job.id}, with other files or fields. Use a new key for a new job."
        )
