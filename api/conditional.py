"""Conditional requests (RFC 9110, section 13)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

_TAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
# Headers that a 304 repeats from the 200 (section 15.4.5).
_REPEATED: Final = ("cache-control", "etag", "last-modified", "vary", "x-content-type-options")


def unchanged(request: Request, headers: Mapping[str, str]) -> Response | None:
    """Return a 304 response if the client's copy is current, else None.

    Args:
        request: The request.
        headers: Headers of the full response in lower case, including `etag` or `last-modified`.
    """
    if request.method not in ("GET", "HEAD") or not _is_known(request, headers):
        return None
    return Response(status_code=304, headers={name: headers[name] for name in _REPEATED if name in headers})


def is_range_wanted(request: Request, headers: Mapping[str, str]) -> bool:
    """Return whether `If-Range` allows a range response; a weak tag never does."""
    condition = request.headers.get("if-range")
    return condition is None or condition in (headers.get("etag"), headers.get("last-modified"))


def _is_known(request: Request, headers: Mapping[str, str]) -> bool:
    asked = ", ".join(request.headers.getlist("if-none-match"))
    if asked:  # takes precedence over `If-Modified-Since`
        etag = headers.get("etag", "").removeprefix("W/")
        return asked.strip() == "*" or (bool(etag) and etag in _TAG.findall(asked))
    since, changed = request.headers.get("if-modified-since"), headers.get("last-modified")
    if since is None or changed is None:
        return False
    try:
        return parsedate_to_datetime(changed) <= parsedate_to_datetime(since)
    except (TypeError, ValueError):
        return False  # invalid dates are ignored
