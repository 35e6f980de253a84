"""Downloads a file from a URL to a writer, with address checks, timeouts and a size limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import httpcore

from lipwright.errors import MediaLimitError, UrlFetchError, UrlRefusedError
from lipwright.net.ssrf_guard import SsrfGuard, fetch_errors
from lipwright.net.target import Target

_BATCH_BYTES = 1 << 20  # one write in a thread per MiB
_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = (("User-Agent", "lipwright"), ("Accept", "*/*"), ("Accept-Encoding", "identity"))


class Writer(Protocol):
    """Receives the downloaded bytes."""

    def write(self, piece: bytes) -> object:
        """Appends `piece`. May block: it is called in a thread."""


OnBytes = Callable[[int], Awaitable[object]]
"""Called with the number of bytes received since the last call; an exception aborts the download."""


async def _ignore(num_bytes: int) -> None:
    """Default for `on_bytes`."""


async def fetch(url: str, writer: Writer, max_bytes: int, guard: SsrfGuard, on_bytes: OnBytes = _ignore) -> int:
    """Downloads `url` and returns the number of bytes. Follows redirects, each checked like the first URL.

    The download is aborted if no data arrives for `stall_timeout_s` or if it is slower than `min_bytes_per_s`, so it
    takes at most the time of `max_bytes` at that rate, plus about a minute for connections and redirects.

    Raises:
        UrlRefusedError: The URL, or a redirect target, is not allowed.
        UrlFetchError: The server does not respond properly or is too slow. The message reveals only its status.
        MediaLimitError: The file is larger than `max_bytes`.
    """
    target = guard.check(url)
    for _ in range(_MAX_REDIRECTS + 1):
        async with _answer(target, guard) as (response, bound):
            if response.status not in _REDIRECTS:
                return await _Download(target, response, guard, bound).save(writer, max_bytes, on_bytes)
            location = header_of(response, b"location")
        moved = guard.checked(target.join(location))
        if target.scheme == "https" and moved.scheme != "https":
            raise UrlRefusedError(f"{target}: expected to stay on https, found a redirect to {moved}.")
        target = moved
    raise UrlFetchError(f"{target}: expected at most {_MAX_REDIRECTS} redirects, found more.")


@asynccontextmanager
async def _answer(target: Target, guard: SsrfGuard) -> AsyncIterator[tuple[httpcore.Response, asyncio.Timeout]]:
    """Yields the response to one GET, and the timeout of the block, which the block may extend."""
    network = guard.network
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), network.stall_timeout_s)
    with fetch_errors(target):
        async with asyncio.timeout(network.connect_timeout_s + network.stall_timeout_s) as bound:
            async with (
                guard.pool(target) as pool,
                pool.stream("GET", target.url, headers=_HEADERS, extensions={"timeout": timeouts}) as response,
            ):
                yield response, bound


class _Download:
    """Copies the body of one response to a writer."""

    def __init__(self, target: Target, response: httpcore.Response, guard: SsrfGuard, bound: asyncio.Timeout) -> None:
        self._target = target
        self._response = response
        self._min_bytes_per_s = guard.network.min_bytes_per_s
        self._bound = bound

    async def save(self, writer: Writer, max_bytes: int, on_bytes: OnBytes) -> int:
        """Writes the body and returns its length."""
        self._check_head(max_bytes)
        latest = self._bound.when()
        assert latest is not None
        batch = bytearray()
        num_bytes = 0
        async for piece in self._response.aiter_stream():
            num_bytes += len(piece)
            if num_bytes > max_bytes:
                raise MediaLimitError(f"{self._target}: expected at most {max_bytes} bytes, found more.")
            batch += piece
            if len(batch) >= _BATCH_BYTES:
                await on_bytes(len(batch))
                await asyncio.to_thread(writer.write, bytes(batch))
                batch.clear()
                self._bound.reschedule(latest + num_bytes / self._min_bytes_per_s)
        await on_bytes(len(batch))
        await asyncio.to_thread(writer.write, bytes(batch))
        return num_bytes

    def _check_head(self, max_bytes: int) -> None:
        if self._response.status != 200:
            raise UrlFetchError(f"{self._target}: expected status 200, found {self._response.status}.")
        encoding = header_of(self._response, b"content-encoding").lower()
        if encoding not in ("", "identity"):
            raise UrlFetchError(f"{self._target}: expected an uncompressed response, found a Content-Encoding.")
        length = header_of(self._response, b"content-length")
        if length.isdecimal() and int(length) > max_bytes:
            raise MediaLimitError(f"{self._target}: expected at most {max_bytes} bytes, found {length}.")


def header_of(response: httpcore.Response, name: bytes) -> str:
    """Returns the first header of that name; empty if there is none."""
    values = (value for key, value in response.headers if key.lower() == name)
    return next(values, b"").decode("utf-8", "replace")
