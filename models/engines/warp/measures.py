"""Quality measurements of the warp engine: on the plan of a block, and on rendered pixels in silence."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.engines.patches import FacePatches
from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.chunk import FaceChunk
from models.engines.warp.painting.fields import NUM_LANDMARKS, anchor_points
from models.engines.warp.plan import MouthPlan
from models.mouth.motion import RunningStats, lip_jitter
from models.mouth.shape import CHANNELS, OPEN_MOUTH
from models.quality.measures import NUM_REASONS, BlockMeasures, SourceFacts, num_skipped_open, skipped_runs
from models.speech.speech_to_mouth import MouthBlock
from models.track.skip_reason import SkipReason

_OPEN_IN = CHANNELS.index("open_in")
_DRAWN = 0.05  # weight above which a drawn interior is visible
# Half of the window's sides in eye distances, as in `exemplars`, and samples along them.
_HALF_WIDTH, _HALF_HEIGHT = 0.09, 0.19
_COLUMNS, _LINES = 16, 40
_MIN_LUMA: Final = 8.0  # anything darker is noise


def measure_block(avatar: WarpAvatar, mouth: MouthBlock, plan: MouthPlan) -> BlockMeasures:
    """Measures the plan of one block.

    Args:
        avatar: The avatar.
        mouth: The T predicted frames.
        plan: Their plan, from `plan_block`.
    """
    track, index = avatar.track, plan.source_index
    shape = avatar.calibration.apply(mouth)
    opening = shape[:, _OPEN_IN]
    skip_reason = track.skip_reason[index]
    is_driven = track.driving_weight[index] >= 1  # elsewhere the source's own mouth is visible, at least partly
    shown = skip_reason == SkipReason.SHOWN
    speaks = is_driven & (mouth.gate >= 0.5)
    silent = opening[is_driven & (mouth.gate < 0.5)]
    scale = track.scale[index][shown]
    view = np.column_stack([scale, avatar.pose_degrees[index][shown]])  # (S, 4)
    return BlockMeasures(
        source=_facts(avatar),
        num_frames=len(plan),
        num_by_reason=np.bincount(skip_reason, minlength=NUM_REASONS).astype(np.int64),
        skipped=skipped_runs(skip_reason),
        num_skipped_open=num_skipped_open(track, index, mouth.gate),
        speech=RunningStats.of(opening[speaks]),
        silence=RunningStats.of(silent),
        num_open_in_silence=int((silent > OPEN_MOUTH).sum()),
        jitter=lip_jitter(shape, speaks, avatar.info.fps),
        eye_distance=RunningStats.of(scale),
        extremes=np.stack([view.min(0, initial=np.inf), view.max(0, initial=-np.inf)]),
        num_drawn=int((plan.interior[shown] > _DRAWN).sum()),
        used=_used(avatar, plan, shown),
    )


def _used(avatar: WarpAvatar, plan: MouthPlan, shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    used = np.zeros(len(avatar.bank) if avatar.bank is not None else 0, np.bool_)
    rows = plan.exemplar[shown]
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


def silent_motion(chunk: FaceChunk, patches: FacePatches) -> RunningStats:
    """Measures how far rendered mouths move in silence.

    It uses the brightness profile down the middle of the mouth in a head-fixed window. Parting lips, flickering teeth
    and trembling edges change it; brightness, and a gradient of it down the face, do not count.

    Args:
        chunk: N faces; only those that fully hold their mouth are measured.
        patches: The rendered faces.

    Returns:
        Statistics of one value per face: root mean square difference of its profile from the mean of the chunk,
        relative to the brightness of the mouth.
    """
    silent = np.flatnonzero((chunk.hold >= 1) & (chunk.opacity >= 1))
    if not len(silent):
        return RunningStats()
    lines = np.stack([_lines(patches.y[face], window) for face, window in zip(silent, _windows(chunk), strict=True)])
    changes = lines - lines.mean(0)
    # A head that nods changes the light from line to line by a gradient, which is no motion of the mouth.
    gradient = np.linspace(-1, 1, lines.shape[1])
    changes -= changes.mean(1, keepdims=True) + np.outer(changes @ gradient / (gradient @ gradient), gradient)
    return RunningStats.of(np.sqrt(np.square(changes).mean(1)))


def _windows(chunk: FaceChunk) -> NDArray[np.float32]:
    """Returns the (S, 2, 3) maps from window samples to region pixels of the S silent faces."""
    silent = (chunk.hold >= 1) & (chunk.opacity >= 1)
    head = anchor_points(0.0)[:, :2]
    design = np.column_stack([np.ones(len(head)), head])
    axes = (np.linalg.pinv(design) @ chunk.target_points[silent, NUM_LANDMARKS:])[:, 1:]  # (S, 2, 2) for x and y
    right, down = 2 * _HALF_WIDTH / _COLUMNS * axes[:, 0], -2 * _HALF_HEIGHT / _LINES * axes[:, 1]
    corner = chunk.seam[silent] - (_COLUMNS - 1) / 2 * right - (_LINES - 1) / 2 * down
    return np.asarray(np.stack([right, down, corner], -1), np.float32)


def _lines(luma: NDArray[np.uint8], window: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the (40,) mean brightness of each line of the window, divided by the median of all."""
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    picture = cv2.warpAffine(luma, window, (_COLUMNS, _LINES), flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(picture.mean(1) / max(float(np.median(picture)), _MIN_LUMA), np.float32)
