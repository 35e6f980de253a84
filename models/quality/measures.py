"""Quality measures of a job, taken while its mouth is planned: sums over a block of frames that add up over all blocks.

They come from the planned mouth and the tracked face, not from encoded pixels: they cost nothing, and the memory they
take does not grow with the length of a job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lipwright.media.probe import VideoInfo
from models.avatar.mouth_calibration import OwnSpeech
from models.mouth.motion import RunningStats
from models.mouth.shape import OPEN_MOUTH
from models.track.face_track import FaceTrack
from models.track.raw_landmarks import SkipReason

NUM_REASONS = max(SkipReason) + 1
MAX_SKIPPED_RUNS = 100


@dataclass(frozen=True)
class SourceFacts:
    """Results of the analysis of a source."""

    talks: bool  # whether it shows a talking mouth
    has_sound: bool  # whether it has an audio track
    shows_closed_mouth: bool  # whether any frame shows a closed mouth; otherwise the rest position is estimated
    num_exemplars: int = 0  # mouth images kept as exemplars
    is_fitted: bool = False  # whether the predicted mouth was fitted to the source's own speech
    own_speech: OwnSpeech | None = None  # measurements on that speech; None if it has no audio
    frozen_seconds: float = 0.0  # time in which the source video is frozen


class SkippedRun(NamedTuple):
    """Output frames [start, stop), counted from the first one measured, that show the source untouched."""

    reason: SkipReason
    start: int
    stop: int


@dataclass(frozen=True)
class BlockMeasures:
    """Sums over a set of output frames; `+` appends the frames that follow."""

    source: SourceFacts  # facts about the source; the same for all frames of a job
    num_frames: int  # output frames
    num_by_reason: NDArray[np.int64]  # frames by `SkipReason` value; entry 0 counts the frames whose mouth is rewritten
    skipped: tuple[SkippedRun, ...]  # runs of the others, in order; at most `MAX_SKIPPED_RUNS`
    num_skipped_open: int  # how many of those frames show the source's open mouth while nobody speaks
    speech: RunningStats  # openings of the planned mouth in speech, in fully driven frames
    silence: RunningStats  # the same in silence
    num_open_in_silence: int  # how many of those exceed `models.mouth.shape.OPEN_MOUTH`
    # `models.mouth.motion.lip_jitter` of the planned mouth in speech, without differences across blocks
    jitter: RunningStats
    eye_distance: RunningStats  # pixels between the outer eye corners, in frames with the face
    # (2, 4) lowest and highest eye distance, yaw, pitch and roll in those frames; infinite if none
    extremes: NDArray[np.float64]
    num_drawn: int  # frames with a drawn mouth interior
    used: NDArray[np.bool_]  # (B,) whether each exemplar is shown

    def __add__(self, other: BlockMeasures) -> BlockMeasures:
        pairs = zip(self.extremes, other.extremes, (np.minimum, np.maximum), strict=True)
        return BlockMeasures(
            source=self.source,
            num_frames=self.num_frames + other.num_frames,
            num_by_reason=self.num_by_reason + other.num_by_reason,
            skipped=_join(self.skipped, other.skipped, self.num_frames),
            num_skipped_open=self.num_skipped_open + other.num_skipped_open,
            speech=self.speech + other.speech,
            silence=self.silence + other.silence,
            num_open_in_silence=self.num_open_in_silence + other.num_open_in_silence,
            jitter=self.jitter + other.jitter,
            eye_distance=self.eye_distance + other.eye_distance,
            extremes=np.stack([outer(mine, its) for mine, its, outer in pairs]),
            num_drawn=self.num_drawn + other.num_drawn,
            used=self.used | other.used,
        )


def measure_view(
    info: VideoInfo, track: FaceTrack, talks: bool, source_index: NDArray[np.int32], gate: NDArray[np.float32]
) -> BlockMeasures:
    """Measure what every engine has: which frames are left unchanged, and the size and pose of the face.

    Args:
        info: The source.
        track: The face in it.
        talks: Whether it shows a talking mouth.
        source_index: (T,) source frames to show.
        gate: (T,) 1 in speech, 0 in silence.
    """
    skip_reason = track.skip_reason[source_index]
    shown = skip_reason == SkipReason.NONE
    scale = track.scale[source_index][shown]
    view = np.column_stack([scale, track.pose_degrees[source_index][shown]])  # (S, 4)
    nothing = RunningStats()
    return BlockMeasures(
        source=SourceFacts(
            talks, info.has_audio, not track.is_rest_closed_by_model, frozen_seconds=info.frozen_seconds
        ),
        num_frames=len(source_index),
        num_by_reason=np.bincount(skip_reason, minlength=NUM_REASONS).astype(np.int64),
        skipped=skipped_runs(skip_reason),
        num_skipped_open=num_skipped_open(track, source_index, gate),
        speech=nothing,
        silence=nothing,
        num_open_in_silence=0,
        jitter=nothing,
        eye_distance=RunningStats.of(scale),
        extremes=np.stack([view.min(0, initial=np.inf), view.max(0, initial=-np.inf)]),
        num_drawn=0,
        used=np.zeros(0, np.bool_),
    )


def skipped_runs(skip_reason: NDArray[np.uint8]) -> tuple[SkippedRun, ...]:
    """Return the runs of frames that are not rewritten, of (T,) `SkipReason` values."""
    edges = [0, *(np.flatnonzero(np.diff(skip_reason)) + 1).tolist(), len(skip_reason)]
    runs = (SkippedRun(SkipReason(skip_reason[a]), a, b) for a, b in zip(edges, edges[1:], strict=False) if a < b)
    return tuple(run for run in runs if run.reason != SkipReason.NONE)[:MAX_SKIPPED_RUNS]


def num_skipped_open(track: FaceTrack, source_index: NDArray[np.int32], gate: NDArray[np.float32]) -> int:
    """Return how many of (T,) output frames show the source's own open mouth while nobody speaks (`gate` below .5)."""
    skipped = track.skip_reason[source_index] != SkipReason.NONE
    return int((skipped & (gate < 0.5) & (track.shape[source_index, 0] > OPEN_MOUTH)).sum())


def _join(first: tuple[SkippedRun, ...], then: tuple[SkippedRun, ...], num_first_frames: int) -> tuple[SkippedRun, ...]:
    """Return the runs of two consecutive stretches; a run that crosses the border stays one."""
    moved = [SkippedRun(run.reason, run.start + num_first_frames, run.stop + num_first_frames) for run in then]
    if first and moved and first[-1].stop == moved[0].start and first[-1].reason == moved[0].reason:
        first, moved[0] = first[:-1], moved[0]._replace(start=first[-1].start)
    return (*first, *moved)[:MAX_SKIPPED_RUNS]
