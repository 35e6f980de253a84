"""What a browser carries once somebody has signed in: proof that it showed an API key, and until when that holds.

A token is `{key id}.{expiry}.{HMAC}`, keyed with the hash that is stored of the key: it tells nothing of the key, ends
when the key is revoked, and needs nothing stored.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from errors import ForbiddenError, UnauthorizedError
from storage.key_ring import ApiKey, KeyRing

COOKIE: Final = "lipwright_session"
MAX_AGE_S: Final = 14 * 86400
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")


def new_token(key: ApiKey) -> str:
    """A token for `key` that holds for `MAX_AGE_S`."""
    expires = str(int(time.time()) + MAX_AGE_S)
    return f"{key.id}.{expires}.{_signature(key, expires)}"


def session_key(keys: KeyRing, headers: Headers, method: str) -> ApiKey | None:
    """The key that the sender of a request signed in with, None where the request carries no token.

    Raises:
        UnauthorizedError: The token does not hold, or no longer.
        ForbiddenError: The request would change something and was not sent by a page of this service.
    """
    token = cookie_parser(headers.get("cookie", "")).get(COOKIE)
    if not token:
        return None
    key_id, _, rest = token.partition(".")
    expires, _, signature = rest.partition(".")
    key = next((key for key in keys.list() if key.id == key_id), None)
    if key is None or not hmac.compare_digest(_signature(key, expires).encode(), signature.encode()):
        raise UnauthorizedError("The session does not hold; its API key may have been revoked. Sign in again.")
    if int(expires) < time.time():  # signed by us, so it is a number
        raise UnauthorizedError("The session has run out. Sign in again.")
    if method not in _SAFE_METHODS and not is_from_own_page(headers):
        raise ForbiddenError(
            "A session is used by this service's own page only. Programs send `Authorization: Bearer lw_...`."
        )
    return key


def is_from_own_page(headers: Headers) -> bool:
    """Whether a browser says that a page of this very service sends the request.

    `Sec-Fetch-Site` is what browsers of today say of every request (W3C Fetch Metadata), also behind a proxy that
    changes `Host`; older ones name the page's origin.
    """
    if site := headers.get("sec-fetch-site"):
        return site == "same-origin"
    try:
        return bool(origin := headers.get("origin")) and urlsplit(origin).netloc == headers.get("host")
    except ValueError:
        return False


def _signature(key: ApiKey, expires: str) -> str:
    text = f"lipwright session\n{key.id}\n{expires}".encode()
    return hmac.new(key.hash.encode(), text, hashlib.sha256).hexdigest()
