"""What is measured of a block of frames while the warp engine plans it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.drive import Drive
from models.mouth.motion import Moments, lip_jitter
from models.mouth.shape import CHANNELS, OPEN_MOUTH
from models.quality.measures import NUM_REASONS, BlockMeasures, SourceFacts
from models.speech.speech_to_mouth import MouthBlock
from models.track.pass_reason import PassReason

_OPEN_IN = CHANNELS.index("open_in")
_DRAWN = 0.05  # share of a drawn interior that shows


def measure_block(avatar: WarpAvatar, mouth: MouthBlock, drive: Drive) -> BlockMeasures:
    """Measures one block.

    Args:
        avatar: The avatar.
        mouth: T frames as predicted from the speech.
        drive: What `plan_block` made of them.
    """
    track, index = avatar.track, drive.source_index
    shape = avatar.calibration.apply(mouth)
    opening = shape[:, _OPEN_IN]
    passed = track.passed[index]
    is_driven = track.trust[index] >= 1  # elsewhere the source's own mouth is seen, or some of it
    shown = passed == PassReason.SHOWN
    speaks = is_driven & (mouth.gate >= 0.5)
    silent = opening[is_driven & (mouth.gate < 0.5)]
    scale = track.scale[index][shown]
    view = np.column_stack([scale, avatar.pose_degrees[index][shown]])  # (S, 4)
    return BlockMeasures(
        source=_facts(avatar),
        num_frames=len(drive),
        num_passed=np.bincount(passed, minlength=NUM_REASONS).astype(np.int64),
        speech=Moments.of(opening[speaks]),
        silence=Moments.of(silent),
        num_open_in_silence=int((silent > OPEN_MOUTH).sum()),
        jitter=lip_jitter(shape, speaks, avatar.info.fps),
        eye_distance=Moments.of(scale),
        extremes=np.stack([view.min(0, initial=np.inf), view.max(0, initial=-np.inf)]),
        num_drawn=int((drive.interior[shown] > _DRAWN).sum()),
        used=_used(avatar, drive, shown),
    )


def _used(avatar: WarpAvatar, drive: Drive, shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    used = np.zeros(len(avatar.bank) if avatar.bank is not None else 0, np.bool_)
    rows = drive.exemplar[shown]
    used[rows[rows >= 0]] = True
    return used


def _facts(avatar: WarpAvatar) -> SourceFacts:
    return SourceFacts(
        talks=avatar.talks,
        has_sound=avatar.info.has_audio,
        shows_closed_mouth=not avatar.track.is_rest_closed_by_model,
        num_exemplars=len(avatar.bank) if avatar.bank is not None else 0,
        is_fitted=avatar.calibration.is_fitted,
        own_speech=avatar.calibration.own_speech,
        frozen_seconds=avatar.info.frozen_seconds,
    )
