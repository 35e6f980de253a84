"""Quality measurements of the warp engine: on the plan of a block, and on rendered pixels in silence."""

from __future__ import annotations

from dataclasses import replace
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
from models.quality.measures import BlockMeasures, measure_view
from models.speech.speech_to_mouth import MouthBlock
from models.track.raw_landmarks import SkipReason

_OPEN_IN = CHANNELS.index("open_in")
_DRAWN = 0.05  # weight above which a drawn interior is visible
# Half of the window's sides in eye distances, as in `exemplars`, and samples along them.
_HALF_WIDTH, _HALF_HEIGHT = 0.09, 0.19
_COLUMNS, _LINES = 16, 40
_MIN_LUMA: Final = 8.0  # anything darker is noise


def measure_block(avatar: WarpAvatar, mouth: MouthBlock, plan: MouthPlan) -> BlockMeasures:
    """Measure the plan of one block, from `plan_block`, for T predicted frames."""
    track, index = avatar.track, plan.source_index
    shape = avatar.calibration.apply(mouth)
    opening = shape[:, _OPEN_IN]
    is_driven = track.driving_weight[index] >= 1  # elsewhere the source's own mouth is visible, at least partly
    shown = track.skip_reason[index] == SkipReason.NONE
    speaks = is_driven & (mouth.gate >= 0.5)
    gap = _shown_gaps(avatar, plan)
    silent = np.where(gap > OPEN_MOUTH, np.maximum(opening, gap), opening)[is_driven & (mouth.gate < 0.5)]
    used = np.zeros(0 if avatar.bank is None else len(avatar.bank), np.bool_)
    exemplars = plan.exemplar[shown]
    used[exemplars[exemplars >= 0]] = True
    view = measure_view(avatar.info, track, avatar.talks, index, mouth.gate)
    calibration = avatar.calibration
    return replace(
        view,
        source=replace(
            view.source,
            shows_closed_mouth=view.source.shows_closed_mouth and _some_mouth_is_closed(avatar),
            num_exemplars=len(used),
            is_fitted=calibration.is_fitted,
            own_speech=calibration.own_speech,
        ),
        speech=RunningStats.of(opening[speaks]),
        silence=RunningStats.of(silent),
        num_open_in_silence=int((silent > OPEN_MOUTH).sum()),
        jitter=lip_jitter(shape, speaks, mouth.fps),
        num_drawn=int((plan.interior[shown] > _DRAWN).sum()),
        used=used,
    )


def _shown_gaps(avatar: WarpAvatar, plan: MouthPlan) -> NDArray[np.float32]:
    """Return (T,) what shows between the lips of the exemplars of a plan, in eye distances; 0 without exemplar.

    Lips that are closed over their teeth are brought together by as much as their landmarks say.
    """
    bank = avatar.bank
    if bank is None:
        return np.zeros(len(plan), np.float32)
    closed = np.where(plan.own_teeth > 0.5, bank.shape[plan.exemplar, _OPEN_IN], 0)
    return np.where(plan.exemplar >= 0, bank.gap[plan.exemplar] - closed, 0).astype(np.float32)


def _some_mouth_is_closed(avatar: WarpAvatar) -> bool:
    return avatar.bank is None or bool((avatar.bank.opening <= OPEN_MOUTH).any())


def silent_motion(chunk: FaceChunk, patches: FacePatches) -> RunningStats:
    """Measure how far rendered mouths move in silence; only faces that fully hold their mouth are measured.

    It uses the brightness profile down the middle of the mouth in a head-fixed window. Parting lips, flickering teeth
    and trembling edges change it; brightness, and a gradient of it down the face, do not count.

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
    """Return the (S, 2, 3) maps from window samples to region pixels of the S silent faces."""
    silent = (chunk.hold >= 1) & (chunk.opacity >= 1)
    head = anchor_points(0.0)[:, :2]
    design = np.column_stack([np.ones(len(head)), head])
    axes = (np.linalg.pinv(design) @ chunk.target_points[silent, NUM_LANDMARKS:])[:, 1:]  # (S, 2, 2) for x and y
    right, down = 2 * _HALF_WIDTH / _COLUMNS * axes[:, 0], -2 * _HALF_HEIGHT / _LINES * axes[:, 1]
    corner = chunk.seam[silent] - (_COLUMNS - 1) / 2 * right - (_LINES - 1) / 2 * down
    return np.asarray(np.stack([right, down, corner], -1), np.float32)


def _lines(luma: NDArray[np.uint8], window: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (40,) mean brightness of each line of the window, divided by the median of all."""
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    picture = cv2.warpAffine(luma, window, (_COLUMNS, _LINES), flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(picture.mean(1) / max(float(np.median(picture)), _MIN_LUMA), np.float32)
