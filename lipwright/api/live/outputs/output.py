"""One output of a live session: connects by the destination's protocol, sends, and reconnects when it breaks."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from lipwright.api.live.protocol import StartOutput
from lipwright.api.live.viewers import FragmentQueue
from lipwright.config import LiveConfig
from lipwright.errors import LipwrightError, UrlFetchError, UrlRefusedError, internal_error
from lipwright.media.live.encoder import LiveFragment
from lipwright.media.live.flv import FlvMuxer
from lipwright.media.live.mp4_boxes import ParameterSets
from lipwright.media.live.mpeg_ts import TsMuxer, rtp_packets
from lipwright.net.push.destination import Destination, PushError, PushRefusedError
from lipwright.net.push.rtmp import RtmpPublisher
from lipwright.net.push.srt import SrtCaller


class Sink(Protocol):
    """A connection that takes fragments. After an exception it must still be closed."""

    async def send(self, fragment: LiveFragment) -> None:
        """Send one fragment; waits while the network is slow.

        Raises:
            PushError: The connection broke.
            PushRefusedError: The server ended the stream.
        """

    async def close(self) -> None:
        """End the stream and close the connection."""


class RtmpSink:
    """FLV messages to an RTMP server."""

    def __init__(self, publisher: RtmpPublisher) -> None:
        self._publisher, self._muxer = publisher, FlvMuxer()
        self.close = publisher.close

    async def send(self, fragment: LiveFragment) -> None:
        """See `Sink`."""
        await self._publisher.send(self._muxer.mux(fragment))


class SrtSink:
    """A transport stream to an SRT listener."""

    def __init__(self, caller: SrtCaller) -> None:
        self._caller, self._muxer = caller, TsMuxer()

    async def send(self, fragment: LiveFragment) -> None:
        """See `Sink`."""
        await self._caller.send(self._muxer.mux(fragment))

    async def close(self) -> None:
        """See `Sink`."""
        self._muxer.close()
        await self._caller.close()


async def open_sink(destination: Destination, token: str | None, headers: ParameterSets, timeout_s: float) -> Sink:
    """Connect to a destination. The caller bounds the time.

    Args:
        destination: Where to.
        token: Bearer token, for WHIP.
        headers: Parameter sets of the stream.
        timeout_s: How long to wait for the connection.

    Raises:
        PushError: It cannot be reached.
        UrlRefusedError: It does not accept the stream, or its addresses are not allowed.
    """
    scheme = destination.target.scheme
    if scheme in ("rtmp", "rtmps"):
        return RtmpSink(await RtmpPublisher.connect(destination))
    if scheme == "srt":
        return SrtSink(await SrtCaller.connect(destination, timeout_s))
    return await _open_whip(destination, token, headers)


async def _open_whip(destination: Destination, token: str | None, headers: ParameterSets) -> Sink:
    try:
        from lipwright.net.push.whip import WhipPublisher
    except ImportError:
        raise PushRefusedError("WHIP needs an extra. Ask the operator to run: pip install -e '.[whip]'") from None

    class WhipSink:
        def __init__(self, publisher: WhipPublisher) -> None:
            self._publisher = publisher
            self.close = publisher.close

        async def send(self, fragment: LiveFragment) -> None:
            await self._publisher.send(*rtp_packets(fragment))

    return WhipSink(await WhipPublisher.connect(destination, token, headers.sps[1:4]))


logger = logging.getLogger(__name__)

State = Literal["connecting", "live", "reconnecting", "ended"]
_FIRST_DELAY_S: Final = 1.0
_MAX_DELAY_S: Final = 15.0
_JITTER: Final = 0.2
_CLOSE_S: Final = 5.0


@dataclass
class OutputStatus:
    """What a client may know of an output: never its URL, which contains the stream key.

    Attributes:
        output_id: ID within the session.
        destination: Scheme, host and port.
        state: `connecting`, `live`, `reconnecting` or `ended`.
        num_reconnects: How often the connection was restored.
        error: Why it is not live; None while it is, and after it was stopped.
    """

    output_id: str
    destination: str
    state: State = "connecting"
    num_reconnects: int = 0
    error: LipwrightError | None = field(default=None)


class Output:
    """Pushes a session to one destination. Call `offer` with every fragment, and `run` once.

    While there is no connection, fragments are dropped: a new connection begins with what the session shows then. Its
    timestamps are the session's, so they increase across connections.

    Args:
        output_id: ID within the session.
        destination: Where to.
        request: The client's message.
        live: Timeouts.
        on_change: Called with every new state.
    """

    def __init__(
        self,
        output_id: str,
        destination: Destination,
        request: StartOutput,
        live: LiveConfig,
        on_change: Callable[[Output], Awaitable[None]],
    ) -> None:
        self.status = OutputStatus(output_id, str(destination))
        self._destination, self._request, self._live = destination, request, live
        self._on_change = on_change
        self._queue = FragmentQueue(live.push_buffer_seconds)
        self._headers: asyncio.Future[ParameterSets] = asyncio.get_running_loop().create_future()
        self._is_connected = self._was_live = False
        self._sent_until: float | None = None  # seconds of the session
        self._dropped_seconds = 0.0

    def offer(self, fragment: LiveFragment) -> None:
        """Offer the next fragment."""
        if not self._headers.done():
            self._headers.set_result(fragment.pictures.headers)
        self._queue.offer(fragment)

    def describe(self) -> dict[str, Any]:
        """Return the status as fields of an event."""
        status, error = self.status, self.status.error
        return {
            "output_id": status.output_id,
            "event_id": self._request.event_id,
            "destination": status.destination,
            "state": status.state,
            "num_reconnects": status.num_reconnects,
            "dropped_seconds": round(self._dropped_seconds, 2),
            "code": error.code if error else None,
            "message": str(error) if error else None,
        }

    async def run(self) -> None:
        """Push until the task is cancelled, the destination refuses the stream, or it is lost for too long."""
        await self._enter("connecting", None)
        delays, lost_at = _delays(), time.monotonic()
        while True:
            try:
                await self._push()
            except LipwrightError as error:
                failure: LipwrightError = error
            except Exception as error:
                logger.exception("output %s to %s failed", self.status.output_id, self.status.destination)
                failure = internal_error("output", error)
            if self._is_connected:
                self._is_connected = False
                delays, lost_at = _delays(), time.monotonic()
            if not self._may_retry(failure) or time.monotonic() - lost_at > self._live.push_retry_s:
                await self._enter("ended", failure)
                return
            await self._enter("reconnecting", failure)
            await asyncio.sleep(next(delays))

    def _may_retry(self, failure: LipwrightError) -> bool:
        """Whether another attempt may help. A server may refuse a stream whose old connection it still holds open."""
        return isinstance(failure, UrlFetchError) or (self._was_live and isinstance(failure, PushRefusedError))

    async def _push(self) -> None:
        """Connect and send until the connection breaks.

        Raises:
            LipwrightError: Why it did.
        """
        timeout_s = self._live.push_timeout_s
        headers = await asyncio.shield(self._headers)
        try:
            async with asyncio.timeout(timeout_s):
                sink = await open_sink(self._destination, self._request.token, headers, timeout_s)
        except TimeoutError:
            raise PushError(f"{self._destination}: no connection within {timeout_s:g} s.") from None
        try:
            self._queue.clear()
            await self._send(sink)
        finally:
            await asyncio.shield(_closed(sink))

    async def _send(self, sink: Sink) -> None:
        timeout_s = self._live.push_timeout_s
        while True:
            fragment: LiveFragment = await self._queue.get()
            try:
                async with asyncio.timeout(timeout_s):
                    await sink.send(fragment)
            except TimeoutError:
                raise PushError(f"{self._destination}: sending took longer than {timeout_s:g} s.") from None
            self._count(fragment)
            if not self._is_connected:
                self.status.num_reconnects += self._was_live
                self._is_connected = self._was_live = True
                await self._enter("live", None)

    def _count(self, sent: LiveFragment) -> None:
        """Count what was dropped between the last fragment that was sent and this one, for whatever reason."""
        if self._sent_until is not None:
            self._dropped_seconds += max(0.0, sent.start_seconds - self._sent_until)
        self._sent_until = sent.start_seconds + sent.duration_seconds

    async def _enter(self, state: State, error: LipwrightError | None) -> None:
        changed = (state, str(error)) != (self.status.state, str(self.status.error))
        self.status.state, self.status.error = state, error
        if changed or state == "connecting":
            why = f" ({error})" if error else ""
            logger.info("output %s to %s: %s%s", self.status.output_id, self._destination, state, why)
            await self._on_change(self)


def _delays() -> Iterator[float]:
    """Yield exponential backoff with jitter."""
    delay = _FIRST_DELAY_S
    while True:
        yield delay * random.uniform(1 - _JITTER, 1 + _JITTER)
        delay = min(2 * delay, _MAX_DELAY_S)


async def _closed(sink: Sink) -> None:
    """Close a connection, within a bound."""
    try:
        async with asyncio.timeout(_CLOSE_S):
            await sink.close()
    except (TimeoutError, OSError, UrlFetchError, UrlRefusedError):
        logger.debug("output: the connection did not close in time")
