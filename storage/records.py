"""The stored records of avatars and segments. All are frozen and picklable."""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from jobs.model.avatar_settings import AvatarSettings
from jobs.model.files import ErrorRecord, Frozen


class AvatarStatus(StrEnum):
    """The status of an avatar."""

    ANALYSING = "analysing"
    READY = "ready"
    FAILED = "failed"


class SegmentStatus(StrEnum):
    """The status of a segment."""

    PENDING = "pending"
    DONE = "done"


class AvatarInfo(Frozen):
    """What the analysis found in an avatar's source."""

    width: int
    height: int
    fps: str = Field(description="Exact rate as a fraction, such as `30000/1001`.")
    num_frames: int
    duration_seconds: float
    is_still: bool
    talks: bool = Field(description="Whether the mouth moves in the source, so that exemplars can be taken from it.")


def _or_nothing_set(stored: object) -> object:
    return AvatarSettings() if stored is None else stored


class AvatarRecord(Frozen):
    """One avatar. A pinned avatar stays until it is deleted; the others are a cache."""

    key: str = Field(description="Hash of the source and of how it is analysed; names the folder.")
    id: str = Field(description="Id for clients.")
    version: int = 1
    status: AvatarStatus = AvatarStatus.ANALYSING
    pinned: bool = False
    analyse_on_create: bool = Field(
        False, description="Whether a caller created it itself, so that it is analysed without a job."
    )
    owner: str | None = None
    label: str = ""
    face: str = "largest"
    source_sha256: str
    source_info: dict[str, Any] | None = Field(
        None, description="`media.probe.VideoInfo` of the source as JSON; None in rows of older versions."
    )
    analysed_for: dict[str, str] = Field(
        {}, description="Engines that have analysed it, with the time; replicas check the files when they load them."
    )
    info: AvatarInfo | None = None
    settings: Annotated[AvatarSettings, BeforeValidator(_or_nothing_set)] = Field(
        AvatarSettings(), description="Defaults of its jobs and live sessions; NULL in rows of older versions."
    )
    error: ErrorRecord | None = None
    created_at: datetime
    last_used_at: datetime


class SegmentRecord(Frozen):
    """Frames [start, stop) of the output of a job, and whether they are rendered."""

    job_id: str
    number: int
    start: int
    stop: int
    status: SegmentStatus = SegmentStatus.PENDING
    num_bytes: int = 0
    sha256: str = Field("", description="Hash of its file; a file that does not match is rendered again.")
    encoding: str = Field("", description="Settings of its encoder; after a change it is rendered again.")
    identity: str = Field("", description="Hash of everything that decides its bytes; see `jobs.segments.identity`.")
    silent_motion: dict[str, float] = Field({}, description="`RunningStats` of the mouths' motion in silence.")
    attempts: int = 0


def avatar_key(source_sha256: str, face: str, analysis_version: str, owner: str | None = None) -> str:
    """Return the cache key of an analysis, 32 hexadecimal digits from source, face choice, version and owner.

    Owners share no analysis, so that nobody can tell from its speed what others have uploaded.
    """
    text = f"{analysis_version}\n{source_sha256}\n{face}" + ("" if owner is None else f"\n{owner}")
    return hashlib.sha256(text.encode()).hexdigest()[:32]
