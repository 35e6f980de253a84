"""Which clips of an avatar a live session shows, chunk by chunk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from lipwright.api.live.audio_timeline import AudioTimeline
from lipwright.errors import OptionError
from lipwright.media.playback import Playback
from lipwright.media.subtitles.actions import checked_action
from models.clips.graph import Clip, ClipGraph
from models.clips.path import ActionCue, PathState, extend_path

MAX_WAITING: Final = 32
_MAX_LATE_SECONDS: Final = 5.0  # then an action is forgotten; `extend_path` starts none that is as late


@dataclass(eq=False)
class WaitingAction:
    """An action that is still to start: once a sample of the received speech is heard, or at once without one."""

    name: str
    sample: int | None = None
    event_id: str | None = None


class ClipPath:
    """The path of a session, and the actions that wait.

    Args:
        graph: The clips; None for an avatar without clips.
        fps: Frame rate of the stream, which is that of the clips.
        seed: Chooses among clips that fit equally well.

    Attributes:
        names: The actions; None without clips.
    """

    def __init__(self, graph: ClipGraph | None, fps: float, seed: int) -> None:
        self._graph, self._fps, self._seed = graph, fps, seed
        self.names = None if graph is None else graph.action_names
        self._started: list[tuple[WaitingAction, float]] = []
        self._state, self._path = PathState(), list[tuple[int, int]]()
        self._waiting: list[WaitingAction] = []

    @property
    def is_acting(self) -> bool:
        """Whether the chunks up to now end in an action."""
        return self._state.action is not None

    def add(self, name: str, event_id: str | None, sample: int | None = None) -> WaitingAction:
        """Have an action start as soon as it can, or when a sample of the speech is heard.

        Raises:
            OptionError: There is no such action, or too many wait.
        """
        checked_action(name, self.names)
        if len(self._waiting) >= MAX_WAITING:
            raise OptionError(f"action: {MAX_WAITING} actions wait already.")
        self._waiting.append(WaitingAction(name, sample, event_id))
        return self._waiting[-1]

    def take_started(self) -> list[tuple[WaitingAction, float]]:
        """Return the actions that have started since the last call, with their stream time."""
        started, self._started = self._started, []
        return started

    def drop_speech(self) -> None:
        """Drop the actions of speech that will not be heard. One that is shown goes on."""
        self._waiting = [action for action in self._waiting if action.sample is None]

    def playback(self, first: int, num: int, speech: AudioTimeline) -> Playback:
        """Return how frames [first, first + num) of the stream are played; `speech` includes their audio."""
        if self._graph is None:
            return Playback()
        heard_until = math.ceil((speech.left_seconds + speech.waiting_seconds) * self._fps)
        speaking = [(first, heard_until)] if speech.is_speaking else []
        due = sorted((cue for action in [*self._waiting] if (cue := self._cue(action, speech))), key=lambda cue: cue[0])
        path, self._state = extend_path(self._graph, self._state, first + num, speaking, due, self._seed)
        for position, frame in path[1:]:  # at its first position, a path continues the one before
            self._note_start(position, self._graph.clip_at(frame))
        self._path += path
        while len(self._path) > 1 and self._path[1][0] <= first:
            del self._path[0]
        return Playback(path=tuple(self._path))

    def _cue(self, action: WaitingAction, speech: AudioTimeline) -> ActionCue | None:
        """Return when an action should start; None if that is not known, or was too long ago: it is then dropped."""
        last, now = self._state.cue, self._state.position
        if action.sample is None:
            position = now
        elif (seconds := speech.time_of(action.sample)) is None:
            return None
        else:
            position = int(seconds * self._fps)
        if position < now - _MAX_LATE_SECONDS * self._fps:
            self._waiting.remove(action)
            return None
        return ActionCue(position if last is None else max(position, last.position + 1), action.name)

    def _note_start(self, position: int, clip: Clip | None) -> None:
        """Take an action whose clip begins to be shown from those that wait."""
        started = next(
            (each for each in self._waiting if clip and clip.kind == "action" and each.name == clip.name), None
        )
        if started is not None:
            self._waiting.remove(started)
            self._started.append((started, position / self._fps))
