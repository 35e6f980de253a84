"""An avatar of grey pictures, and a client's end of the line: what live sessions are tested with."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np

from lipwright.config import LiveConfig
from lipwright.errors import BusyError, LipwrightError, NotFoundError
from lipwright.jobs.messages import AvatarRef, Background, MatteRef, ResolvedAvatar, SourceVideo, behaviour_of
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.jobs.model.compute import ComputeTime, Metered, received
from lipwright.jobs.model.usage import LiveUsage
from lipwright.media.live.encoder import LiveEncoder
from lipwright.media.matte import matte_info
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame
from lipwright.rendering.live_admission import LiveAdmission
from lipwright.rendering.live_chunk import LiveChunk, LiveChunkRequest
from lipwright.storage.job_table import JobTable
from models.clips.graph import ClipGraph
from models.matting.report import MatteReport
from tests.unit.media.clips import info_of

SIDE = 64
FPS = Fraction(25)
AVATAR = "a1"
INFO = info_of(SIDE, SIDE, FPS, 100, colour=ColourTags(matrix=6, full_range=False, primaries=2, transfer=2))


class GreyService:
    """Implements `LiveService`: pictures are as light as the speech behind them is loud."""

    def __init__(self, max_sessions: int = 1) -> None:
        self.admission = LiveAdmission(LiveConfig(max_sessions=max_sessions))
        self.requests: list[LiveChunkRequest] = []
        self.render_s = 0.0
        self.may_render: asyncio.Event | None = None  # chunks wait for it
        self.errors: list[LipwrightError] = []  # of the next chunks
        self.prepare_s = 0.0
        self.settings: list[AvatarSettings] = []  # of the sessions
        self.held: list[tuple[str, str | None]] = []
        self.reports: list[LiveUsage] = []
        self.refusal: LipwrightError | None = None  # of the next sessions
        self.graph: ClipGraph | None = None  # of the avatar
        self.moves = asyncio.Event()  # sessions move to another node
        self._encoders: dict[str, tuple[str, LiveEncoder]] = {}  # with the reference of its last picture

    async def prepare(
        self, session_id: str, avatar_id: str, owner: str | None, settings: AvatarSettings
    ) -> ResolvedAvatar:
        self.settings.append(settings)
        await asyncio.sleep(self.prepare_s)
        if avatar_id != AVATAR:
            raise NotFoundError(f"There is no avatar {avatar_id}.")
        avatar = AvatarRef("avatar", SourceVideo("presenter.mp4", INFO))
        background = None
        if settings.background is not None:
            report = MatteReport(mode="person", screen=None, sha256="", uncertain_share=0)
            background = Background(MatteRef("matte.mp4", matte_info(INFO), report), settings.background)
        return ResolvedAvatar(avatar, background, settings.expressiveness, behaviour_of(settings), self.graph)

    async def admit(self, session_id: str, owner: str | None) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.admission.admit(session_id, owner)

    async def report(self, usage: LiveUsage) -> None:
        self.reports.append(usage)

    async def leave(self, usage: LiveUsage) -> None:
        self.reports.append(usage)
        self.admission.leave(usage.session_id)

    async def until_moved(self) -> NoReturn:
        await self.moves.wait()
        raise BusyError("This node is being drained.", 0.2)

    async def pin(self, avatar_id: str, owner: str | None) -> None:
        self.held.append((avatar_id, owner))

    async def render(self, request: LiveChunkRequest) -> LiveChunk:
        if self.errors:
            raise self.errors.pop(0)
        self.requests.append(request)
        self.admission.rendered(request.session_id)
        received(Metered(None, ComputeTime(1.0, 0.0)))
        await asyncio.sleep(self.render_s)
        if self.may_render is not None:
            await self.may_render.wait()
        reference, encoder = self._encoders.pop(request.session_id, (None, None))
        if encoder is None or request.reference is None or request.reference != reference:
            encoder = LiveEncoder(INFO, 30, "ultrafast")
        chroma = np.full((SIDE // 2, SIDE // 2), 128, np.uint8)
        for _ in range(request.num_frames):
            encoder.write(YuvFrame(np.full((SIDE, SIDE), 40, np.uint8), chroma, chroma))
        stop = request.first_frame + request.num_frames
        self._encoders[request.session_id] = str(stop), encoder
        return LiveChunk(encoder.finish(), stop, reference=str(stop))


class GreyAvatars(GreyService):
    """The same, with the objects from a table."""

    def __init__(self, table: JobTable) -> None:
        super().__init__()
        self._table = table

    async def prepare(
        self, session_id: str, avatar_id: str, owner: str | None, settings: AvatarSettings
    ) -> ResolvedAvatar:
        self._table.get_avatar(avatar_id, owner)
        return await super().prepare(session_id, AVATAR, owner, settings)


@dataclass
class Collected:
    """Implements `lipwright.api.live.message_handler.Connection`: what was sent, in order."""

    texts: list[dict[str, Any]] = field(default_factory=list)
    binaries: list[bytes] = field(default_factory=list)
    receives_video: bool = True
    needs_head: bool = True

    async def send_text(self, data: str) -> None:
        self.texts.append(json.loads(data))

    async def send_bytes(self, data: bytes) -> None:
        self.binaries.append(data)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [text for text in self.texts if text["type"] == kind]
