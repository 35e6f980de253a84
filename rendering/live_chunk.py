"""A moment: the few frames of a live session that are due, as what travels to and from whoever renders them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from jobs.messages import AvatarRef
from media.live.gop_encoder import EncodedGop
from models.speech.stream import SpeechWindow


@dataclass(frozen=True)
class LiveChunkRequest:
    """What is asked for. It holds all that is needed: the same request gives the same moment in any process.

    Attributes:
        session_id: Whose moment it is.
        avatar: Who speaks; analysed.
        window: The speech around the frames.
        first_frame: Number of the first frame in the session.
        num_frames: 1 or more.
        state: Of the moment before, None at the first.
    """

    session_id: str
    avatar: AvatarRef
    window: SpeechWindow
    first_frame: int
    num_frames: int
    state: Any


class LiveChunk(NamedTuple):
    """What comes back.

    Attributes:
        pictures: The frames, encoded.
        state: What the next moment continues from.
    """

    pictures: EncodedGop
    state: Any


class LiveService(Protocol):
    """What live sessions need of the rest: deployments behind handles, or a renderer in this process."""

    async def prepare(self, session_id: str, avatar_id: str, owner: str | None) -> AvatarRef:
        """Return an avatar, analysed for the engine of live sessions, once its first moment can be asked for.

        It is held from then on; see `hold`.

        Raises:
            NotFoundError: The owner has no such avatar.
            LipwrightError: Why there can be no session.
        """
        ...

    async def hold(self, avatar_id: str, owner: str | None) -> None:
        """Say that an avatar that was prepared is still shown: it stays for another `jobs.messages.HOLD_S`.

        Raises:
            LipwrightError: Why that cannot be said.
        """

    async def render(self, request: LiveChunkRequest) -> LiveChunk:
        """Render one moment.

        Raises:
            LipwrightError: Why it cannot be done.
        """
        ...
