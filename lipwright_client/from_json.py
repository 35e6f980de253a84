"""Parses JSON into dataclasses. Unknown fields, from newer services, are ignored."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from lipwright_client.errors import UnexpectedAnswerError

T = TypeVar("T")


def from_json(kind: type[T], value: object) -> T:
    """Return an instance of the dataclass `kind`. A field named `raw` receives `value` itself.

    Raises:
        UnexpectedAnswerError: `value` is not an object, or a required field is missing.
    """
    if not isinstance(value, Mapping):
        raise UnexpectedAnswerError(f"{kind.__name__}: expected a JSON object, found {type(value).__name__}.")
    known: dict[str, Any] = {}
    hints = _hints(kind)  # type: ignore[arg-type]
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name == "raw":
            known["raw"] = value
        elif field.name in value:
            known[field.name] = _read(hints[field.name], value[field.name], f"{kind.__name__}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UnexpectedAnswerError(f"{kind.__name__}: expected a field {field.name!r}, found {sorted(value)}.")
    return kind(**known)


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(hint: Any, value: object, place: str) -> object:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        known = next(each for each in arguments if each is not type(None))
        return None if value is None else _read(known, value, place)
    if origin is tuple and isinstance(value, list):
        return tuple(_read(arguments[0], each, place) for each in value)
    if origin is not None and _is_mapping(origin) and isinstance(value, Mapping):
        return {name: _read(arguments[1], each, place) for name, each in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, value)
    if hint is datetime:
        return _datetime(value, place)
    return value


def _is_mapping(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _datetime(value: Any, place: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise UnexpectedAnswerError(f"{place}: expected a date and time in ISO 8601, found {value!r}.") from None
