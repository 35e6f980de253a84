"""The `Range` of a request (RFC 9110, section 14): what of it can be had of a file."""

from __future__ import annotations

import re
from typing import Final

from errors import RangeError

_RANGES: Final = re.compile(r"bytes\s*=\s*(.+)", re.IGNORECASE)
_ONE: Final = re.compile(r"(\d{1,18})-(\d{0,18})|-(\d{1,18})")


def satisfiable(field: str, num_bytes: int) -> str | None:
    """The ranges in `field` that lie in a file of `num_bytes`, as a field again.

    None where the field counts as absent: it has another unit, or is broken.

    Raises:
        RangeError: All of them lie behind the file's end.
    """
    asked = _RANGES.fullmatch(field.strip())
    if asked is None:
        return None
    kept = []
    for text in filter(None, (part.strip() for part in asked[1].split(","))):
        one = _ONE.fullmatch(text)
        if one is None or (one[2] and int(one[2]) < int(one[1])):
            return None
        if int(one[1]) < num_bytes if one[1] else int(one[3]) and num_bytes:
            kept.append(text)
    if not kept:
        raise RangeError(f"Range: expected bytes of a file that has {num_bytes}, found {field[:80]!r}.", num_bytes)
    return f"bytes={','.join(kept)}"


def one_range(field: str, num_bytes: int) -> tuple[int, int] | None:
    """The bytes [start, stop) that `field` asks for, of a file of `num_bytes`; None where it is not one range of them.

    Raises:
        RangeError: All of its ranges lie behind the file's end.
    """
    one = _ONE.fullmatch((satisfiable(field, num_bytes) or "").removeprefix("bytes="))
    if one is None:
        return None
    if not one[1]:
        return max(0, num_bytes - int(one[3])), num_bytes
    return int(one[1]), min(num_bytes, int(one[2]) + 1) if one[2] else num_bytes
