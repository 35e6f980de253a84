"""State of face tracking between two frames."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.face.finder import FoundFace
from models.face.landmarks import LandmarkRegion
from models.face.person import Person
from models.face.skin_chroma import chroma_of
from models.track.raw_landmarks import RawRow
from models.track.shots import NUM_USUAL, change, is_jump, is_unrest, scene_of
from models.track.skip_reason import SkipReason


@dataclass(frozen=True)
class TrackState:
    """State from which tracking continues: a few kilobytes, picklable."""

    region: LandmarkRegion | None  # where the face is expected; None while it is lost or not found yet
    points: NDArray[np.float32] | None  # (468, 3) last known points; None before the first
    person: Person | None  # whose face it is; None before the first
    num_frames: int = 0  # frames followed, or frames since the face was last seen, or since the start
    is_after_cut: bool = False  # the face was lost at a cut, so its last place says little
    reason: SkipReason = SkipReason.NO_FACE  # why the face is missing, while it is
    likeness: float = -1.0  # of the face that the last search saw
    presence: float = 0.0  # logit of the landmark network
    scene: NDArray[np.uint8] | None = None  # the frame before, small
    changes: tuple[float, ...] = ()  # between the frames before
    jump: float = 0.0  # the change to the frame before, if that was a jump
    scene_before: NDArray[np.uint8] | None = None  # the frame before the frame before, small


def see(frame: YuvFrame, state: TrackState) -> TrackState:
    """Compares the frame with the one before; a jump ends tracking and starts a search at once."""
    scene = scene_of(frame)
    if state.scene is None:
        return replace(state, scene=scene)
    step = float(change(state.scene, scene))
    is_cut = is_jump(step, state.changes)
    changes = () if is_cut else (*state.changes, step)[-NUM_USUAL:]
    before = state.scene_before
    if is_cut and before is not None and is_unrest(step, state.jump, float(change(before, scene))):
        # Neither was a cut: the face is near where it was.
        is_cut, changes = False, (state.jump, step)
        state = replace(state, is_after_cut=False)
    state = replace(state, scene=scene, scene_before=state.scene, changes=changes, jump=step if is_cut else 0.0)
    if not is_cut:
        return state
    return replace(state, region=None, num_frames=0, is_after_cut=True, reason=SkipReason.NO_FACE)


def taken_up(state: TrackState, face: FoundFace, person: Person) -> TrackState:
    """Starts to follow a found face."""
    state = replace(state, region=face.region, points=face.points, presence=face.presence)
    return replace(state, person=person, num_frames=1, is_after_cut=False)


def row_of(frame: YuvFrame, state: TrackState) -> RawRow:
    """Returns the result for the current frame of the state."""
    assert state.scene is not None
    if state.region is None or state.points is None:
        return RawRow(state.points, state.reason, state.scene, None, state.likeness, 0.0)
    chroma = chroma_of(frame, state.points)
    return RawRow(state.points, SkipReason.SHOWN, state.scene, chroma, state.likeness, state.presence)
