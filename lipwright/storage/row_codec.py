"""The stored records of avatars and segments, and their conversion to rows: JSON text, times as UTC text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from enum import Enum, StrEnum
from functools import cache, lru_cache
from typing import Any, Final, TypeVar, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic_core import to_jsonable_python

from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.jobs.model.base import ErrorRecord, Frozen, RequestModel
from lipwright.jobs.model.clip import AvatarClip
from lipwright.storage.protocols import Row


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
        None, description="`lipwright.media.probe.VideoInfo` of the source as JSON; None until it was probed."
    )
    analysed_for: dict[str, str] = Field(
        {}, description="Engines that have analysed it, with the time; replicas check the files when they load them."
    )
    info: AvatarInfo | None = None
    settings: AvatarSettings = Field(AvatarSettings(), description="Defaults of its jobs and live sessions.")
    error: ErrorRecord | None = None
    clips: dict[str, AvatarClip] = Field({}, description="Its clips, by name.")
    belongs_to: str | None = Field(
        None, description="Key of the avatar whose clip or composite it is; it shows the same person."
    )
    parts: dict[str, AvatarClip] = Field(
        {}, description="Of a composite: what it is made of, by name; the avatar's own video first."
    )
    graph: list[Any] | None = Field(
        None, description="Of a composite: `models.clips.graph.ClipGraph` as JSON; None until it is composed."
    )
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
    identity: str = Field(
        "", description="Hash of everything that decides its bytes; see `lipwright.jobs.segments.identity`."
    )
    silent_motion: dict[str, float] = Field({}, description="`RunningStats` of the mouths' motion in silence.")
    attempts: int = 0


def avatar_key(source_sha256: str, face: str, analysis_version: str, owner: str | None = None) -> str:
    """Return the cache key of an analysis, 32 hexadecimal digits from source, face choice, version and owner.

    Owners share no analysis, so that nobody can tell from its speed what others have uploaded.
    """
    text = f"{analysis_version}\n{source_sha256}\n{face}" + ("" if owner is None else f"\n{owner}")
    return hashlib.sha256(text.encode()).hexdigest()[:32]


_Record = TypeVar("_Record", bound=BaseModel)
_MIN_LARGE: Final = 64 * 1024  # characters


def columns_of(kind: type[BaseModel], leave_out: Collection[str] = ()) -> list[str]:
    """Return the names of the columns of a record, one per field that is not in `leave_out`."""
    return [name for name in kind.model_fields if name not in leave_out]


def to_row(record: BaseModel, leave_out: Collection[str] = ()) -> dict[str, object]:
    """Return the column values of `record`, one per field that is not in `leave_out`."""
    return {name: _encode(getattr(record, name)) for name in columns_of(type(record), leave_out)}


def checked_fields(kind: type[BaseModel], fields: Mapping[str, object]) -> dict[str, object]:
    """Return the column values of some fields of a record; pydantic.ValidationError if one of them is invalid."""
    checked = kind.model_construct()
    for name, value in fields.items():
        kind.__pydantic_validator__.validate_assignment(checked, name, value)
    return {name: _encode(getattr(checked, name)) for name in fields}


def from_row(kind: type[_Record], row: Row, **more: object) -> _Record:
    """Return the record of `row`; `more` are fields that are not stored. Unknown columns are ignored."""
    as_json = _json_fields(kind)
    fields = {
        name: _read_json(kind, name, value) if name in as_json and value is not None else value
        for name, value in row.items()
        if name in kind.model_fields
    }
    return kind.model_validate({**fields, **more})


def _read_json(kind: type[BaseModel], name: str, text: str) -> object:
    annotation = kind.model_fields[name].annotation
    if len(text) < _MIN_LARGE or not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return json.loads(text)
    return _read_large(annotation, text)


@lru_cache(maxsize=8)
def _read_large(kind: type[BaseModel], text: str) -> BaseModel:
    """Reading the plan of a draft of thousands of turns takes 100 ms, and many requests ask for the same one."""
    return kind.model_validate(json.loads(text))


def timestamp(time: datetime) -> str:
    """Return a time as UTC text that sorts by time."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _encode(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump_json(exclude_unset=isinstance(value, RequestModel))  # as it was sent
    if isinstance(value, dict | list):
        return json.dumps(to_jsonable_python(value))
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, bool):
        return int(value)
    return value


@cache
def _json_fields(kind: type[BaseModel]) -> frozenset[str]:
    """Return the names of the fields that hold a model, a dict or a list, or may be None instead."""

    def is_json(part: object) -> bool:
        return get_origin(part) in (dict, list) or (isinstance(part, type) and issubclass(part, BaseModel))

    return frozenset(
        name
        for name, field in kind.model_fields.items()
        if any(is_json(part) for part in (field.annotation, *get_args(field.annotation)))
    )
