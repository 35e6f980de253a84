"""The web page at `/`, the one that shows only a live session (`web/`), and the security headers of all responses."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Final

from fastapi import Request, Response
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import web
from lipwright.api.base_url import base_url
from lipwright.api.file_responses import unchanged
from lipwright.api.routing import Routes, route
from lipwright.config import LabelsConfig
from lipwright.errors import NotFoundError

ASSETS: Final = "/page"
STREAM: Final = "/live.html"
WIDGET: Final = "/widget/lipwright-avatar.js"
_ROOT: Final = Path(web.__file__).resolve().parent
_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=(), payment=(), usb=()",
}
_HEADERS_OF_ALL: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "frame-ancestors 'none'",
}
_IMMUTABLE: Final = "public, max-age=31536000, immutable"


class SecurityHeaders:
    """Has browsers neither guess the type of an HTTP response nor show it in a frame; routes may set other headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, text in _HEADERS_OF_ALL.items():
                    headers.setdefault(name, text)
            await send(message)

        await self._app(scope, receive, send_guarded)


class PageRoutes(Routes, include_in_schema=False):
    """Serves the page from memory.

    Args:
        labels: Whether the page states that videos are labelled.
    """

    def __init__(self, labels: LabelsConfig) -> None:
        self._labelled = b"" if labels.metadata or labels.c2pa else b" hidden"
        self._files = _read_all()
        self._inline = self._files.pop("reload.js")
        self._headers = {**_HEADERS, "Content-Security-Policy": _policy(self._inline)}
        digest = hashlib.sha256()
        for name, content in sorted(self._files.items()):
            digest.update(name.encode() + b"\0" + content)
        self._digest = digest.hexdigest()[:12]

    @route("/", "HEAD")
    @route("/")
    def index(self, request: Request) -> Response:
        """Return the page, or links to the API for clients that accept only JSON."""
        root, accept = request.scope.get("root_path", ""), request.headers.get("accept", "")
        if "application/json" in accept and "text/html" not in accept:
            base = base_url(request)
            links = {"page": f"{base}/", "documentation": f"{base}/docs", "openapi": f"{base}/openapi.json"}
            return JSONResponse({"name": "Lipwright", "links": {**links, "jobs": f"{base}/v1/jobs"}}, headers=_VARY)
        return self._answer(request, self._page("index.html", root), ".html", "no-cache", _VARY)

    @route(STREAM, "HEAD")
    @route(STREAM)
    def stream(self, request: Request) -> Response:
        """Return the page that shows only a live session."""
        content = self._page("live.html", request.scope.get("root_path", ""))
        return self._answer(request, content, ".html", "no-cache")

    @route(WIDGET, "HEAD")
    @route(WIDGET)
    def widget(self, request: Request) -> Response:
        """Return the module that other web sites load; it imports those of the page."""
        folder = f"../{ASSETS[1:]}/{self._digest}/js"  # relative, so that prefixes of proxies do not matter
        element = "lipwright_avatar.js"
        imported = re.findall(r'from "\./(.+)"', self._files[f"js/{element}"].decode())  # so they load at once
        lines = [*(f'import "{folder}/{name}";' for name in imported), f'export * from "{folder}/{element}";\n']
        return self._answer(request, "\n".join(lines).encode(), ".js", "no-cache")

    @route(ASSETS + "/{digest}/{name:path}", "HEAD")
    @route(ASSETS + "/{digest}/{name:path}")
    def asset(self, digest: str, name: str, request: Request) -> Response:
        """Return a file of the page. Its URL contains a digest, so it may be cached forever."""
        content = self._files.get(name)
        if content is None:
            raise NotFoundError(f"Asset {name[:80]!r} does not exist.")
        return self._answer(request, content, Path(name).suffix, _IMMUTABLE if digest == self._digest else "no-cache")

    def _page(self, name: str, root: str) -> bytes:
        """Return an HTML file with its links filled in."""
        content = self._files[name].replace(b"{{assets}}", f"{root}{ASSETS}/{self._digest}".encode())
        content = content.replace(b"{{labelled}}", self._labelled).replace(b"{{root}}", root.encode())
        return content.replace(b"{{reload}}", self._inline)

    def _answer(
        self, request: Request, content: bytes, suffix: str, caching: str, more: dict[str, str] | None = None
    ) -> Response:
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {**self._headers, "cache-control": caching, "etag": etag, **(more or {})}
        if suffix == ".js":
            headers["access-control-allow-origin"] = "*"  # for the widget: public files, fetched without credentials
        if (answer := unchanged(request, headers)) is not None:
            return answer
        return Response(content, media_type=_MEDIA_TYPES[suffix], headers=headers)


_VARY: Final = {"vary": "Accept"}


def _read_all() -> dict[str, bytes]:
    """Return the content of all files of the page by path."""
    paths = (path for path in _ROOT.rglob("*") if path.suffix in _MEDIA_TYPES)
    return {path.relative_to(_ROOT).as_posix(): path.read_bytes() for path in paths}


def _policy(inline: bytes) -> str:
    """Return the Content-Security-Policy of pages whose only inline script is `inline`."""
    digest = base64.b64encode(hashlib.sha256(inline).digest()).decode()
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'sha256-{digest}'",
            "style-src 'self'",
            "img-src 'self' blob:",
            "media-src 'self' blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
