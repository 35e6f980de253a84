"""Session tokens: prove that a browser has shown a valid API key.

A token is `{key id}.{expiry}.{HMAC}`, keyed with the stored hash of the API key. It does not reveal the key, becomes
invalid when the key is revoked, and needs no server-side state.
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
    """Return a token for `key` that is valid for `MAX_AGE_S`."""
    expires = str(int(time.time()) + MAX_AGE_S)
    return f"{key.id}.{expires}.{_signature(key, expires)}"


def session_key(keys: KeyRing, headers: Headers, method: str) -> ApiKey | None:
    """Return the key of a request's session; None if it has no token.

    Raises:
        UnauthorizedError: The token is invalid or expired.
        ForbiddenError: The request is not safe and was not sent by a page of this service (CSRF protection).
    """
    token = cookie_parser(headers.get("cookie", "")).get(COOKIE)
    if not token:
        return None
    key_id, _, rest = token.partition(".")
    expires, _, signature = rest.partition(".")
    key = next((key for key in keys.list() if key.id == key_id), None)
    if key is None or not hmac.compare_digest(_signature(key, expires).encode(), signature.encode()):
        raise UnauthorizedError("The session is invalid; its API key may have been revoked. Sign in again.")
    if int(expires) < time.time():  # the signature is valid, so it is a number
        raise UnauthorizedError("The session has expired. Sign in again.")
    if method not in _SAFE_METHODS and not is_from_own_page(headers):
        raise ForbiddenError(
            "Sessions can be used only by this service's own page. Programs send `Authorization: Bearer lw_...`."
        )
    return key


def is_from_own_page(headers: Headers) -> bool:
    """Return whether a page of this service sent the request.

    Current browsers send `Sec-Fetch-Site` (W3C Fetch Metadata), which works behind proxies that change `Host`. Older
    ones send only `Origin`.
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
