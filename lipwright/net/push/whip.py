"""Publishes by WHIP (RFC 9725): WebRTC, opened with one HTTP request. Needs the extra `whip`."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from lipwright.errors import UrlFetchError, UrlRefusedError
from lipwright.net.fetch import header_of
from lipwright.net.push.destination import Destination, PushError, PushRefusedError, push_errors
from lipwright.net.ssrf_guard import SsrfGuard, fetch_errors

_MAX_ANSWER_BYTES: Final = 64 * 1024
_REDIRECTS: Final = (307, 308)  # RFC 9725, 4.5
_MAX_REDIRECTS: Final = 3
_CREATED: Final = 201
_REFUSED: Final = (400, 401, 403, 404, 405, 406, 409, 410, 415, 422)
_MAX_WAITING: Final = 250  # pictures, of which a fragment has a few
_POLL_S: Final = 0.02
_PROFILE: Final = re.compile(r"profile-level-id=[0-9a-fA-F]{6}")


class _PacketTrack(MediaStreamTrack):
    """A track of encoded packets (`av.Packet`), which aiortc sends as they are."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self._packets: asyncio.Queue[tuple[float, Any]] = asyncio.Queue()

    @property
    def num_waiting(self) -> int:
        return self._packets.qsize()

    def put(self, packets: list[Any], zero: float) -> None:
        """Send packets `zero` plus their stream time, by the loop's clock."""
        for packet in packets:
            self._packets.put_nowait((zero + float(packet.pts * packet.time_base), packet))

    async def recv(self) -> Any:
        """Returns the next packet when it is due."""
        if self.readyState != "live":
            raise MediaStreamError
        due, packet = await self._packets.get()
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        return packet


class WhipPublisher:
    """A published stream; made by `connect`."""

    def __init__(self, destination: Destination, token: str | None) -> None:
        self._destination, self._token = destination, token
        self._resource: Destination | None = None
        self._video, self._audio = _PacketTrack("video"), _PacketTrack("audio")
        # Without ICE servers, of which aiortc's default is one of Google's.
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))

    @classmethod
    async def connect(cls, destination: Destination, token: str | None, h264_profile: bytes) -> WhipPublisher:
        """Offers the stream and waits until the media connection stands. The caller bounds the time.

        Args:
            destination: The WHIP endpoint.
            token: Bearer token.
            h264_profile: Profile, constraints and level: bytes 1 to 3 of the sequence parameter set.

        Raises:
            PushError: The server or its media address cannot be reached.
            PushRefusedError: The server does not accept the stream.
            UrlRefusedError: The addresses of the host are not allowed.
        """
        publisher = cls(destination, token)
        try:
            with push_errors(destination):
                await publisher._start(h264_profile.hex())
        except BaseException:
            await asyncio.shield(publisher.close())
            raise
        return publisher

    async def send(self, video: list[Any], audio: list[Any]) -> None:
        """Sends encoded packets (`av.Packet`) of a fragment: the first at once, the others as much later as they play.

        aiortc's reports relate the timestamps of a track to the time at which its packets are sent, and players
        synchronise picture and sound by them.

        Raises:
            PushError: The connection broke.
        """
        zero = asyncio.get_running_loop().time() - float(video[0].pts * video[0].time_base)
        self._video.put(video, zero)
        self._audio.put(audio, zero)
        if self._peer.connectionState != "connected" or self._video.readyState != "live":
            raise PushError(f"{self._destination}: the media connection was cut off.")
        if self._video.num_waiting > _MAX_WAITING:
            raise PushError(f"{self._destination}: packets cannot be sent as fast as they come.")

    async def close(self) -> None:
        """Ends the stream at the server and closes the connection."""
        resource, self._resource = self._resource, None
        try:
            if resource is not None:
                with suppress(UrlFetchError, UrlRefusedError):
                    await _request("DELETE", resource, self._token_for(resource), b"")
        finally:  # also when the caller does not wait for the server
            await self._peer.close()

    async def _start(self, profile: str) -> None:
        peer = self._peer
        for track, mime in ((self._audio, "audio/opus"), (self._video, "video/H264")):
            sender = peer.addTransceiver(track, direction="sendonly")
            codecs = RTCRtpSender.getCapabilities(track.kind).codecs
            sender.setCodecPreferences([codec for codec in codecs if codec.mimeType in (mime, f"{track.kind}/rtx")])
        await peer.setLocalDescription(await peer.createOffer())
        offered = _PROFILE.search(peer.localDescription.sdp)
        assert offered is not None
        offer = peer.localDescription.sdp.replace(offered[0], f"profile-level-id={profile}")
        answer = await self._post(offer.encode())
        # aiortc knows the baseline profile only; the packets are ours, so it need not know another.
        answer = _allowed_candidates(_PROFILE.sub(offered[0], answer), self._destination.guard)
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        while peer.connectionState != "connected":
            if peer.connectionState in ("failed", "closed"):
                raise PushError(f"{self._destination}: no media connection to the server (UDP).")
            await asyncio.sleep(_POLL_S)

    def _token_for(self, destination: Destination) -> str | None:
        """Returns the token if `destination` is on the server that it was given for."""
        return self._token if str(destination) == str(self._destination) else None

    async def _post(self, offer: bytes) -> str:
        destination = self._destination
        for _ in range(_MAX_REDIRECTS + 1):
            status, location, answer = await _request("POST", destination, self._token_for(destination), offer)
            if status == _CREATED and location:
                self._resource = destination.at(location)
                return answer.decode("utf-8", "replace")
            if status not in _REDIRECTS:
                break
            destination = destination.at(location)
        if status in _REFUSED:
            raise PushRefusedError(f"{destination}: the server does not accept the stream (status {status}).")
        raise PushError(f"{destination}: expected status {_CREATED} with a Location, found {status}.")


async def _request(method: str, destination: Destination, token: str | None, body: bytes) -> tuple[int, str, bytes]:
    """Returns status, location and body."""
    target, guard = destination.target, destination.guard
    headers = [("User-Agent", "lipwright"), ("Content-Type", "application/sdp"), ("Accept", "application/sdp")]
    if token:
        headers.append(("Authorization", f"Bearer {token}"))
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), guard.network.stall_timeout_s)
    with fetch_errors(replace(target, path=b"/")):
        async with (
            asyncio.timeout(guard.network.connect_timeout_s + guard.network.stall_timeout_s),
            guard.pool(replace(target, path=b"/")) as pool,
            pool.stream(
                method, target.url, headers=headers, content=body, extensions={"timeout": timeouts}
            ) as response,
        ):
            answer = b""
            async for piece in response.aiter_stream():
                answer += piece
                if len(answer) > _MAX_ANSWER_BYTES:
                    raise PushError(f"{destination}: expected an answer of at most {_MAX_ANSWER_BYTES} bytes.")
            return response.status, header_of(response, b"location"), answer


def _allowed_candidates(answer: str, guard: SsrfGuard) -> str:
    """Returns an answer without the addresses that the service must not send packets to."""
    return "".join(line for line in answer.splitlines(keepends=True) if _is_allowed(line, guard))


def _is_allowed(line: str, guard: SsrfGuard) -> bool:
    if not line.startswith("a=candidate:"):
        return True
    fields = line.split()
    try:
        return len(fields) > 5 and guard.allows(ipaddress.ip_address(fields[4]))
    except ValueError:
        return False  # a name, which would have to be resolved
