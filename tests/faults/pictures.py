"""Looks at a result with PyAV alone: whole, in time, and the same picture as its source where nobody speaks."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

_AAC_FRAME: Final = 1024
_BLOCK: Final = 8
_MAX_DIFFERENCE: Final = 6.0
"""Mean difference of the upper third's block means, levels of 255: a wrong range makes 10, another turn 40."""


def check_result(result: Path, source: Path | None, audio_seconds: float) -> str:
    """Checks one result, against its source's first frame if a source is given; returns its facts for a table.

    Raises:
        AssertionError: It is not what it has to be; says how.
    """
    with av.open(str(result)) as container:
        rate = container.streams.video[0].average_rate
        frames = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]
    assert rate is not None and frames, "the result holds no frame"
    num_expected = max(math.ceil(Fraction(audio_seconds) * rate - Fraction(1, 1000)), 1)
    assert len(frames) == num_expected, f"{len(frames)} frames at {rate}, expected {num_expected} for {audio_seconds} s"
    with av.open(str(result)) as container:
        heard, sample_rate = 0.0, 0
        for block in container.decode(audio=0):
            heard, sample_rate = heard + block.samples / block.sample_rate, block.sample_rate
    slack = float(1 / rate) + _AAC_FRAME / max(sample_rate, 1)
    assert abs(heard - audio_seconds) <= slack, f"{heard:.3f} s of sound, expected {audio_seconds:.3f}"
    if source is not None:
        _check_picture(frames[0], _first_frame(source))
    return f"{len(frames)} frames at {rate}, {frames[0].shape[1]} x {frames[0].shape[0]}"


def _first_frame(source: Path) -> NDArray[np.uint8]:
    """The first frame as players show it, on white."""
    with av.open(str(source)) as container:
        frame: Any = next(container.decode(video=0))
        rgba = np.rot90(frame.to_ndarray(format="rgba"), frame.rotation // 90)
    alpha = rgba[..., 3:] / 255
    return np.asarray(rgba[..., :3] * alpha + 255 * (1 - alpha), np.uint8)


def _check_picture(shown: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    expected = expected[: expected.shape[0] // 2 * 2, : expected.shape[1] // 2 * 2]
    assert shown.shape == expected.shape, f"a picture of {shown.shape[1::-1]}, expected {expected.shape[1::-1]}"
    difference = float(np.abs(_block_means(shown) - _block_means(expected)).mean())
    assert difference < _MAX_DIFFERENCE, f"the upper third differs by {difference:.1f} levels from the source's"


def _block_means(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(H, W, 3) -> means of the blocks of the upper third, where no mouth is and no grain or dither counts."""
    height, width = (side // _BLOCK for side in (picture.shape[0] // 3, picture.shape[1]))
    blocks = picture[: height * _BLOCK, : width * _BLOCK].reshape(height, _BLOCK, width, _BLOCK, 3)
    return np.asarray(blocks.mean((1, 3)), np.float64)
