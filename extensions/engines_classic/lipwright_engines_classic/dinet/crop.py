"""Crops of DINet: their positions, the part that is regenerated, and the reference frames.

Both generators, HeyGem's and the original, place their crops by the 68 points of iBUG.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from lipwright.media.frame_source import FrameSource
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import cut
from models.engines.paste.crop import BoxTrack
from models.engines.paste.landmarks68 import LOWER_FACE
from models.engines.paste.resample import Interpolation, region_rgb

if TYPE_CHECKING:
    from models.track.face_track import FaceTrack

# HeyGem (preprocess_audio_and_3dmm.py) smooths boxes twice by the mean of five frames. A box that this would move by
# more than 12 pixels, summed over its four edges, is kept unchanged, because the head has moved there.
_TAPS, _TIMES = 5, 2
_MAX_PIXELS: Final = 3.0


def smooth_rows(rows: NDArray[np.floating], run: NDArray[np.integer]) -> NDArray[np.float64]:
    """Smooth (N, C) pixels of N frames, as float64, over the whole track, not over batches of four as HeyGem does.

    Nothing is smoothed from one stretch, whose number is in (N,) `run`, into the next.
    """
    smoothed = rows.astype(np.float64)
    for number in np.unique(run):
        inside = np.flatnonzero(run == number)
        part = smoothed[inside]
        for _ in range(_TIMES):
            part = _mean(part)
        is_far = np.abs(part - rows[inside]).mean(1) > _MAX_PIXELS
        smoothed[inside] = np.where(is_far[:, None], rows[inside], part)
    return smoothed


def runs_of(shown: NDArray[np.bool_], shot: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number the (N,) frames by the stretch that they belong to: a gap or a cut begins a new one."""
    is_new = np.diff(shot, prepend=shot[:1]) != 0
    is_new |= np.diff(shown.astype(np.int8), prepend=shown[:1].astype(np.int8)) != 0
    return np.cumsum(is_new)


def _mean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(rows, ((_TAPS // 2, _TAPS // 2), (0, 0)), mode="edge")
    mean: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(padded, _TAPS, axis=0).mean(-1)
    return mean


Fit = Literal["resize", "crop"]
"""What happens to HeyGem's crop of 266 pixels: resize it to 256, or cut off five pixels on each side."""

# HeyGem (preprocess_audio_and_3dmm.py): the crop is a square of 1.5 face heights; .75 to either side of the points'
# middle, from .15 above their upper edge to 1.35 below it.
_HALF_SIDE, _MIDDLE = 0.75, 0.6
_CROP_SIDE, _CUT_OFF = 266, 5
USUAL_WIDTH: Final = 0.97
"""Width of a face over its height where none can be measured: `wh` of the published checkpoint."""

_NOSE_BRIDGE, _NOSE_BASE, _CORNER_LEFT, _CORNER_RIGHT = 29, 33, 48, 54
# MRzzm/DINet, utils/data_processing.py (compute_crop_radius) and inference.py.
_RADIUS_SCALE, _RADIUS_FRAMES = 1.05, 5
# The published radius is rounded up to the next multiple of 4, by 2 on average; in steps it would make the box jump.
_ROUNDED_UP: Final = 2.0


def heygem_boxes(
    points: NDArray[np.floating], present: NDArray[np.bool_], pixel_aspect: float = 1.0, fit: Fit = "resize"
) -> NDArray[np.float64]:
    """Place HeyGem's crop in every frame.

    The side follows from the width of the face, which speech does not change, and from the mean proportion of this
    face. HeyGem takes that mean over the first hundred frames and clamps the crop to the picture; here it is taken over
    all frames with the face, and the picture's edge repeats beyond it: a face at the edge keeps its proportions.

    Args:
        points: (N, 68, 2) frame pixels.
        present: (N,) whether the points are known.
        pixel_aspect: Width of a pixel over its height.
        fit: See `Fit`.

    Returns:
        (N, 4) x0, y0, x1, y1 frame pixels.
    """
    low, high = points.min(1), points.max(1)  # (N, 2)
    width, height = (high - low).T
    proportion = float((width / height.clip(1))[present].mean()) if present.any() else USUAL_WIDTH
    side = (width / proportion).clip(1)  # face heights
    reach = _HALF_SIDE * ((_CROP_SIDE - 2 * _CUT_OFF) / _CROP_SIDE if fit == "crop" else 1)
    x, y = (low[:, 0] + high[:, 0]) / 2, low[:, 1] + _MIDDLE * side
    across, along = reach * side / pixel_aspect, reach * side
    return np.stack([x - across, y - along, x + across, y + along], 1)


def dinet_boxes(points: NDArray[np.floating], run: NDArray[np.integer]) -> NDArray[np.float64]:
    """Place the original DINet's crop in every frame.

    The radius r is half of 1.05 times the larger of the height from the bridge of the nose to the lowest point and the
    width of the mouth, the largest of five frames; the crop reaches from r above the bridge of the nose to 2.25 r below
    it, and 1.25 r to either side of the base of the nose. Here r changes without steps.

    Args:
        points: (N, 68, 2) frame pixels.
        run: (N,) number of the stretch that a frame belongs to; nothing is smoothed from one into the next.

    Returns:
        (N, 4) x0, y0, x1, y1 frame pixels.
    """
    height = points[..., 1].max(1) - points[:, _NOSE_BRIDGE, 1]
    width = points[:, _CORNER_RIGHT, 0] - points[:, _CORNER_LEFT, 0]
    radius = (np.maximum(height, width) * _RADIUS_SCALE / 2).clip(1).astype(np.float64)
    for number in np.unique(run):
        inside = run == number
        radius[inside] = maximum_filter1d(radius[inside], _RADIUS_FRAMES, mode="nearest")
    radius = smooth_rows(radius[:, None], run)[:, 0] + _ROUNDED_UP
    x, y = points[:, _NOSE_BASE, 0], points[:, _NOSE_BRIDGE, 1]
    return np.stack([x - 1.25 * radius, y - radius, x + 1.25 * radius, y + 2.25 * radius], 1)


# How much the outline of the lower face grows across and along. The mask rises to 1 over 6 % of the crop inwards
# from there; a mouth that opens moves the chin by as much.
_OUTWARD = (1.15, 1.5)


@dataclass(frozen=True)
class CropLayout:
    """The picture that the crop's box is resized to."""

    height: int  # pixels
    width: int  # pixels
    rows: tuple[int, int]  # first and last black row of the masked picture
    columns: tuple[int, int]  # first and last black column
    num_pasted: int  # rows from above that the published script writes back
    interpolation: Interpolation  # how the box is resized

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def masked(self) -> tuple[EllipsisType, slice, slice]:
        """Index of what is black in (..., height, width)."""
        return ..., slice(self.rows[0], self.rows[1] + 1), slice(self.columns[0], self.columns[1] + 1)

    def mask(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, 3, height, width) pictures with the mouth black."""
        masked = pictures.copy()
        masked[self.masked] = 0
        return masked

    def masked_box(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return where the black rectangle lies in (N, 4) boxes x0, y0, x1, y1, as (N, 4)."""
        low = np.array([self.columns[0] / self.width, self.rows[0] / self.height])
        high = np.array([(self.columns[1] + 1) / self.width, (self.rows[1] + 1) / self.height])
        sides = boxes[:, 2:] - boxes[:, :2]
        return np.concatenate([boxes[:, :2] + low * sides, boxes[:, :2] + high * sides], 1)

    def outline(self, boxes: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the outline of the blended area: the lower face with a margin below the chin, within the black area.

        Args:
            boxes: (N, 4) x0, y0, x1, y1.
            points: (N, 68, 2) points of iBUG, in the same pixels.

        Returns:
            (N, P, 2) float32 points whose convex hull it is.
        """
        face = np.asarray(points[:, list(LOWER_FACE)], np.float64)
        middle = (face.min(1, keepdims=True) + face.max(1, keepdims=True)) / 2
        masked = self.masked_box(boxes)
        wide = middle + (face - middle) * _OUTWARD
        return np.asarray(wide.clip(masked[:, None, :2], masked[:, None, 2:]), np.float32)


def to_planes(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn (N, H, W, 3) uint8 pictures into (N, 3, H, W) float32 in [0, 1]."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def to_levels(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round (N, 3, H, W) float32 in [0, 1] to (N, H, W, 3) uint8."""
    return np.ascontiguousarray(np.rint(planes * np.float32(255)).clip(0, 255).transpose(0, 2, 3, 1), np.uint8)


def corners(boxes: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the (N, 4, 2) corners of (N, 4) boxes x0, y0, x1, y1."""
    return boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]].astype(np.float32)


NUM_REFERENCES: Final = 5
REFERENCES: Final = "references"
"""Name of their crops among a chunk's `extra`: (5, 416, 320, 3) uint8 RGB."""

# Heads turned by less count as similar; if there are too few, the less turned half does.
_ALIKE_DEGREES: Final = 5.0


def choose_references(track: FaceTrack) -> NDArray[np.int64]:
    """Choose the (5,) ascending source frames from which the original DINet takes the mouth's appearance.

    The published script draws them at random, so two runs differ and all five may show the same mouth. This function
    takes, among frames with a similar pose, the five whose mouths differ most; some twice if there are fewer.
    """
    candidates = np.flatnonzero(track.visible & (track.driving_weight >= 1))
    if len(candidates) < NUM_REFERENCES:
        candidates = np.flatnonzero(track.visible)
    pose = track.pose_degrees[candidates]
    turned = np.linalg.norm(pose - np.median(pose, 0), axis=1)
    enough = np.sort(turned)[min(NUM_REFERENCES, len(turned)) - 1]
    alike = candidates[turned <= max(_ALIKE_DEGREES, float(np.median(turned)), float(enough))]
    shape = track.shape[alike]
    chosen = [int(np.argmin(shape[:, 0]))]  # the most closed
    distance = np.linalg.norm(shape - shape[chosen[0]], axis=1)
    while len(chosen) < min(NUM_REFERENCES, len(alike)):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(shape - shape[chosen[-1]], axis=1))
        distance[chosen] = -1
    return np.resize(np.sort(alike[chosen]), NUM_REFERENCES)


def read_references(
    chosen: NDArray[np.integer], track: BoxTrack, frames: FrameSource, colour: ColourTags, layout: CropLayout
) -> NDArray[np.uint8]:
    """Read the crops of the (5,) chosen source frames as (5, height, width, 3) uint8 RGB."""
    pictures = []
    for frame, planes in zip(chosen, frames.read(chosen.tolist()), strict=True):
        region = cut(planes, int(track.origins[frame, 0]), int(track.origins[frame, 1]), track.size)
        pictures.append(region_rgb(region, colour, track.boxes[frame], layout.size, layout.interpolation))
    return np.stack(pictures)
