"""Who may come in: API keys once there are any, and only this machine until then.

Ray Serve's proxy passes the ASGI scope of its uvicorn on, `client` being the peer of the connection: a caller, or our
own front proxy, which names the connected peer in a header. That uvicorn believes an `X-Forwarded-For`
header of loopback peers, or of all peers where FORWARDED_ALLOW_IPS says so. Nothing here does: a request that bears a
sign of any proxy does not come from this machine. With Serve's HAProxy in front every peer is that HAProxy, on
loopback, so nobody counts as being on this machine then.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from api.base_url import external_base_url
from api.forms.uploads import drain
from api.problem import answer_to
from api.session_token import session_key
from config import AccessConfig
from errors import ForbiddenError, LipwrightError, TableUnreachableError, UnauthorizedError
from jobs.job_request import Caller
from net.access_rule import FRONT_HEADER, AccessRule, is_private
from net.target import is_loopback
from storage.key_ring import ApiKey, KeyRing
from telemetry.metrics import request_refused

_OPEN_PATHS = ("/", "/healthz", "/readyz", "/docs", "/openapi.json")
_OPEN_FOLDERS = ("/static-offline-docs/", "/page/")
# Fields that proxies, tunnels and content networks add; RFC 7239, RFC 9110 (Via), RFC 8586 (CDN-Loop), their manuals.
_OF_A_PROXY: Final = re.compile(
    "via|forwarded|cdn-loop|max-forwards|client-ip|remote-addr|true-client-ip|proxy-.+|"
    "x-(?:forward|real-|client-|cluster-|original-|originating-|remote-|proxy|scheme|nginx|varnish|haproxy|"
    "envoy-|amzn-|amz-cf-|azure-|arr-|appengine-|cloud-trace|vercel-|nf-|request-start|host|https|url-scheme).*|"
    "(?:cf|fly|fastly|akamai|ngrok|tailscale|incap|sec-fetch-proxy)-.+"
)
_WITHOUT_A_PROXY: Final = ("1.1", "2")  # 1.0 is what nginx speaks to what is behind it, unless told otherwise
_REFUSED: Final = 1008  # RFC 6455, 7.4.1; before a handshake it becomes a 403
_MAX_REASON: Final = 100


def caller_of(request: Request) -> Caller:
    """The caller that `ApiKeyMiddleware` let in."""
    caller: Caller = request.state.caller
    return caller


class ApiKeyMiddleware:
    """ASGI middleware: lets those in who may use the API and says who they are.

    Args:
        app: What is behind the gate.
        keys: The API keys. When there are none, only this machine is served.
        settings: Whom else to serve, and whom to believe.
        refusal: Gives the answer to a request that an error ended, by the path of the request.
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
        """Serve one connection, or answer with a problem."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        try:
            caller = Caller() if _is_open(scope) else await self._admit(scope)
        except (UnauthorizedError, ForbiddenError, TableUnreachableError) as error:
            if scope["type"] == "websocket":
                request_refused(error.code)
                return await WebSocketClose(_REFUSED, str(error)[:_MAX_REASON])(scope, receive, send)
            await drain(Request(scope, receive))
            return await self._refusal(error, scope["path"])(scope, receive, send)
        state = scope.setdefault("state", {})
        state["caller"] = caller
        state["base_url"] = self._base_url(scope)
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope) -> Caller:
        if not self._keys.is_fresh:
            await asyncio.to_thread(self._keys.refresh)
        headers = Headers(scope=scope)
        rule = AccessRule(bool(self._keys.list()), self._settings.allow_without_keys)
        if rule.has_keys:
            key = self._key(headers, scope.get("method", ""))  # a WebSocket has none: it is no safe method
            return Caller(key.id, key.max_priority)
        if not rule.serves_without_key(_is_from_here(headers, scope, self._settings.allowed_origins)):
            raise ForbiddenError(
                "Without API keys only clients on the service's own machine are served, under localhost or its "
                "loopback address, by HTTP/1.1 and through no proxy. Make a key with `lipwright keys add NAME`, or set "
                "access.allow_without_keys."
            )
        return Caller()

    def _base_url(self, scope: Scope) -> str:
        """What links begin with; of the peers on the way here, the one that the front sees is who sent the request."""
        headers = Headers(scope=scope)
        peer, _ = _connections(headers, scope)[-1]
        return external_base_url(headers, scope.get("root_path", ""), peer, self._proxies)

    def _key(self, headers: Headers, method: str) -> ApiKey:
        """The key that a request shows itself, or that its browser has signed in with."""
        if presented := _presented(headers):
            return self._keys.find(presented)
        if (key := session_key(self._keys, headers, method)) is not None:
            return key
        raise UnauthorizedError("Expected an API key, as `Authorization: Bearer lw_...` or `X-API-Key: lw_...`.")


def _is_from_here(headers: Headers, scope: Scope, allowed_origins: Collection[str]) -> bool:
    """Whether a program on this machine asks, and neither a proxy nor a page of a stranger in its browser.

    A page elsewhere can send forms here (it names itself as `Origin`), and its name can be made to point here
    (DNS rebinding: the name is in `Host`). The operator may have allowed that page by name.
    """
    if not all(is_private(peer) and version in _WITHOUT_A_PROXY for peer, version in _connections(headers, scope)):
        return False
    if any(_OF_A_PROXY.fullmatch(name) for name in headers):
        return False
    names = [_host(f"//{host}") for host in headers.getlist("host")]
    origins = [_host(origin) for origin in headers.getlist("origin") if origin not in allowed_origins]
    return all(is_loopback(name) for name in (*names, *origins))


def _connections(headers: Headers, scope: Scope) -> list[tuple[str, str]]:
    """Address and version of HTTP of whoever is connected to Serve, and before it to our front, where there is one."""
    client: Any = scope.get("client") or ("",)
    told = [field.partition(" ") for field in headers.getlist(FRONT_HEADER)]
    return [(str(client[0]), scope["http_version"]), *((peer, version) for peer, _, version in told)]


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _presented(headers: Headers) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")


def _is_open(scope: Scope) -> bool:
    path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
    return path in _OPEN_PATHS or path.startswith(_OPEN_FOLDERS)
