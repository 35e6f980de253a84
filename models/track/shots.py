"""Finds hard cuts: frames that differ from the one before much more than their neighbours do.

Frames are compared as small images with normalised brightness and contrast, so that a change of light or exposure is
not a cut. A flash, or a few black frames within the same scene, is not a cut either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.yuv_frame import YuvFrame

_WIDTH, _HEIGHT = 32, 18
_NUM_LUMA = _WIDTH * _HEIGHT
NUM_SCENE_VALUES: Final = _NUM_LUMA * 3 // 2
_SAMPLES = 4  # pixels sampled across a cell

NUM_USUAL: Final = 8  # changes before a frame (and after it) that determine the usual change
_MIN_CHANGE = 0.1  # of the contrast; sensor noise changes about .005, a talking head .01
_MIN_UNKNOWN = 0.25  # if the usual change is unknown: a shaken camera in a dim room changes .1 to .2
_RATIO = 4.0
_USUAL_QUANTILE = 0.75
_CONTRAST_FLOOR = 4.0  # levels; keeps the noise of nearly uniform frames from being amplified
_CHROMA_LEVELS = 64.0  # a change of all chroma by this much counts like a change of the whole contrast
_MAX_FLASH_FRAMES = 5


def scene_of(frame: YuvFrame) -> NDArray[np.uint8]:
    """Return (864,) uint8: the frame as 32 x 18 luma and 16 x 9 chroma pixels."""
    half = (_WIDTH // 2, _HEIGHT // 2)
    planes = (_shrink(frame.y, (_WIDTH, _HEIGHT)), _shrink(frame.u, half), _shrink(frame.v, half))
    return np.concatenate([plane.ravel() for plane in planes])


def change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (...) how much (..., 864) scenes differ: 0 for identical, about 1 for unrelated ones."""
    luma = [_even(scenes[..., :_NUM_LUMA]) for scenes in (before, after)]
    chroma = [scenes[..., _NUM_LUMA:].astype(np.float64) for scenes in (before, after)]
    colour = np.abs(chroma[1] - chroma[0]).mean(-1) / _CHROMA_LEVELS
    return np.asarray(np.abs(luma[1] - luma[0]).mean(-1) + colour)


def is_jump(step: float, usual: Sequence[float] | NDArray[np.floating]) -> bool:
    """Whether a change is much larger than those around it."""
    if not len(usual):
        return step > _MIN_UNKNOWN
    return step > _MIN_CHANGE and step > _RATIO * float(np.quantile(usual, _USUAL_QUANTILE))


def is_unrest(step: float, before: float, over_both: float) -> bool:
    """Whether a jump right after another is camera motion rather than a second cut: it does not lead back.

    `before` is the change of the first jump, 0 if there was none, `over_both` that from before both to after them.
    """
    return 0 < before < 2 * step and over_both > step / 2


@dataclass(frozen=True)
class SceneHistory:
    """State of the last frames, to find cuts at once while frames arrive one by one."""

    scene: NDArray[np.uint8]  # (864,) the last frame
    before: NDArray[np.uint8] | None = None  # the frame before it
    changes: tuple[float, ...] = ()  # changes between the last frames of this shot
    jump: float = 0.0  # the change to the last frame if that was a cut
    was_no_cut: bool = False  # the last frame shows that the jump before it was no cut

    @property
    def is_cut(self) -> bool:
        """Whether the last frame starts a new shot."""
        return self.jump > 0

    @classmethod
    def seen(cls, frame: YuvFrame, last: SceneHistory | None) -> SceneHistory:
        """Return the history with the next frame; `last` is None at the first."""
        scene = scene_of(frame)
        if last is None:
            return cls(scene)
        step = float(change(last.scene, scene))
        if not is_jump(step, last.changes):
            return cls(scene, last.scene, (*last.changes, step)[-NUM_USUAL:])
        if last.before is not None and is_unrest(step, last.jump, float(change(last.before, scene))):
            return cls(scene, last.scene, (last.jump, step), was_no_cut=True)
        return cls(scene, last.scene, jump=step)


def shots_of(scenes: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return (N,) int32 shot numbers, ascending from 0, of (N, 864) scenes."""
    steps = change(scenes[:-1], scenes[1:])
    jumps = [i for i in range(len(steps)) if is_jump(float(steps[i]), _around(steps, i))]
    starts = np.zeros(len(scenes), np.int32)
    starts[[i + 1 for i in _without_flashes(jumps, scenes)]] = 1
    return np.cumsum(starts, dtype=np.int32)


def _around(steps: NDArray[np.float64], i: int) -> NDArray[np.float64]:
    return np.concatenate([steps[max(0, i - NUM_USUAL) : i], steps[i + 1 : i + 1 + NUM_USUAL]])


def _without_flashes(jumps: list[int], scenes: NDArray[np.uint8]) -> list[int]:
    """Drop pairs of jumps after which the scene is the same as before."""
    kept: list[int] = []
    i = 0
    while i < len(jumps):
        back = next(
            (
                k
                for k in range(i + 1, len(jumps))
                if jumps[k] - jumps[i] <= _MAX_FLASH_FRAMES
                and change(scenes[jumps[i]], scenes[jumps[k] + 1]) < _MIN_CHANGE
            ),
            None,
        )
        if back is None:
            kept.append(jumps[i])
        i = i + 1 if back is None else back + 1
    return kept


def _shrink(plane: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Means of some pixels of each cell; using all would take milliseconds in large frames."""
    step = max(1, min(plane.shape[1] // (size[0] * _SAMPLES), plane.shape[0] // (size[1] * _SAMPLES)))
    some = np.ascontiguousarray(plane[::step, ::step])
    return np.asarray(cv2.resize(some, size, interpolation=cv2.INTER_AREA), np.uint8)


def _even(luma: NDArray[np.uint8]) -> NDArray[np.float64]:
    values = luma.astype(np.float64)
    contrast = values.std(-1, keepdims=True) + _CONTRAST_FLOOR
    return np.asarray((values - values.mean(-1, keepdims=True)) / contrast)
