"""When a job shows which clips of its avatar: the times of its actions, and the path through the composite source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lipwright.jobs.messages import PreparedSpeech
from lipwright.jobs.model.plan import PlannedAction
from lipwright.jobs.model.record import JobRecord
from lipwright.jobs.model.turns import PlannedTurn
from lipwright.media.playback import Playback
from lipwright.media.subtitles.actions import read_actions
from lipwright.storage.files import StoredFiles
from models.clips.graph import ClipGraph
from models.clips.path import ActionCue, PathState, extend_path
from models.speech.activity import is_speech
from models.speech.level import ROWS_PER_SECOND, open_measured_speech
from models.speech.word_times import word_times

_ROWS_AT_A_TIME: Final = 600 * ROWS_PER_SECOND
_MAX_PAUSE_ROWS: Final = ROWS_PER_SECOND // 2
"""Pauses up to this long belong to the speech around them."""


def speech_rows(files: StoredFiles, speech: PreparedSpeech) -> NDArray[np.bool_]:
    """Return (N,) whether somebody is heard in each row of 20 ms of prepared speech."""
    level = speech.level
    ends = [
        (first, min(first + _ROWS_AT_A_TIME, level.num_rows)) for first in range(0, level.num_rows, _ROWS_AT_A_TIME)
    ]
    # Each part has a mapping of its own: pages that were read count as memory until it is closed.
    with files.fetched(speech.key) as path:
        return np.concatenate([is_speech(open_measured_speech(path, level), level, *each) for each in ends])


def planned_actions(job: JobRecord, speaks: NDArray[np.bool_]) -> tuple[PlannedAction, ...]:
    """Return the actions of a job in order of time; `speaks` are the rows of its whole speech."""
    options, text = job.options, job.spec.text
    turns = list(options.turns or ())
    if text is not None:
        spoken = read_actions(text, job.plan.action_names)
        end = len(speaks) / ROWS_PER_SECOND
        turns.append(PlannedTurn(start=0.0, end=end, text=spoken.text, actions=spoken.actions))
    found = [] if options.action is None else [PlannedAction(seconds=0.0, name=options.action)]
    found += [*job.plan.cue_actions, *(action for turn in turns for action in _actions_of(turn, speaks))]
    return tuple(sorted(found, key=lambda action: action.seconds))


def _actions_of(turn: PlannedTurn, speaks: NDArray[np.bool_]) -> Iterator[PlannedAction]:
    if turn.action is not None:
        yield PlannedAction(seconds=turn.start, name=turn.action)
    if not turn.actions or turn.text is None or turn.end is None:
        return
    rows = speaks[round(turn.start * ROWS_PER_SECOND) : round(turn.end * ROWS_PER_SECOND)]
    cut_rows = round((turn.cut_seconds or 0.0) * ROWS_PER_SECOND)
    times = word_times(
        turn.text, [action.position for action in turn.actions], np.pad(rows, (0, cut_rows), constant_values=True)
    )
    for action, seconds in zip(turn.actions, times, strict=True):
        yield PlannedAction(seconds=round(min(turn.start + seconds, turn.end), 3), name=action.name)


class ClipTimes(NamedTuple):
    """What decides which clips are shown when.

    Attributes:
        graph: The clips.
        speaks: (N,) whether the person is heard in each row of 20 ms.
        actions: In order of time.
        seed: Chooses among clips that fit equally well.
    """

    graph: ClipGraph
    speaks: NDArray[np.bool_]
    actions: tuple[PlannedAction, ...]
    seed: int

    def playback(self, playback: Playback, num_frames: int, fps: float) -> Playback:
        """Return how the composite source, at `fps`, is played in a result of `num_frames`."""
        rows_per_frame = ROWS_PER_SECOND / fps
        speaking = [
            (round(start / rows_per_frame), round(stop / rows_per_frame)) for start, stop in _ranges(self.speaks)
        ]
        known = self.graph.action_names
        cues = [ActionCue(round(each.seconds * fps), each.name) for each in self.actions if each.name in known]
        stop = int(num_frames * playback.speed) + 1
        path, _ = extend_path(self.graph, PathState(), stop, speaking, cues, self.seed)
        return playback._replace(path=path)

    def missing(self, playback: Playback) -> tuple[PlannedAction, ...]:
        """Return the actions that a playback does not show: no transition to their clips was near enough."""
        clips = (self.graph.clip_at(frame) for _, frame in playback.path)
        started = [clip.name for clip in clips if clip is not None and clip.kind == "action"]
        missing = []
        for action in self.actions:
            if action.name in started:
                started.remove(action.name)
            else:
                missing.append(action)
        return tuple(missing)


def _ranges(speaks: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the rows [start, stop) in which somebody speaks, with short pauses."""
    edges = np.flatnonzero(np.diff(np.pad(speaks, 1).astype(np.int8)))
    if not len(edges):
        return []
    is_pause = edges[2::2] - edges[1:-1:2] > _MAX_PAUSE_ROWS
    starts, stops = [edges[0], *edges[2::2][is_pause]], [*edges[1:-1:2][is_pause], edges[-1]]
    return [(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)]
