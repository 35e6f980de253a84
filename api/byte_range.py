"""Range requests (RFC 9110, section 14)."""

from __future__ import annotations

import re
from typing import Final

from errors import RangeError

_RANGES: Final = re.compile(r"bytes\s*=\s*(.+)", re.IGNORECASE)
_ONE: Final = re.compile(r"(\d{1,18})-(\d{0,18})|-(\d{1,18})")


def satisfiable(field: str, num_bytes: int) -> str | None:
    """Return the satisfiable ranges of a `Range` header for a file of `num_bytes`, as a header value.

    None if the header must be ignored: unknown unit or invalid syntax.

    Raises:
        RangeError: No range is satisfiable.
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
        raise RangeError(f"Range: {field[:80]!r} is beyond the end of the file ({num_bytes} bytes).", num_bytes)
    return f"bytes={','.join(kept)}"


def one_range(field: str, num_bytes: int) -> tuple[int, int] | None:
    """Return [start, stop) of a `Range` header with a single range; None for anything else.

    Raises:
        RangeError: The range is not satisfiable.
    """
    one = _ONE.fullmatch((satisfiable(field, num_bytes) or "").removeprefix("bytes="))
    if one is None:
        return None
    if not one[1]:
        return max(0, num_bytes - int(one[3])), num_bytes
    return int(one[1]), min(num_bytes, int(one[2]) + 1) if one[2] else num_bytes
