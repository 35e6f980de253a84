"""Action Message Format 0 (AMF0), as far as publishing needs it (Adobe, "Action Message Format -- AMF 0", 2007)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

Value = float | bool | str | None | Mapping[str, "Value"]

_NUMBER, _BOOLEAN, _STRING, _OBJECT, _NULL, _UNDEFINED, _ECMA_ARRAY, _END, _STRICT_ARRAY, _DATE, _LONG_STRING = (
    *range(4),
    *range(5, 7),
    *range(8, 13),
)
_MAX_DEPTH: Final = 8


def encode(*values: Value) -> bytes:
    """Encodes values one after the other."""
    return b"".join(map(_encode, values))


def decode(data: bytes) -> list[Value]:
    """Decodes all values of a message.

    Raises:
        ValueError: The data is malformed.
    """
    values: list[Value] = []
    place = 0
    try:
        while place < len(data):
            value, place = _decode(data, place, 0)
            values.append(value)
    except (struct.error, IndexError) as error:
        raise ValueError("expected AMF0, found data that ends early") from error
    return values


def _encode(value: Value) -> bytes:
    if value is None:
        return bytes([_NULL])
    if isinstance(value, bool):
        return bytes([_BOOLEAN, value])
    if isinstance(value, int | float):
        return struct.pack(">Bd", _NUMBER, value)
    if isinstance(value, str):
        return bytes([_STRING]) + _text(value)
    fields = b"".join(_text(key) + _encode(field) for key, field in value.items())
    return bytes([_OBJECT]) + fields + struct.pack(">HB", 0, _END)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data


def _decode(data: bytes, place: int, depth: int) -> tuple[Value, int]:
    kind, place = data[place], place + 1
    if depth > _MAX_DEPTH:
        raise ValueError("expected AMF0, found objects nested too deeply")
    if kind == _NUMBER:
        return float(struct.unpack_from(">d", data, place)[0]), place + 8
    if kind == _BOOLEAN:
        return bool(data[place]), place + 1
    if kind in (_STRING, _LONG_STRING):
        return _read_text(data, place, ">H" if kind == _STRING else ">I")
    if kind in (_NULL, _UNDEFINED):
        return None, place
    if kind == _DATE:
        return float(struct.unpack_from(">d", data, place)[0]), place + 10
    if kind in (_OBJECT, _ECMA_ARRAY):
        return _object(data, place + (4 if kind == _ECMA_ARRAY else 0), depth)
    if kind == _STRICT_ARRAY:
        (num,) = struct.unpack_from(">I", data, place)
        items, place = {}, place + 4
        for number in range(num):
            items[str(number)], place = _decode(data, place, depth + 1)
        return items, place
    raise ValueError(f"expected AMF0, found a value of type {kind}")


def _object(data: bytes, place: int, depth: int) -> tuple[Value, int]:
    fields: dict[str, Value] = {}
    while True:
        key, place = _read_text(data, place, ">H")
        if not key and data[place] == _END:
            return fields, place + 1
        fields[key], place = _decode(data, place, depth + 1)


def _read_text(data: bytes, place: int, size: str) -> tuple[str, int]:
    (length,) = struct.unpack_from(size, data, place)
    place += struct.calcsize(size)
    if place + length > len(data):
        raise IndexError
    return data[place : place + length].decode("utf-8", "replace"), place + length
