"""One connection to a destination, for each protocol: takes fragments of a session."""

from __future__ import annotations

from typing import Protocol

from media.live.flv import FlvMuxer
from media.live.mp4_boxes import ParameterSets
from media.live.mpeg_ts import TsMuxer
from media.live.rtp import rtp_packets
from media.live.stream_writer import LiveFragment
from net.push.destination import Destination, PushRefusedError
from net.push.rtmp import RtmpPublisher
from net.push.srt import SrtCaller


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
        from net.push.whip import WhipPublisher
    except ImportError:
        raise PushRefusedError("WHIP needs the extra `whip` (pip install 'lipwright[whip]').") from None

    class WhipSink:
        def __init__(self, publisher: WhipPublisher) -> None:
            self._publisher = publisher
            self.close = publisher.close

        async def send(self, fragment: LiveFragment) -> None:
            await self._publisher.send(*rtp_packets(fragment))

    return WhipSink(await WhipPublisher.connect(destination, token, headers.sps[1:4]))
