"""Accepts the caller's trace (`traceparent`) at every entry that creates work, and records the request."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lipwright.telemetry.log_context import CallContext, call_context
from lipwright.telemetry.trace_context import TraceContext
from lipwright.telemetry.tracing import span

_READS: Final = ("GET", "HEAD", "OPTIONS")


class TraceMiddleware:
    """ASGI middleware that puts requests other than reads, and WebSockets, into the trace of their caller."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        method = scope.get("method", "WebSocket")
        if scope["type"] == "lifespan" or method in _READS:
            return await self._app(scope, receive, send)
        accepted = TraceContext.accept(scope["headers"])
        with call_context(CallContext("", trace=accepted)), span(method, starts_trace=True) as attributes:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    attributes["http.response.status_code"] = message["status"]
                    if message["status"] >= 500:
                        attributes["error.type"] = str(message["status"])
                await send(message)

            try:
                await self._app(scope, receive, watched)
            finally:
                route = getattr(scope.get("route"), "path", "")
                attributes |= {"name": f"{method} {route}".rstrip(), "http.route": route}
