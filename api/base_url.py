"""What links begin with: a path of this service, or its address as a trusted proxy says that callers know it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request

from net.access_rule import AccessRule

_HOST: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_.-]{0,252})|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?", re.IGNORECASE)
_PREFIX: Final = re.compile(r"(?:/[\w.~-]+)*")


def base_url(request: Request) -> str:
    """What the links of an answer to `request` begin with, without a slash at the end; empty for plain paths."""
    base: str = request.state.base_url
    return base


def external_base_url(headers: Headers, root_path: str, peer: str, rule: AccessRule) -> str:
    """`https://host/prefix` where a proxy that `rule` trusts says so, else the root path.

    The scheme is `X-Forwarded-Proto`, the host `X-Forwarded-Host` or `Host`, and `X-Forwarded-Prefix` comes before the
    paths. Of several values the last counts, which the proxy itself has added. A scheme or a host that is none leaves
    the links paths.

    Args:
        headers: Fields of the request.
        root_path: Where the service's paths begin on the machine itself.
        peer: Address of whoever is connected to the service.
        rule: Says which peers are trusted proxies.
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
