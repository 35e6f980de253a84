"""Measures what a live session costs here, decides whether another fits in real time, and estimates when one can."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from lipwright.config import LiveConfig
from lipwright.errors import BusyError
from lipwright.jobs.messages import ResolvedAvatar
from lipwright.media.audio import SPEECH_SAMPLE_RATE
from lipwright.rendering.live_chunk import LiveChunk, LiveChunkRequest
from models.avatar.behaviour import TimedBehaviour
from models.speech.stream import LOOK_AHEAD_SECONDS, SpeechStream

_NUM_CHUNKS: Final = 6  # half of them silent
_PITCH_HZ, _SYLLABLES_HZ, _LEVEL = 120, 4, 6000.0


class ChunkRenderer(Protocol):
    """The measured renderer: `lipwright.rendering.live_renderer.LiveRenderer`."""

    async def render(self, request: LiveChunkRequest) -> LiveChunk:
        """Render one chunk."""
        ...


async def measure_cost(renderer: ChunkRenderer, session_id: str, shown: ResolvedAvatar, live: LiveConfig) -> float:
    """Return the seconds of the replica (`LiveChunk.busy_s`) that one second of stream takes; half of it is spoken.

    Spoken chunks have the length of those of a microphone, `live.chunk_seconds`, and silent ones that of a pause,
    `live.max_chunk_seconds`. The first one of each kind, which loads the avatar and starts its decoder, does not count.
    """
    fps = shown.avatar.source.info.fps
    lengths = [max(1, round(seconds * fps)) for seconds in (live.max_chunk_seconds, live.chunk_seconds)]
    silent, spoken = SpeechStream(), SpeechStream()
    seconds = float((_NUM_CHUNKS // 2 + 1) * sum(lengths) / fps) + LOOK_AHEAD_SECONDS
    times = np.arange(round(seconds * SPEECH_SAMPLE_RATE)) / SPEECH_SAMPLE_RATE
    loudness = np.sin(np.pi * _SYLLABLES_HZ * times) ** 2
    spoken.push((_LEVEL * loudness * (2 * (_PITCH_HZ * times % 1) - 1)).astype(np.int16))  # a voice: a saw tooth
    state: object = None
    reference: str | None = None
    first, share = 0, 0.0
    for number in range(_NUM_CHUNKS + 2):
        stream, num = (silent, spoken)[number % 2], lengths[number % 2]
        window = stream.window(float(first / fps), float((first + num) / fps))
        request = LiveChunkRequest(
            session_id,
            shown.avatar,
            window,
            first,
            num,
            state,
            shown.expressiveness,
            (TimedBehaviour(0.0, shown.behaviour),),
            shown.background,
            reference,
        )
        chunk = await renderer.render(request)
        state, reference = chunk.state, None if number % 2 else chunk.reference  # silent ones begin with a keyframe
        share += chunk.busy_s * float(fps / num) / _NUM_CHUNKS * (number >= 2)
        first += num
    return share


_NUM_LENGTHS: Final = 64  # only recent sessions: usage changes over the day
_NUM_ENDED: Final = 256  # a chunk that was requested before its session ended can be rendered after that
_MAX_START_S: Final = 900.0  # without a chunk: its Ingress died, or the analysis of its avatar takes too long
_MAX_GAP_S: Final = 60.0  # between two chunks; a client that plays nothing is closed earlier


@dataclass
class _Session:
    since: float
    seen: float
    owner: str | None = None
    cost: float | None = None  # share of the replica's time; None until it is measured
    has_begun: bool = False  # whether a chunk was rendered, so that its length counts


class LiveAdmission:
    """The sessions of one replica.

    A session is admitted while what all of them take together, each at the measured cost of its avatar, stays below
    `live.max_load` of the replica's time, and there are fewer than `live.max_sessions`. One session is always admitted.
    An API key has a share of both, `live.max_share_per_key`, and one session in any case.

    Args:
        live: Limits.
        now: Monotonic clock, in seconds.
    """

    def __init__(self, live: LiveConfig, now: Callable[[], float] = time.monotonic) -> None:
        self._live, self._now = live, now
        self._sessions: dict[str, _Session] = {}
        self._lengths: deque[float] = deque(maxlen=_NUM_LENGTHS)
        self._ended: deque[str] = deque(maxlen=_NUM_ENDED)
        self._usual_cost = 0.0

    @property
    def num_sessions(self) -> int:
        """Number of current sessions."""
        return len(self._sessions)

    def admit(self, session_id: str, owner: str | None = None) -> None:
        """Take a new session, whose cost is not known yet.

        Args:
            session_id: The session.
            owner: ID of the API key that starts it; None without keys.

        Raises:
            BusyError: The replica cannot render another session, or not one of this owner, or the session has ended:
                its client left before this call arrived.
        """
        if session_id in self._ended:
            raise BusyError("The live session has ended.", 0.0)
        self.forget_lost()
        self._check(session_id, owner, self._usual_cost)
        now = self._now()
        self._sessions[session_id] = _Session(now, now, owner)

    def set_cost(self, session_id: str, cost: float) -> None:
        """Set the share of the replica's time that an admitted session takes.

        Raises:
            BusyError: That is more than is left; the session is dropped.
        """
        session = self._sessions.get(session_id)  # none if its client has left
        self._check(session_id, None if session is None else session.owner, cost)
        self._usual_cost = cost
        if session is not None:
            session.cost = cost

    def rendered(self, session_id: str) -> None:
        """Note that a chunk of a session was rendered. One that another replica admitted is taken over."""
        if session_id in self._ended:
            return
        now = self._now()
        session = self._sessions.setdefault(session_id, _Session(now, now))
        session.seen, session.has_begun = now, True

    def leave(self, session_id: str) -> None:
        """End a session, if there is one of that name."""
        self._ended.append(session_id)
        session = self._sessions.pop(session_id, None)
        if session is not None and session.has_begun:
            self._lengths.append(self._now() - session.since)

    def _check(self, session_id: str, owner: str | None, cost: float) -> None:
        others = [session for name, session in self._sessions.items() if name != session_id]
        own = [session for session in others if session.owner == owner] if owner is not None else []
        for sessions, share, whose in ((others, 1.0, ""), (own, self._live.max_share_per_key, " of this API key")):
            if not self._has_space(sessions, share, cost):
                self._sessions.pop(session_id, None)
                message = f"All {len(sessions)} live sessions{whose} are in use."
                raise BusyError(message, math.ceil(self._free_in_s(sessions)))

    def _has_space(self, sessions: list[_Session], share: float, cost: float) -> bool:
        """Return whether a session may be added to these in a share of the replica."""
        most = self._live.max_sessions
        if most is not None and len(sessions) >= (most if share == 1 else max(1, int(most * share))):
            return False
        load = sum(self._usual_cost if each.cost is None else each.cost for each in sessions)
        return not sessions or load + cost <= self._live.max_load * share

    def forget_lost(self) -> None:
        """End sessions from which nothing has come for too long."""
        now = self._now()
        for name, session in list(self._sessions.items()):
            if now - session.seen > (_MAX_GAP_S if session.has_begun else _MAX_START_S):
                del self._sessions[name]

    def _free_in_s(self, sessions: list[_Session]) -> float:
        """Return the expected time until one of the sessions ends; at least one second."""
        now = self._now()
        left = (self._left_s(now - session.since) for session in sessions)
        return max(1.0, min(left, default=self._live.max_session_s))

    def _left_s(self, age_s: float) -> float:
        """Return the median remaining length of a session of this age, from recent sessions that lasted longer.

        Without any, as much again as it has lasted: the median without prior knowledge (Gott, Nature 363, 1993).
        """
        longer = [length - age_s for length in self._lengths if length > age_s]
        return min(statistics.median(longer) if longer else age_s, self._live.max_session_s - age_s)
