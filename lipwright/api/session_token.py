"""Session tokens: prove that a browser has shown a valid API key; and the signatures of all tokens.

A token is `{key id}.{expiry}.{HMAC}`, keyed with the stored hash of the API key. It does not reveal the key, becomes
invalid when the key is revoked, and needs no server-side state. `lipwright/launch/haproxy/callers.cfg` verifies tokens,
too.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from lipwright.errors import ForbiddenError, UnauthorizedError
from lipwright.storage.key_ring import ApiKey, KeyRing

COOKIE: Final = "lipwright_session"
MAX_AGE_S: Final = 14 * 86400
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")


def new_token(key: ApiKey) -> str:
    """Return a token for `key` that is valid for `MAX_AGE_S`."""
    expires = str(int(time.time()) + MAX_AGE_S)
    return f"{key.id}.{expires}.{signature(key, 'session', expires)}"


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
    expires, _, presented = rest.partition(".")
    key = signing_key(keys, key_id, ("session", expires), presented, "Sign in again.")
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


def signing_key(
    keys: KeyRing, key_id: str, signed: tuple[str, str, *tuple[str, ...]], presented: str, advice: str
) -> ApiKey:
    """Return the API key that has signed a token: its kind, its expiry and further fields.

    Raises:
        UnauthorizedError: The signature `presented` is another, or the token has expired; ends with `advice`.
    """
    kind, expires, *_ = signed
    key = next((key for key in keys.list() if key.id == key_id), None)
    if key is None or not hmac.compare_digest(signature(key, *signed).encode(), presented.encode()):
        raise UnauthorizedError(f"The {kind} is invalid; its API key may have been revoked. {advice}")
    if int(expires) < time.time():  # the signature is valid, so it is a number
        raise UnauthorizedError(f"The {kind} has expired. {advice}")
    return key


def signature(key: ApiKey, kind: str, *fields: str) -> str:
    """Return the signature of a token."""
    text = "\n".join((f"lipwright {kind}", key.id, *fields)).encode()
    return hmac.new(key.hash.encode(), text, hashlib.sha256).hexdigest()
