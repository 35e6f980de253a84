"""Browser tokens: let the visitors of a web site see one avatar live, without the site's API key.

A token is `lwt_{key id}.{expiry}.{payload}.{HMAC}`, signed like those of `lipwright.api.session_token`; the payload is
a `TokenGrant`. WebSockets carry it as a subprotocol, because browsers can set no other header of a handshake and
servers log URLs.
"""

from __future__ import annotations

import base64
import re
import time
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lipwright.api.session_token import signature, signing_key
from lipwright.errors import ForbiddenError
from lipwright.jobs.model.base import new_id
from lipwright.jobs.model.browser_token import TokenGrant, TokenRequest
from lipwright.storage.key_ring import ApiKey, KeyRing

SUBPROTOCOL: Final = "lipwright.live"
"""What the service answers to a client that offers it and a token as subprotocols."""
THUMBNAIL: Final = re.compile(r"/v1/avatars/([^/]+)/thumbnail")
_PREFIX: Final = "lwt_"
_PREFLIGHT_S: Final = 7200  # Chromium's maximum
_PREFLIGHT: Final = {
    "access-control-allow-methods": "GET",
    "access-control-allow-headers": "authorization, x-api-key",
    "access-control-max-age": str(_PREFLIGHT_S),
    "vary": "Origin",
}


def new_browser_token(key: ApiKey, request: TokenRequest) -> tuple[str, TokenGrant]:
    """Return a token that an API key signs, and what it grants."""
    limits = request.model_dump(exclude={"expires_in"})
    grant = TokenGrant(id=new_id(), expires_at=int(time.time()) + request.expires_in, **limits)
    expires, content = str(grant.expires_at), grant.model_dump_json(exclude_defaults=True).encode()
    payload = base64.urlsafe_b64encode(content).decode().rstrip("=")
    return f"{_PREFIX}{key.id}.{expires}.{payload}.{signature(key, 'token', expires, payload)}", grant


def presented_token(scope: Scope, bearer: str) -> str | None:
    """Return the browser token of a request; None if it has none."""
    offered = (bearer, *scope.get("subprotocols", ()))
    return next((token for token in offered if token.startswith(_PREFIX)), None)


def granted(keys: KeyRing, token: str, scope: Scope) -> tuple[ApiKey, TokenGrant]:
    """Return the API key of a token, and what it grants.

    Raises:
        UnauthorizedError: The token is invalid or has expired.
        ForbiddenError: It does not allow this request, or not to a page of this origin.
    """
    key_id, expires, payload, presented = (*token.removeprefix(_PREFIX).split("."), "", "", "")[:4]
    key = signing_key(keys, key_id, ("token", expires, payload), presented, "Get a new one from your site.")
    grant = TokenGrant.model_validate_json(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    origin = _origin(Headers(scope=scope))
    if origin not in grant.origin:
        found = f"is not for pages of {origin[:100]!r}" if origin else "is only for web pages, which send `Origin`"
        raise ForbiddenError(f"The token {found}.")
    is_live = scope["type"] == "websocket" and path_of(scope) == "/v1/live"
    picture = THUMBNAIL.fullmatch(path_of(scope)) if scope.get("method") == "GET" else None
    if not is_live and (picture is None or picture[1] != grant.avatar_id):
        raise ForbiddenError("The token allows only `WS /v1/live` and the thumbnail of its avatar.")
    return key, grant


def _origin(headers: Headers) -> str:
    """Return the origin of the page that sent a request; same-origin GET requests name it in `Referer`."""
    scheme, _, rest = headers.get("referer", "").partition("://")
    return headers.get("origin") or (f"{scheme}://{rest.partition('/')[0]}" if rest else "")


def with_origin(scope: Scope, send: Send) -> Send:
    """Return `send` for the response to a granted request, which the page may read (CORS)."""
    origin = Headers(scope=scope).get("origin", "")

    async def send_readable(message: Message) -> None:
        if message["type"] == "http.response.start" and origin:
            fields = ((b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin"))
            message = {**message, "headers": [*message["headers"], *fields]}
        await send(message)

    return send_readable


class ThumbnailPreflight:
    """Answers CORS preflights of the thumbnails of avatars, which carry no token: the request itself decides."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["method"] != "OPTIONS" or not THUMBNAIL.fullmatch(path_of(scope)):
            return await self._app(scope, receive, send)
        origin = {"access-control-allow-origin": Headers(scope=scope).get("origin", "null")}
        await Response(status_code=204, headers={**_PREFLIGHT, **origin})(scope, receive, send)


def path_of(scope: Scope) -> str:
    """Return the path of a request below the prefix of the service."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"
