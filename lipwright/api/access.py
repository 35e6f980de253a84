"""Access control: API keys once there is at least one, otherwise only clients on this machine.

Ray Serve's proxy passes on the ASGI scope of its uvicorn, in which `client` is the peer of the connection: the caller,
or our own front proxy, which names its peer in a header. uvicorn trusts `X-Forwarded-For` from loopback peers, or from
all peers if FORWARDED_ALLOW_IPS says so. This module does not: a request with any proxy header does not count as local.
With Serve's HAProxy in front, every peer is that HAProxy on loopback, so no request counts as local.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from lipwright.api.base_url import external_base_url
from lipwright.api.browser_token import SUBPROTOCOL, granted, path_of, presented_token, with_origin
from lipwright.api.forms.uploads import drain
from lipwright.api.live.client_connection import ClientConnection
from lipwright.api.live.protocol import error_event
from lipwright.api.page import WIDGET
from lipwright.api.problem import answer_to
from lipwright.api.session_token import session_key
from lipwright.config import AccessConfig
from lipwright.errors import ForbiddenError, LipwrightError, TableUnreachableError, UnauthorizedError
from lipwright.jobs.model.browser_token import TokenGrant
from lipwright.jobs.requests import Caller
from lipwright.net.access_rule import FRONT_HEADER, AccessRule, is_private
from lipwright.net.target import is_loopback
from lipwright.storage.key_ring import ApiKey, KeyRing
from lipwright.telemetry import metrics

_OPEN_PATHS = ("/", "/live.html", WIDGET, "/healthz", "/readyz", "/docs", "/openapi.json")
_OPEN_FOLDERS = ("/static-offline-docs/", "/page/")
# Headers added by proxies, tunnels and CDNs: RFC 7239, RFC 9110 (Via), RFC 8586 (CDN-Loop), vendor manuals.
_PROXY_HEADERS: Final = re.compile(
    "via|forwarded|cdn-loop|max-forwards|client-ip|remote-addr|true-client-ip|proxy-.+|"
    "x-(?:forward|real-|client-|cluster-|original-|originating-|remote-|proxy|scheme|nginx|varnish|haproxy|"
    "envoy-|amzn-|amz-cf-|azure-|arr-|appengine-|cloud-trace|vercel-|nf-|request-start|host|https|url-scheme).*|"
    "(?:cf|fly|fastly|akamai|ngrok|tailscale|incap|sec-fetch-proxy)-.+"
)
_DIRECT_VERSIONS: Final = ("1.1", "2")  # nginx uses 1.0 for upstreams by default
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_REFUSED: Final = 1008  # RFC 6455, 7.4.1; becomes a 403 before the handshake
_MAX_REASON: Final = 100


def caller_of(request: Request) -> Caller:
    """The caller that `ApiKeyMiddleware` let in."""
    caller: Caller = request.state.caller
    return caller


class ApiKeyMiddleware:
    """ASGI middleware that authenticates requests and sets `request.state.caller`.

    Args:
        app: The protected app.
        keys: The API keys. If there are none, only local clients are allowed.
        settings: Who is allowed without a key, and which proxies are trusted.
        refusal: Returns the response for an error, given the path of the request.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyRing,
        settings: AccessConfig,
        refusal: Callable[[LipwrightError, str], Response] = answer_to,
    ) -> None:
        self._app = app
        self._keys = keys
        self._settings = settings
        self._refusal = refusal
        self._proxies = AccessRule(False, False, settings.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or reject it with a problem."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        try:
            caller, grant = (Caller(), None) if _is_open(scope) else await self._admit(scope)
        except (UnauthorizedError, ForbiddenError, TableUnreachableError) as error:
            if scope["type"] == "websocket":
                metrics.REFUSALS.add(1, error.code)
                return await _refuse_socket(WebSocket(scope, receive, send), error)
            await drain(Request(scope, receive))
            return await self._refusal(error, scope["path"])(scope, receive, send)
        state = scope.setdefault("state", {})
        state["caller"], state["grant"] = caller, grant
        state["base_url"] = self._base_url(scope)
        await self._app(scope, receive, send if grant is None else with_origin(scope, send))

    async def _admit(self, scope: Scope) -> tuple[Caller, TokenGrant | None]:
        if not self._keys.is_fresh:
            await asyncio.to_thread(self._keys.refresh)
        headers = Headers(scope=scope)
        rule = AccessRule(bool(self._keys.list()), self._settings.allow_without_keys)
        if rule.has_keys:
            if (token := presented_token(scope, _api_key_of(headers))) is not None:
                key, grant = granted(self._keys, token, scope)
                return Caller(key.id, key.max_priority), grant
            key = self._key(headers, scope.get("method", ""))  # a WebSocket has no method, so it does not count as safe
            return Caller(key.id, key.max_priority), None
        if not rule.serves_without_key(_is_local(headers, scope, self._settings.allowed_origins)):
            raise ForbiddenError(
                "Without API keys only direct connections from localhost are allowed. Create a key with `lipwright "
                "keys add NAME`, or set access.allow_without_keys."
            )
        return Caller(), None

    def _base_url(self, scope: Scope) -> str:
        """Return the prefix of links; the last known peer is the one that sent the request."""
        headers = Headers(scope=scope)
        peer, _ = _connections(headers, scope)[-1]
        return external_base_url(headers, scope.get("root_path", ""), peer, self._proxies)

    def _key(self, headers: Headers, method: str) -> ApiKey:
        """Return the key in the request's headers, or the one its browser signed in with."""
        if presented := _api_key_of(headers):
            return self._keys.find(presented)
        if (key := session_key(self._keys, headers, method)) is not None:
            return key
        raise UnauthorizedError("An API key is required: send `Authorization: Bearer lw_...` or `X-API-Key: lw_...`.")


def _is_local(headers: Headers, scope: Scope, allowed_origins: Collection[str]) -> bool:
    """Return whether the request comes from a program on this machine: not through a proxy or from a foreign web page.

    A foreign page can send forms here (its `Origin` gives it away), embed what is here (`Sec-Fetch-Site`), or make its
    domain point here (DNS rebinding: its domain is in `Host`). The operator may allow origins.
    """
    if not all(is_private(peer) and version in _DIRECT_VERSIONS for peer, version in _connections(headers, scope)):
        return False
    if any(_PROXY_HEADERS.fullmatch(name) for name in headers):
        return False
    hosts = [_place(f"http://{host}") for host in headers.getlist("host")]
    origins = [_place(origin) for origin in headers.getlist("origin") if origin not in allowed_origins]
    ports = {port for _, port in hosts}
    return (
        all(is_loopback(name) for name, _ in (*hosts, *origins))
        and all(port in ports for _, port in origins)
        and not _is_embedded(headers, scope, allowed_origins)
    )


def _is_embedded(headers: Headers, scope: Scope, allowed_origins: Collection[str]) -> bool:
    """Return whether a page of another origin fetches this, such as an image, a frame or a script (Fetch Metadata).

    Links that open a page are no harm. Requests without `Origin` name the page in `Referer`.
    """
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return False
    if headers.get("sec-fetch-dest") == "document" and scope.get("method") in ("GET", "HEAD"):
        return False
    scheme, _, rest = headers.get("referer", "").partition("://")
    page = headers.get("origin") or f"{scheme}://{rest.partition('/')[0]}"
    return page not in allowed_origins


def _connections(headers: Headers, scope: Scope) -> list[tuple[str, str]]:
    """Return (address, HTTP version) of the peers of Serve and, before it, of our front proxy, if any."""
    client = scope.get("client") or ("",)
    proxies = [field.partition(" ") for field in headers.getlist(FRONT_HEADER)]
    return [(str(client[0]), scope["http_version"]), *((peer, version) for peer, _, version in proxies)]


def _place(url: str) -> tuple[str, int | None]:
    """Return host and port of a URL; an empty host if it has none or is malformed."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return "", None


def _api_key_of(headers: Headers) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")


async def _refuse_socket(socket: WebSocket, error: LipwrightError) -> None:
    """Refuse a handshake with 403. Scripts cannot read why, so that of a token is accepted and then closed."""
    if error.retryable or SUBPROTOCOL not in socket.scope.get("subprotocols", ()):
        return await socket.close(_REFUSED, str(error)[:_MAX_REASON])
    await socket.accept(SUBPROTOCOL)
    await ClientConnection(socket).close(_REFUSED, error_event(error))


def _is_open(scope: Scope) -> bool:
    path = path_of(scope)
    return path in _OPEN_PATHS or path.startswith(_OPEN_FOLDERS)
