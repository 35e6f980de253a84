"""How close an encoded picture is to the one that the encoder was given."""

from __future__ import annotations

import io
from typing import Final, NamedTuple

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from benchmarks.encoding.pictures import Box, Pictures
from media.probe import ColourTags
from media.yuv_frame import RANGE_FULL, RANGE_LIMITED, frame_planes

_SSIM_CONSTANTS: Final = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_GRAIN_PIXELS: Final = 1.5  # standard deviation of the Gaussian that removes fine detail
_BLOCK: Final = 16  # side of a block in pixels
_STEP: Final = 5  # SSIM and detail are those of every fifth frame


class Scores(NamedTuple):
    """Means over the frames of a segment; PSNR in dB, of the mean squared error."""

    frame_psnr: float
    frame_similarity: float
    mouth_psnr: float
    mouth_similarity: float
    detail_left: float


def score(content: bytes, pictures: Pictures) -> Scores:
    """Compares an encoded segment with the pictures that it was made of."""
    errors: tuple[list[float], list[float]] = ([], [])
    similarities: tuple[list[float], list[float]] = ([], [])
    details = []
    with av.open(io.BytesIO(content), "r") as container:
        assert isinstance(container, InputContainer)
        for number, frame in enumerate(container.decode(video=0)):
            own, made, mouth = pictures.frames[number].y, _luma(frame, pictures.info.colour), pictures.mouths[number]
            is_compared = number % _STEP == 0
            for part, box in enumerate((Box.whole(own), mouth)):
                if box is not None:
                    errors[part].append(squared_error(box.of(own), box.of(made)))
                    if is_compared:
                        similarities[part].append(similarity(box.of(own), box.of(made)))
            if is_compared:
                details.append(fine_detail_left(own, made))
    (frame_psnr, mouth_psnr) = (psnr(float(np.mean(each))) for each in errors)
    (frame_similarity, mouth_similarity) = (float(np.mean(each)) for each in similarities)
    return Scores(frame_psnr, frame_similarity, mouth_psnr, mouth_similarity, float(np.mean(details)))


def _luma(frame: VideoFrame, colour: ColourTags) -> NDArray[np.uint8]:
    """Returns the (H, W) luma with 8 bits, in the range of `colour`; formats with more bits are in limited range."""
    if frame.format.components[0].bits > 8:
        colour_range = RANGE_FULL if colour.full_range else RANGE_LIMITED
        frame = frame.reformat(format="yuv420p", src_color_range=RANGE_LIMITED, dst_color_range=colour_range)
    return frame_planes(frame).y


def psnr(squared_error: float) -> float:
    """Returns the peak signal-to-noise ratio in dB of 8-bit samples with that mean squared error."""
    return float(10 * np.log10(255**2 / max(squared_error, 1e-3)))


def squared_error(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Returns the mean squared difference of two (H, W) planes."""
    return float(np.mean((first.astype(np.float32) - second) ** 2))


def similarity(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Returns the mean structural similarity (Wang et al. 2004, Gaussian window of 1.5 pixels)."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    mean_a, mean_b = _smooth(a), _smooth(b)
    variance_a, variance_b = _smooth(a * a) - mean_a**2, _smooth(b * b) - mean_b**2
    covariance = _smooth(a * b) - mean_a * mean_b
    c1, c2 = _SSIM_CONSTANTS
    ratio = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(np.mean(ratio / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))))


def fine_detail_left(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Returns the share of detail that is left in the half of the blocks of a plane that has least of it.

    Detail is the standard deviation of what is finer than a Gaussian of 1.5 pixels: grain, skin.
    """
    own = _block_detail(before)
    even = own <= np.median(own)
    return float(_block_detail(after)[even].mean() / max(own[even].mean(), 1e-6))


def _block_detail(plane: NDArray[np.uint8]) -> NDArray[np.float64]:
    values = plane.astype(np.float32)
    fine = values - cv2.GaussianBlur(values, (0, 0), _GRAIN_PIXELS)
    rows, columns = (side // _BLOCK for side in plane.shape)
    blocks = fine[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    return np.asarray(blocks.std(axis=(1, 3)), np.float64)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(values, (11, 11), 1.5), np.float64)
