"""A WHIP server on loopback that decodes what it receives."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.unit.api_server import running
from tests.unit.flashing_stream import skews
from tests.waiting import wait_until


@dataclass
class WhipServer:
    url: str = ""
    frames: dict[str, list[Any]] = field(default_factory=lambda: {"video": [], "audio": []})  # of all connections
    offers: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    num_deleted: int = 0
    may_delete: threading.Event = field(default_factory=threading.Event)  # a DELETE waits for it
    status: int = 201
    connections: list[dict[str, list[Any]]] = field(default_factory=list)  # frames, whose times begin at zero
    peers: list[RTCPeerConnection] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop | None = None

    def __post_init__(self) -> None:
        self.may_delete.set()

    def skews(self) -> list[float]:
        """Return by how much later than its flash each beep of a `FlashingStream` was received, in seconds."""
        return [skew for frames in self.connections for skew in _skews(frames)]

    def until_frames(self, num_frames: int) -> None:
        wait_until(lambda: len(self.frames["video"]) >= num_frames)

    def cut(self) -> None:
        assert self.loop is not None
        for peer in self.peers:
            asyncio.run_coroutine_threadsafe(peer.close(), self.loop).result(10)
        self.peers.clear()

    async def offer(self, request: Request) -> Response:
        self.loop = asyncio.get_running_loop()
        self.offers.append((await request.body()).decode())
        self.tokens.append(request.headers.get("authorization"))
        if self.status != 201:
            return Response("", self.status, {"location": "/elsewhere"})
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.peers.append(peer)
        frames: dict[str, list[Any]] = {"video": [], "audio": []}
        self.connections.append(frames)
        peer.on("track", lambda track: asyncio.ensure_future(self._collect(track, frames)))
        await peer.setRemoteDescription(RTCSessionDescription(_baseline(self.offers[-1]), "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        return Response(peer.localDescription.sdp, 201, {"location": "/whip/stream"}, "application/sdp")

    async def delete(self, request: Request) -> Response:
        self.num_deleted += 1
        await asyncio.to_thread(self.may_delete.wait, 60)
        return Response()

    async def _collect(self, track: Any, frames: dict[str, list[Any]]) -> None:
        with suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                frames[track.kind].append(frame)
                self.frames[track.kind].append(frame)


def _skews(frames: dict[str, list[Any]]) -> list[float]:
    # Without a conversion: each frame would keep its threads, which for ten minutes are 30,000.
    video, audio = (
        [(float(frame.pts * frame.time_base), frame.to_ndarray()) for frame in frames[kind]]
        for kind in ("video", "audio")
    )
    brightness = [(time, float(planes[: len(planes) * 2 // 3].mean())) for time, planes in video]  # of the luma
    return skews(brightness, [(time, each.reshape(-1, 2)[:, 0].astype(np.float32) / 32768) for time, each in audio])


def _baseline(offer: str) -> str:
    """Aiortc accepts the baseline profile only, although it decodes every one."""
    return re.sub("profile-level-id=[0-9a-f]{6}", "profile-level-id=42e01f", offer)


@contextmanager
def whip_server() -> Iterator[WhipServer]:
    server = WhipServer()
    offer = Route("/whip/key", server.offer, methods=["POST"])
    delete = Route("/whip/stream", server.delete, methods=["DELETE"])
    with running(Starlette(routes=[offer, delete])) as url:
        server.url = f"{url}/whip/key"
        yield server
