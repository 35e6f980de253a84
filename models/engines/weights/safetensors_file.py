"""Reads the header of a safetensors file; the tensors themselves are not read."""

from __future__ import annotations

import json
from math import prod
from typing import Any, BinaryIO, Final

from errors import WeightsError
from models.engines.protocol import TensorTable
from models.engines.weights.formats import Contents, bare_names

_LENGTH_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 16 * 1024**2  # the format allows 100 MB; ten thousand tensors take one
# safetensors, tensor.rs: bits of one element.
_BITS: Final = {
    **dict.fromkeys(("F4", "F4_E2M1"), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


def read_safetensors(file: BinaryIO, num_bytes: int) -> Contents:
    """Return what the header says after comparing it with the length of the file.

    Raises:
        WeightsError: The header is invalid, or refers to bytes that are not in the file.
    """
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if length > _MAX_HEADER_BYTES:
        raise WeightsError(f"expected a safetensors header of at most {_MAX_HEADER_BYTES} bytes, found one of {length}")
    text = file.read(length)
    if len(text) < length:
        raise WeightsError(f"expected a safetensors header of {length} bytes, found {len(text)}: the file is truncated")
    header = _parse_header(text)
    header.pop("__metadata__", None)
    stops = []
    shapes = {}
    for name, entry in header.items():
        shapes[name], span = _tensor(name, entry)
        stops.append(span)
    _check_spans(sorted(stops), num_bytes - _LENGTH_BYTES - length)
    return Contents(TensorTable("safetensors", bare_names(shapes)))


def _parse_header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=_refuse_duplicates)
    except (ValueError, RecursionError) as error:
        raise WeightsError("expected a safetensors header of JSON, found something else") from error
    if not isinstance(header, dict):
        raise WeightsError(f"expected a safetensors header that is an object, found {type(header).__name__}")
    return header


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def _tensor(name: str, entry: Any) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Shape and half-open span of bytes of one entry."""
    try:
        bits, shape, (start, stop) = _BITS[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        is_sound = all(type(n) is int and n >= 0 for n in (*shape, start, stop))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"expected dtype, shape and data_offsets of {name!r}, found {str(entry)[:80]}") from error
    if not is_sound or prod(shape) * bits != (stop - start) * 8:
        raise WeightsError(f"expected {name!r} to take the bytes of {shape} {entry['dtype']}, found {start} to {stop}")
    return shape, (start, stop)


def _check_spans(spans: list[tuple[int, int]], num_bytes: int) -> None:
    """The tensors fill the rest of the file without gaps and without sharing bytes."""
    place = 0
    for start, stop in spans:
        if start != place:
            raise WeightsError(f"expected the next tensor at byte {place} of the data, found it at {start}")
        place = stop
    if place != num_bytes:
        why = ": the file is truncated" if place > num_bytes else ""
        raise WeightsError(f"expected {place} bytes of tensors, found {num_bytes}{why}")
