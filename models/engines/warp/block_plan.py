"""A block of output frames, from the predicted mouth to the drive: calibrated, eased at gaps, within its shots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.drive import Drive, plan_drive
from models.engines.warp.exemplar_path import PathState
from models.mouth.smile import smile_release
from models.speech.speech_to_mouth import MouthBlock
from models.track.trust import mouth_share


def plan_block(
    avatar: WarpAvatar,
    mouth: MouthBlock,
    source_index: NDArray[np.int32],
    first_frame: int,
    state: PathState | None,
) -> tuple[Drive, PathState | None]:
    """Plans the output frames from `first_frame` on: see `plan_drive`.

    Args:
        avatar: The avatar.
        mouth: T frames as predicted from the speech, for the average speaker.
        source_index: (T,) source frames.
        first_frame: Output frame of row 0.
        state: From the block before, or None.
    """
    source_index = np.asarray(source_index, np.int32)
    shape = shown_shape(avatar, mouth, source_index)
    hold = (1 - mouth.gate) * mouth_share(avatar.track.trust[source_index])
    return plan_in_shots(avatar, shape, source_index, state, first_frame=first_frame, hold=hold)


def plan_ahead(
    avatar: WarpAvatar,
    mouth: MouthBlock,
    source_index: NDArray[np.int32],
    first_frame: int,
    state: PathState | None,
    num_kept: int,
) -> tuple[Drive, PathState | None]:
    """Plans T frames of which the first `num_kept` are shown; those behind are only looked at, and planned again."""
    drive, _ = plan_block(avatar, mouth, source_index, first_frame, state)
    kept = drive.slice(0, num_kept)
    if avatar.bank is None:
        return kept, None
    shape = shown_shape(avatar, mouth, source_index)
    return kept, PathState(int(kept.exemplar[-1]), shape[num_kept - 1].copy())


def shown_shape(avatar: WarpAvatar, mouth: MouthBlock, source_index: NDArray[np.int32]) -> NDArray[np.float32]:
    """(T, 8) mouth shapes of this avatar: calibrated, and led to the source's own where the effect fades out."""
    shape = avatar.calibration.apply(mouth)
    if not avatar.talks:
        # In pauses too, where a smile that comes and goes would twitch.
        shape = shape + smile_release(avatar.track.rest)
    return ease(avatar, shape, source_index)


def ease(avatar: WarpAvatar, shape: NDArray[np.float32], source_index: NDArray[np.int32]) -> NDArray[np.float32]:
    """Leads (T, 8) mouth shapes to those of the (T,) source frames where the effect fades out."""
    own = avatar.track.shape[source_index]
    share = mouth_share(avatar.track.trust[source_index])[:, None]
    return np.where(share < 1, own + share * (shape - own), shape).astype(np.float32)


def plan_in_shots(
    avatar: WarpAvatar,
    shape: NDArray[np.float32],
    source_index: NDArray[np.int32],
    state: PathState | None,
    *,
    first_frame: int = 0,
    hold: NDArray[np.float32] | None = None,
) -> tuple[Drive, PathState | None]:
    """Plans frames with the exemplars of their own and of like shots: see `plan_drive`.

    A shot without any is shown as a silent source is.
    """
    if avatar.forbidden_in_shot is None:
        return plan_drive(avatar, shape, source_index, state, first_frame=first_frame, hold=hold)
    forbidden = avatar.forbidden_in_shot[avatar.track.shot[source_index]]
    drive, state = plan_drive(
        avatar, shape, source_index, state, first_frame=first_frame, forbidden=forbidden, hold=hold
    )
    without = np.asarray(forbidden.all(1))
    if not without.any():
        return drive, state
    silent, _ = plan_drive(avatar, shape, source_index, None, first_frame=first_frame, hold=hold, uses_bank=False)
    return silent.where(without, drive), state
