"""Prefix of links: a path on this server, or the external URL reported by a trusted proxy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request

from lipwright.net.access_rule import AccessRule

_HOST: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_.-]{0,252})|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?", re.IGNORECASE)
_PREFIX: Final = re.compile(r"(?:/[\w.~-]+)*")


def base_url(request: Request) -> str:
    """Return the prefix of links in the response to `request`, without a trailing slash; empty for plain paths."""
    base: str = request.state.base_url
    return base


def external_base_url(headers: Headers, root_path: str, peer: str, rule: AccessRule) -> str:
    """Return `https://host/prefix` if a trusted proxy reports it, else the root path.

    Uses `X-Forwarded-Proto`, `X-Forwarded-Host` (or `Host`) and `X-Forwarded-Prefix`. Of several values the last one
    counts, which the proxy itself added. An invalid scheme or host results in plain paths.

    Args:
        headers: Headers of the request.
        root_path: Path prefix of the service on this machine.
        peer: Address of the connected peer.
        rule: Decides which peers are trusted proxies.
    """
    if not rule.trusts(peer):
        return root_path
    scheme = _last(headers, "x-forwarded-proto").lower()
    host = _last(headers, "x-forwarded-host") or headers.get("host", "")
    prefix = _last(headers, "x-forwarded-prefix").rstrip("/")
    if scheme not in ("http", "https") or not _HOST.fullmatch(host) or not _PREFIX.fullmatch(prefix):
        return root_path
    return f"{scheme}://{host}{prefix}{root_path}"


def _last(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name, "").rpartition(",")[2].strip()
