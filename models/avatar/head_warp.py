"""Moves the head in a still picture with a depth-aware displacement field.

The face rotates with the depth of its landmarks; hair and outline have the depth of the pivot in the neck and therefore
stay in place when the head turns. Neck and shoulders follow less, the background fades out with distance, and the
border of the picture does not move, so that nothing tears and no pixel is left empty.
"""

from __future__ import annotations

from itertools import product
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.yuv_frame import YuvFrame
from models.avatar.still_frame import MAX_TURN, PIVOT, StillFrames, head_shift, rotation
from models.avatar.still_layers import BackgroundPlane, Outline, StillLayers
from models.geometry import thin_plate
from models.geometry.arrays import remap, smooth_step
from models.geometry.head_frame import LID_CREASES
from models.track.face_track import FaceTrack

_CELLS_PER_EYE_DISTANCE: Final = 16
_MIN_CELL: Final = 4  # pixels

# Head frame, eye distances: an ellipse around head and hair. The motion fades out between the ellipse and this multiple
# of it: the background moves as little as it can without being torn.
_HEAD_MIDDLE, _HEAD_HALF_WIDTH, _HEAD_HALF_HEIGHT = -0.05, 1.35, 1.65
_FADE: Final = 1.7
_NUM_OUTLINE: Final = 48

# Shoulders: where they begin and end below the eyes, their width, and the share of the head's shift they follow.
_SHOULDER_TOP, _SHOULDER_BOTTOM = (-1.3, -2.2), (-3.5, -6.5)
_SHOULDER_SIDE: Final = (2.2, 3.8)
_SHOULDER_SHIFT: Final = 0.4
_HEAD_BREATH: Final = 0.25  # share of the rise of the shoulders by which the head moves
# Mesh ids above both eyes: lid crease, lower and upper edge of the brows.
_CREASE: Final = (*LID_CREASES[0][1:-1], *LID_CREASES[1][1:-1])
_BROW_LOW: Final = (46, 53, 52, 65, 55, 276, 283, 282, 295, 285)
_BROW_HIGH: Final = (70, 63, 105, 66, 107, 300, 293, 334, 296, 336)
# Eye distances over which the motion of a raised brow fades: above it, beside it, and the minimum below it.
_ABOVE_BROWS, _BESIDE_BROWS, _MIN_LID = 0.4, 0.15, 0.1
# Eye distances from the middle of the face: the inner ends of the brows, up to where they move alone. Lowered ones come
# together by a share of that.
_INNER_BROWS: Final = (0.14, 0.5)
_TOGETHER: Final = 0.5
_BORDER: Final = 0.35  # eye distances from the picture's border over which the motion fades, at most up to the face
_MIN_FACING: Final = -0.3  # cosine of a head turned so far that depth and width cannot be separated
_BAND: Final = 4  # rows of cells that are rendered together
# What moves pixels far besides the head: lids, gaze, brows, their inner ends, breath, smile.
_AT_MOST: Final = tuple(np.array([value]) for value in (0, [0, 0], 0.063, 0.056, 0.0144, 0))
_SAMPLED: Final = 2  # pixels around a place that are sampled
_NOTHING: Final = 0.015  # smaller weights count as zero: 1/15 pixel in a 512 pixel portrait


class HeadWarp:
    """Renders the frames of a moving still of width x height pixels; the track's first frame is used.

    Without `layers`, the background moves with the head and fades out with distance.
    """

    def __init__(self, track: FaceTrack, width: int, height: int, layers: StillLayers | None = None) -> None:
        self._scale, self._rotation = float(track.scale[0]), track.rotation[0]
        self._cell = cell = max(_MIN_CELL, round(self._scale / _CELLS_PER_EYE_DISTANCE) // 2 * 2)
        columns, rows = ((np.arange(-(-size // cell)) + 0.5) * cell - 0.5 for size in (width, height))
        places = np.stack(np.meshgrid(columns, rows), -1)  # (gh, gw, 2) pixels
        surface = _surface(track, places)  # (gh, gw, 3) head frame
        fade = _fade_at_borders(track, places, width, height)
        head, shoulders = _head_weight(surface) * fade, _shoulder_weight(surface) * fade
        shoulders *= 1 - head
        moves = head + shoulders > _NOTHING
        part = _bounds(moves, 1), _bounds(moves, 0)
        y0, x0 = (cells.start * cell for cells in part)
        y1, x1 = (min(cells.stop * cell, size) for cells, size in zip(part, (height, width), strict=True))
        self.box = x0, y0, x1, y1
        self._head, self._shoulders = head[part][..., None], shoulders[part][..., None]
        self._brows = (_brow_weight(track.head_points[0], surface) * fade)[part][..., None]
        across = surface[part][..., :1]
        self._inner_brows = self._brows * (1 - _ease(abs(across), *_INNER_BROWS))
        self._together = self._inner_brows * (-across / _INNER_BROWS[0]).clip(-1, 1)
        self._lever = self._head * (surface[part] - PIVOT)  # (gh, gw, 3)
        self._pixels = {step: _pixel_grid(tuple(side // step for side in self.box)) for step in (1, 2)}
        self._layers, self._outlines = layers, dict[int, Outline]()
        is_moved = moves[part]
        if layers is not None:
            self._most = self._most_displaced()
            person, background = (self._needed_share(mask) for mask in (layers.alpha > 0, layers.alpha < 255))
            is_moved &= _any_in_cells(person <= 1, cell)
        self._bands = [_band(is_moved, row, cell) for row in range(0, is_moved.shape[0], _BAND)]
        if layers is not None:
            both = np.where(self._is_rendered(), np.maximum(person, background), np.inf)
            self._outlines = {step: Outline.of(both, person > 0, self.box, width, step) for step in (1, 2)}

    def render(self, picture: YuvFrame, shown: StillFrames) -> YuvFrame:
        """Render the one frame `shown`, from the still with its eyes already drawn.

        Pixels that do not move are bit-equal to the still's.
        """
        back, share = self._back(shown)
        places = {step: self._places(back, step) for step in (1, 2)}
        behind = (None, None, None) if self._layers is None else self._layers.planes
        return YuvFrame(
            *(
                self._move(plane, places[step], step, background, share)
                for plane, step, background in zip(picture, (1, 2, 2), behind, strict=True)
            )
        )

    def render_luma(
        self, plane: NDArray[np.uint8], shown: StillFrames, background: BackgroundPlane | None = None
    ) -> NDArray[np.uint8]:
        """Render a plane of the size of the still's luma, which moves as the luma does."""
        back, share = self._back(shown)
        return self._move(plane, self._places(back, 1), 1, background, share)

    def _most_displaced(self) -> NDArray[np.float64]:
        """Return the (gh, gw) most pixels by which each grid point moves."""
        extremes = [
            StillFrames.of(StillFrames(MAX_TURN[None] * signs, *_AT_MOST).index())
            for signs in product((-1, 1), repeat=3)
        ]
        lengths = [np.linalg.norm(self._displacement(shown), axis=-1) for shown in extremes]
        return np.asarray(np.max(lengths, axis=0), np.float64)

    def _needed_share(self, pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the (h, w) share of the most displacement from which pixels of the box may show one of (H, W)."""
        x0, y0, x1, y1 = self.box
        reach = np.asarray(cv2.dilate(self._most, np.ones((3, 3))), np.float64)  # neighbours come as far
        pixel_reach = np.kron(reach, np.ones((self._cell, self._cell)))[: y1 - y0, : x1 - x0]
        distance = cv2.distanceTransform((~pixels).view(np.uint8), cv2.DIST_L2, 3)[y0:y1, x0:x1]
        return np.asarray((distance - _SAMPLED).clip(0) / np.maximum(pixel_reach, 1e-3), np.float64)

    def _is_rendered(self) -> NDArray[np.bool_]:
        """Return whether (h, w) pixels of the box are in a band."""
        rendered = np.zeros(self._pixels[1].shape[:2], np.bool_)
        for band in self._bands:
            rendered[band] = True
        return rendered

    def _back(self, shown: StillFrames) -> tuple[NDArray[np.float32], float]:
        """Return the (gh, gw, 2) displacement from each output pixel to its source, and its share of the most."""
        moved = self._displacement(shown)
        share = 1.0
        if self._layers is not None:
            share = float((np.linalg.norm(moved, axis=-1) / np.maximum(self._most, _SAMPLED / 2)).max())
        return -self._at_target(moved), share

    def _displacement(self, shown: StillFrames) -> NDArray[np.float32]:
        """Return the (gh, gw, 2) displacement of each grid point of the still, in pixels."""
        turn, breath = shown.turn[0], np.array([0, shown.breath[0]])
        shift = head_shift(turn)
        turned = self._lever @ (self._rotation[:2] @ (rotation(turn) - np.eye(3))).T
        inner, (right, up) = shown.inner_brows[0], self._rotation[:2, :2].T
        turned += (self._brows * shown.brows[0] + self._inner_brows * inner) * up
        turned += self._together * (_TOGETHER * max(-inner, 0.0)) * right
        shifted = self._head * (shift - _HEAD_BREATH * breath) + self._shoulders * (_SHOULDER_SHIFT * shift - breath)
        return np.asarray(self._scale * (turned + shifted), np.float32)

    def _at_target(self, displacement: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the displacement at each target position, with one fixed-point iteration."""
        rows, columns = np.indices(displacement.shape[:2], np.float32)
        from_x, from_y = columns - displacement[..., 0] / self._cell, rows - displacement[..., 1] / self._cell
        seen = cv2.remap(displacement, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(seen, np.float32)

    def _places(self, back: NDArray[np.float32], step: int) -> NDArray[np.float32]:
        """Return the (h, w, 2) source positions of the box's pixels in a plane subsampled by `step`."""
        rows, columns = (count * self._cell // step for count in back.shape[:2])
        spread = cv2.resize(back / np.float32(step), (columns, rows), interpolation=cv2.INTER_LINEAR)
        height, width = self._pixels[step].shape[:2]
        return np.asarray(spread[:height, :width] + self._pixels[step], np.float32)

    def _move(
        self,
        plane: NDArray[np.uint8],
        places: NDArray[np.float32],
        step: int,
        background: BackgroundPlane | None,
        share: float,
    ) -> NDArray[np.uint8]:
        moved = plane.copy()
        x0, y0, x1, y1 = (side // step for side in self.box)
        target = moved[y0:y1, x0:x1]
        # Linear sampling of luma between pixels would lose a quarter of the sharpness; chroma has none to lose.
        kind = cv2.INTER_CUBIC if step == 1 else cv2.INTER_LINEAR
        for band in self._bands:
            part = tuple(slice(side.start // step, side.stop // step) for side in band)
            remap(plane, places[part], kind, target[part])
        if background is not None:
            outline = self._outlines[step]
            index, in_box = outline.needed(share)
            shown = background.shown(moved.reshape(-1).take(index), index, places.reshape(-1, 2).take(in_box, 0), kind)
            cv2.copyTo(background.plane[y0:y1, x0:x1], outline.is_background, target)
            moved.reshape(-1)[index] = shown
        return moved


def _any_in_cells(pixels: NDArray[np.bool_], cell: int) -> NDArray[np.bool_]:
    """Return whether any of the pixels in each cell is set; the last cells may be incomplete."""
    padded = np.pad(pixels, [(0, -size % cell) for size in pixels.shape])
    rows, columns = (size // cell for size in padded.shape)
    return np.asarray(padded.reshape(rows, cell, columns, cell).any((1, 3)), np.bool_)


def _surface(track: FaceTrack, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (gh, gw, 3) head-frame points visible at (gh, gw, 2) pixels."""
    scale, rotation, origin = float(track.scale[0]), track.rotation[0], track.translation[0]
    angle = np.linspace(0, 2 * np.pi, _NUM_OUTLINE, endpoint=False)
    outline = np.stack([_HEAD_HALF_WIDTH * np.cos(angle), _HEAD_MIDDLE + _HEAD_HALF_HEIGHT * np.sin(angle)], -1)
    outline = np.pad(outline, ((0, 0), (0, 1)), constant_values=PIVOT[2])
    known = np.concatenate([track.head_points[0].astype(np.float64), outline])
    # Pixels per unit of the spline.
    side = 4 * scale
    seen = (scale * known @ rotation.T)[:, :2] / side  # (P, 2) around the head frame's origin
    height = (known[:, 2] - PIVOT[2])[None, :, None]
    weights = thin_plate.fit(np, seen[None], height, [np.arange(len(known))]).astype(np.float32)
    flat = ((places.reshape(-1, 2) - origin[:2]) / side).astype(np.float32)
    above = thin_plate.evaluate(np, seen[None].astype(np.float32), weights, flat)
    above = above.reshape(places.shape[:2]).clip(0).astype(np.float64)
    level = _point_at(places - origin[:2], np.zeros(places.shape[:2]), rotation, scale)
    inside = _ellipse_radius(level) < 1
    return _point_at(places - origin[:2], np.where(inside, above, 0), rotation, scale)


def _point_at(
    places: NDArray[np.float64], above: NDArray[np.float64], rotation: NDArray[np.float64], scale: float
) -> NDArray[np.float64]:
    """Return (gh, gw, 3) head-frame points at pixels relative to the head origin, `above` the plane of the pivot."""
    depth = scale * (PIVOT[2] + above) - places @ rotation[:2, 2]
    depth = depth / min(rotation[2, 2], _MIN_FACING)
    points: NDArray[np.float64] = np.concatenate([places, depth[..., None]], -1) @ rotation / scale
    return points


def _ellipse_radius(head: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance from the centre of the head; 1 on the ellipse around it."""
    return np.hypot(head[..., 0] / _HEAD_HALF_WIDTH, (head[..., 1] - _HEAD_MIDDLE) / _HEAD_HALF_HEIGHT)


def _head_weight(head: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (gh, gw) weights: 1 within the ellipse around the head, 0 beyond `_FADE` times it."""
    return 1 - _ease(_ellipse_radius(head), 1, _FADE)


def _shoulder_weight(head: NDArray[np.float64]) -> NDArray[np.float64]:
    below = _ease(-head[..., 1], -_SHOULDER_TOP[0], -_SHOULDER_TOP[1])
    end = _ease(-head[..., 1], -_SHOULDER_BOTTOM[0], -_SHOULDER_BOTTOM[1])
    return below * (1 - end) * (1 - _ease(abs(head[..., 0]), *_SHOULDER_SIDE))


def _brow_weight(face: NDArray[np.floating], head: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (gh, gw) share by which head-frame points follow the brows of (468, 3): 1 in them, 0 at the crease.

    It fades out over the forehead, which contains the muscle that lifts the brows.
    """
    x, y = head[..., 0], head[..., 1]

    def height(line: tuple[int, ...]) -> NDArray[np.float64]:
        points = face[sorted(line, key=lambda point: face[point, 0])].astype(np.float64)
        return np.interp(x, points[:, 0], points[:, 1])

    crease, low, high = (height(line) for line in (_CREASE, _BROW_LOW, _BROW_HIGH))
    ends = face[list(_BROW_HIGH), 0].astype(np.float64)
    beside = 1 - _ease(np.maximum(ends.min() - x, x - ends.max()), 0, _BESIDE_BROWS)
    return beside * _ease(y, crease, np.maximum(low, crease + _MIN_LID)) * (1 - _ease(y, high, high + _ABOVE_BROWS))


def _fade_at_borders(track: FaceTrack, places: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """Return (gh, gw) weights: 0 at the border of the picture, 1 inside and wherever the face is."""
    face = track.points[0, :, :2].astype(np.float64)
    fade = np.ones(places.shape[:2])
    for axis, size in enumerate((width, height)):
        for free, distance in (
            (face[:, axis].min(), places[..., axis]),
            (size - 1 - face[:, axis].max(), size - 1 - places[..., axis]),
        ):
            fade *= _ease(distance, 0, float(np.clip(free, 1, _BORDER * track.scale[0])))
    return fade


def _ease(
    value: NDArray[np.float64], start: float | NDArray[np.float64], stop: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    return smooth_step((value - start) / (stop - start))


def _bounds(moves: NDArray[np.bool_], over: int) -> slice:
    """Return the rows (`over` 1) or columns (0) from the first to the last moving cell; all if none moves."""
    cells = np.flatnonzero(moves.any(over)) if moves.any() else np.arange(moves.shape[1 - over])
    return slice(int(cells[0]), int(cells[-1]) + 1)


def _band(moves: NDArray[np.bool_], row: int, cell: int) -> tuple[slice, slice]:
    """Return the pixel rows and columns of the box that move in the `_BAND` rows of cells from `row`."""
    columns = _bounds(moves[row : row + _BAND], 0)
    return slice(row * cell, (row + _BAND) * cell), slice(columns.start * cell, columns.stop * cell)


def _pixel_grid(box: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the (h, w, 2) pixel coordinates of a box."""
    x0, y0, x1, y1 = box
    return np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), -1).astype(np.float32)
