"""Converts records to rows and back: models and dicts become JSON text, times become sortable UTC text."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import TypeVar, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from jobs.model.request_model import RequestModel
from storage.protocols import Row

_Record = TypeVar("_Record", bound=BaseModel)


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
        name: json.loads(value) if name in as_json and value is not None else value
        for name, value in row.items()
        if name in kind.model_fields
    }
    return kind.model_validate({**fields, **more})


def timestamp(time: datetime) -> str:
    """Return a time as UTC text that sorts by time."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _encode(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump_json(exclude_unset=isinstance(value, RequestModel))  # as it was sent
    if isinstance(value, dict):
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
    """Return the names of the fields that hold a model or a dict, or may be None instead."""

    def is_json(part: object) -> bool:
        return get_origin(part) is dict or (isinstance(part, type) and issubclass(part, BaseModel))

    return frozenset(
        name
        for name, field in kind.model_fields.items()
        if any(is_json(part) for part in (field.annotation, *get_args(field.annotation)))
    )
