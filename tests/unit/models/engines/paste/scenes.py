"""Frames, boxes and chunks for the tests of engines that rewrite a box."""

import numpy as np
from numpy.typing import NDArray

from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame, from_rgb
from models.engines.paste.crop import BoxChunk, BoxPlan, BoxTrack, crop_boxes

BT709 = ColourTags(1, False, 1, 1)
BT601_FULL = ColourTags(6, True, 2, 2)
HEIGHT, WIDTH = 120, 160


def smooth_rgb(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3) colours that change slowly."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6, 3)
    y, x = np.mgrid[:height, :width]
    return np.stack([128 + 60 * np.sin(x / 17 + phase[c]) * np.cos(y / 23 + c) for c in range(3)], -1).astype(np.uint8)


def hexagon(box: NDArray[np.floating]) -> NDArray[np.float32]:
    """(6, 2) points well inside of a box."""
    angle = np.arange(6) * np.pi / 3
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    return np.asarray(middle + 0.7 * half * np.stack([np.cos(angle), np.sin(angle)], 1), np.float32)


def make_track(boxes: NDArray[np.floating], opacity: NDArray[np.floating] | None = None) -> BoxTrack:
    """A track of (N, 4) boxes in frame pixels."""
    outline = np.stack([hexagon(box) for box in boxes])
    return BoxTrack.of(boxes, outline, np.ones(len(boxes), np.float32) if opacity is None else opacity)


def make_chunk(track: BoxTrack, source_index: list[int], colour: ColourTags = BT709) -> tuple[BoxChunk, list[YuvFrame]]:
    """Cut frames of `smooth_rgb`, a seed for each source frame; the features of output frame t is t."""
    source = np.array(source_index, np.int32)
    pictures = {frame: from_rgb(smooth_rgb(seed=frame), colour) for frame in source_index}
    frames = [pictures[frame] for frame in source_index]
    plan = BoxPlan(0, source, np.arange(len(source), dtype=np.float32)[:, None])
    return crop_boxes(track, colour, plan, frames), frames
