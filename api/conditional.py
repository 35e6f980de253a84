"""Conditional requests (RFC 9110, section 13): a client that has the answer already is told so with 304."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

_TAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
# What a 304 repeats of the 200 in its place (section 15.4.5); what describes the content stays away.
_REPEATED: Final = ("cache-control", "etag", "last-modified", "vary", "x-content-type-options")


def unchanged(request: Request, headers: Mapping[str, str]) -> Response | None:
    """The answer 304 where the request says that the client has what `headers` belong to; None where it does not.

    Args:
        request: The request.
        headers: Fields of the answer that would be sent, names in lower case, `etag` or `last-modified` among them.
    """
    if request.method not in ("GET", "HEAD") or not _is_known(request, headers):
        return None
    return Response(status_code=304, headers={name: headers[name] for name in _REPEATED if name in headers})


def is_range_wanted(request: Request, headers: Mapping[str, str]) -> bool:
    """Whether `If-Range` lets a range of the file be sent that `headers` belong to; a weak tag never does."""
    condition = request.headers.get("if-range")
    return condition is None or condition in (headers.get("etag"), headers.get("last-modified"))


def _is_known(request: Request, headers: Mapping[str, str]) -> bool:
    asked = ", ".join(request.headers.getlist("if-none-match"))
    if asked:  # `If-Modified-Since` counts only without it
        etag = headers.get("etag", "").removeprefix("W/")
        return asked.strip() == "*" or (bool(etag) and etag in _TAG.findall(asked))
    since, changed = request.headers.get("if-modified-since"), headers.get("last-modified")
    if since is None or changed is None:
        return False
    try:
        return parsedate_to_datetime(changed) <= parsedate_to_datetime(since)
    except (TypeError, ValueError):
        return False  # what is no date is ignored
