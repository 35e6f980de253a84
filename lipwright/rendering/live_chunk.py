"""Messages between a live session and the process that renders its frames, a chunk of a few frames at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn, Protocol

from lipwright.jobs.messages import AvatarRef, Background, ResolvedAvatar
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.jobs.model.usage import LiveUsage
from lipwright.media.live.encoder import EncodedPictures
from lipwright.media.playback import Playback
from models.avatar.behaviour import USUAL_BEHAVIOURS, TimedBehaviour
from models.speech.stream import SpeechWindow

CHUNK_TIMEOUT_S: Final = 15.0
"""Timeout for rendering one chunk."""


@dataclass(frozen=True)
class LiveChunkRequest:
    """A request for one chunk. It is self-contained: the same request gives the same pictures in any process."""

    session_id: str  # the session
    avatar: AvatarRef  # the avatar that speaks; already analysed
    window: SpeechWindow  # the speech around the frames
    first_frame: int  # number of the first frame in the session
    num_frames: int  # 1 or more
    state: object  # `LiveChunk.state` of the previous chunk, None for the first
    expressiveness: float = 1.0  # see `models.avatar.avatar.Avatar`
    behaviours: tuple[TimedBehaviour, ...] = USUAL_BEHAVIOURS  # how a still behaves; without any, it does not move
    background: Background | None = None  # what is behind the person; None: what is in the source
    # `LiveChunk.reference` of the chunk that was shown before, so that this one may refer to its pictures; None: begin
    # with a keyframe. It also begins with one if the process does not have that chunk's encoder.
    reference: str | None = None
    playback: Playback = Playback()  # how the source is played; of a path, at least the part that the frames show


class LiveChunk(NamedTuple):
    """A rendered chunk."""

    pictures: EncodedPictures  # the encoded frames
    state: object  # passed to the request of the next chunk
    busy_s: float = 0.0  # how long it kept its replica busy: CPU time, with a GPU or several threads wall-clock time
    reference: str | None = None  # names the last picture, for the request of the next chunk


class LiveService(Protocol):
    """The renderer of live sessions: deployments behind handles, or an object in this process."""

    async def admit(self, session_id: str, owner: str | None) -> None:
        """Take a slot for a new session of an owner, until `leave`.

        Raises:
            BusyError: All slots, or all of the owner, are in use.
            KeyLimitError: The API key may have no further session.
        """

    async def prepare(
        self, session_id: str, avatar_id: str, owner: str | None, settings: AvatarSettings
    ) -> ResolvedAvatar:
        """Return the avatar of an admitted session, analysed for the engine, once its first chunk can be requested.

        Options that `settings` leave unset have the values of the avatar. The matte that the background needs is
        finished. The avatar is protected from eviction; see `hold`.

        Raises:
            BusyError: A session of this avatar costs more than is left.
            NotFoundError: The owner has no such avatar.
            OptionError: The matte must be keyed but the source shows no screen, or the engine cannot scale the
                movement.
            LipwrightError: The session cannot start.
        """
        ...

    async def report(self, usage: LiveUsage) -> None:
        """Record what an admitted session has used since its start.

        Raises:
            LipwrightError: It could not be recorded; the next report includes it.
        """

    async def leave(self, usage: LiveUsage) -> None:
        """End an admitted session, and record what it has used; raises nothing."""

    async def until_moved(self) -> NoReturn:
        """Wait until this process is taken away and another one takes its sessions.

        Raises:
            BusyError: That is now; clients reconnect.
        """
        ...

    async def pin(self, avatar_id: str, owner: str | None) -> None:
        """Keep a prepared avatar from being evicted for another `lipwright.jobs.messages.PIN_S`.

        Raises:
            LipwrightError: The hold could not be renewed.
        """

    async def render(self, request: LiveChunkRequest) -> LiveChunk:
        """Render one chunk.

        Raises:
            LipwrightError: The chunk cannot be rendered.
        """
        ...
