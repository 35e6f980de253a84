"""The maps of a chunk: where each output pixel comes from, on a 32 x 32 grid.

Control points are landmarks of the lower face and a frame of anchors that move with the head alone. There are two
layers because the lips slide past each other: the upper layer never sees the points of the lower lip, the lower layer
never those of the upper lip, and they meet along the line between the inner lips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.chunk import FaceChunk
from models.engines.warp.painting.lip_coordinates import LipAxes, lip_axes, part_jaws
from models.geometry.head_frame import (
    ABOVE_LIP,
    CHEEK,
    CHIN,
    INNER_LOWER,
    INNER_UPPER,
    JAW,
    MIDDLE_LOWER,
    MIDDLE_UPPER,
    MOVED,
    NOSE,
    OUTER_LOWER,
    OUTER_UPPER,
)
from models.geometry.thin_plate import GRID, RIDGE

_UPPER_IDS = {*OUTER_UPPER, *INNER_UPPER, *MIDDLE_UPPER, *ABOVE_LIP, *NOSE, *CHEEK, *JAW}
_LOWER_IDS = {*OUTER_LOWER, *INNER_LOWER, *MIDDLE_LOWER, *NOSE, *CHIN, *CHEEK, *JAW}

# Mesh ids of the landmarks among the control points, ascending.
CONTROL_IDS: tuple[int, ...] = tuple(sorted(_UPPER_IDS | _LOWER_IDS))
NUM_LANDMARKS = len(CONTROL_IDS)


def _rows(ids: tuple[int, ...]) -> NDArray[np.intp]:
    return np.array([CONTROL_IDS.index(point) for point in ids], np.intp)


# Rows of the points that a mouth shape moves.
MOVED_ROWS = _rows(MOVED)
# Rows of the inner edges and the middle lines of the lips among the control points, corner to corner.
INNER_UPPER_ROWS, INNER_LOWER_ROWS = _rows(INNER_UPPER), _rows(INNER_LOWER)
MIDDLE_UPPER_ROWS, MIDDLE_LOWER_ROWS = _rows(MIDDLE_UPPER), _rows(MIDDLE_LOWER)
_LIPS_INSIDE_OUT = (
    (INNER_UPPER_ROWS, MIDDLE_UPPER_ROWS, _rows(OUTER_UPPER)),
    (INNER_LOWER_ROWS, MIDDLE_LOWER_ROWS, _rows(OUTER_LOWER)),
)

# Anchors: the rim of a 6 x 6 grid on a rectangle of the head frame (eye distances; y up).
_ANCHOR_X, _ANCHOR_Y, _ANCHORS_PER_SIDE = 1.0, (-0.25, -2.05), 6


def anchor_points(depth: float) -> NDArray[np.float64]:
    """Return the (20, 3) head-frame anchors in the plane z = `depth`; they move with the head alone."""
    xs = np.linspace(-_ANCHOR_X, _ANCHOR_X, _ANCHORS_PER_SIDE)
    ys = np.linspace(*_ANCHOR_Y, _ANCHORS_PER_SIDE)
    rim = [(x, y, depth) for x in xs for y in ys if x in (xs[0], xs[-1]) or y in (ys[0], ys[-1])]
    return np.array(rim)


NUM_ANCHORS = 4 * (_ANCHORS_PER_SIDE - 1)
NUM_CONTROLS = NUM_LANDMARKS + NUM_ANCHORS
_ANCHOR_ROWS = np.arange(NUM_LANDMARKS, NUM_CONTROLS)

# Rows of the control points that define each layer.
UPPER_ROWS: NDArray[np.intp] = np.concatenate([_rows(tuple(sorted(_UPPER_IDS))), _ANCHOR_ROWS])
LOWER_ROWS: NDArray[np.intp] = np.concatenate([_rows(tuple(sorted(_LOWER_IDS))), _ANCHOR_ROWS])

LAYERS = (UPPER_ROWS, LOWER_ROWS)
# Channels of a field: offset in pixels to the source position in the frame, position in the mask texture, offset to the
# source position in the exemplar and in the exemplar it fades with.
FRAME, TEXTURE, EXEMPLAR, FADE = slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)
NUM_CHANNELS = 8
# Fraction of the way from the inner edge of a lip to its middle; the second where the mouth closes relative to its
# image.
_INSET, _CLOSED_INSET = 0.25, 0.6
# Points out of sight lie between others in the image but move differently, which folds the fields. At this ridge, ten
# thousand times the usual one, a spline ignores its point.
_HIDDEN_RIDGE: Final = 1.0
# Added in a mouth that closes completely, from corner to corner; 2 is the outer edge. Landmarks of the lips meet in a
# point, but the dark beside the teeth is blunt, and part of it would stay beside the corners of closed lips.
_CORNER_INSETS: Final = 2 * np.linspace(-1, 1, len(INNER_UPPER)) ** 2
_CLOSING_SHARE = 0.4  # of the lip gap in the image: below it the inset grows
# Eye distances: lips opened this much farther than in their image show nothing of the dark line between them. Of .03,
# .035 and .05, the value with the liveliest lips of silent sources on nine speakers in the wild: jitter is .86 of the
# true one (.82 and .81 with the others).
_OPENED = 0.03
# Eye distances: lips that are closed by this much relative to their image are fully inset, and shade the teeth.
_CLOSED = 0.02
# Relative to the lip gap in the image: where a drawn interior starts to replace the own one, and where it has done so.
_OWN_ENDS, _OWN_ENDED = 1.15, 1.6
# Eye distances (about 104 mm each): an image with this lip gap shows its front teeth completely. They are kept, above
# the drawn dark.
_TEETH_SHOWN, _TEETH_SHOWN_RANGE = 0.08, 0.02
# Mouth half-widths above the lower lip from which `behind_lip` shows own teeth completely. Below, the image of the
# lower lip shows the transition from lip to teeth; a drawn interior would show as a dark line along the teeth.
# Lips that close by half leave nothing of it: between them it would show as a bright line.
_LOWER_RIM = 0.075


@dataclass(frozen=True)
class FieldProblem:
    """Spline problem of N faces."""

    points: NDArray[np.float64]  # (N, P, 2) target points relative to the centre of the region, in units of its side
    values: NDArray[np.float64]  # (N, P, 8) values of the fields at the points
    ridge: NDArray[np.float64]  # (N, P) smoothing at the points
    axes: LipAxes  # axes of the target mouths
    own_axes: LipAxes  # axes of the exemplars' mouths in their crops
    # (N, 3, 2) float32 affine maps (1, x, y) @ skull from output pixels to exemplar pixels for everything fixed to
    # the skull, including the upper teeth
    skull: NDArray[np.float32]
    enlargement: NDArray[np.float32]  # (N,) of the output in the exemplar, by these maps
    fade: NDArray[np.int32]  # (N,) crop that is blended in; the exemplar itself if there is none
    own_teeth: NDArray[np.float32]  # (N,) weight of the exemplar's own teeth in the drawn interior, 0 to 1
    closing: NDArray[np.float32]  # (N,) how far the lips close beyond their exemplar, 0 to 1
    lower_rim: NDArray[np.float32]  # (N,) mouth half-widths above the lower lip that its own image shows
    hard: NDArray[np.float32]  # (N,) how abruptly the upper layer changes to the lower one, see `lower_layer_weight`


def pose_problem(chunk: FaceChunk) -> FieldProblem:
    """Set up the spline problem of a chunk.

    Raises:
        ValueError: A control point is NaN or infinite.
    """
    if not (np.isfinite(chunk.target_points).all() and np.isfinite(chunk.crop_points).all()):
        raise ValueError("Expected finite control points, got NaN or infinity: the track of the face is damaged.")
    target = chunk.target_points.astype(np.float64)
    fade = np.where(chunk.fade < 0, chunk.exemplar, chunk.fade)
    shown, faded = chunk.crop_points[chunk.exemplar], chunk.crop_points[fade]
    skull = _skull(target, shown)
    enlargement = _enlargement(skull)
    moves, faded_moves = (
        _LipMoves.between(points, target, scale, chunk)
        for points, scale in ((shown, enlargement), (faded, _enlargement(_skull(target, faded))))
    )
    insets = _inset_lips(shown, moves, chunk.own_teeth), _inset_lips(faded, faded_moves, chunk.own_teeth)
    sources = (chunk.crop_points[chunk.base], *insets)
    shifts = [source - target for source in sources]
    texture = np.broadcast_to(chunk.mask_points.astype(np.float64), target.shape)
    own_axes = _axes(shown)
    own_gap = (own_axes.lips[:, 1] - own_axes.lips[:, 0]) / enlargement[:, None]
    axes = _axes(target)
    widened = (axes.lips[:, 1] - axes.lips[:, 0]).max(1) / own_gap.max(1).clip(1.0)
    shows_teeth = ((own_gap.max(1) / chunk.eye_distance - _TEETH_SHOWN) / _TEETH_SHOWN_RANGE).clip(0, 1)
    still_own = np.maximum(((_OWN_ENDED - widened) / (_OWN_ENDED - _OWN_ENDS)).clip(0, 1), shows_teeth)
    own_teeth = chunk.own_teeth * still_own
    values = np.concatenate([shifts[0], texture, shifts[1], shifts[2]], -1)
    return FieldProblem(
        points=target / chunk.region_size - 0.5,
        values=values,
        ridge=RIDGE + _HIDDEN_RIDGE * chunk.hidden.astype(np.float64),
        axes=part_jaws(axes, own_gap, chunk.bite),
        own_axes=own_axes,
        skull=skull,
        enlargement=enlargement,
        fade=fade,
        own_teeth=own_teeth.astype(np.float32),
        closing=moves.closing.astype(np.float32),
        lower_rim=(_LOWER_RIM * own_teeth * (2 * moves.left - 1).clip(0, 1)).astype(np.float32),
        # Half-way between the layers of lips that meet, there are teeth in an image of parted lips.
        hard=np.maximum(chunk.interior * chunk.own_teeth, (2 * moves.meeting).clip(0, 1)).astype(np.float32),
    )


class _LipMoves(NamedTuple):
    """How N pairs of lips move from their images to their targets."""

    left: NDArray[np.floating]  # (N,) target gap relative to that of the image
    opening: NDArray[np.floating]  # (N,) how far they open, 0 to 1
    closing: NDArray[np.floating]  # (N,) how far they close, 0 to 1; 0 for a held mouth in its own shape

    @property
    def meeting(self) -> NDArray[np.floating]:
        """(N,) how far closing lips meet, 0 to 1."""
        return np.asarray(self.closing * (1 - self.left / _CLOSING_SHARE).clip(0, 1))

    @classmethod
    def between(
        cls,
        points: NDArray[np.float32],
        target: NDArray[np.float64],
        enlargement: NDArray[np.float32],
        chunk: FaceChunk,
    ) -> Self:
        """Compare (N, P, 2) control points of images, `enlargement` times too large, with those of the targets."""
        gap, own_gap = _mean_gaps(target), _mean_gaps(points) / enlargement
        opening = ((gap - own_gap) / (_OPENED * chunk.eye_distance)).clip(0, 1)
        closing = ((own_gap - gap) / (_CLOSED * chunk.eye_distance)).clip(0, 1)
        closing *= 1 - chunk.hold * (1 - chunk.own_teeth)
        return cls(gap / np.maximum(own_gap, 1.0), opening, closing)


def _inset_lips(points: NDArray[np.float32], moves: _LipMoves, own_teeth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N, P, 2) points with the inner lips moved into the flesh: slightly, or farther near closing corners.

    The rim of an open mouth mixes lip and teeth; squeezed into a closed mouth it would show as a bright line. The rim
    of a closed mouth is the dark line between the lips; next to a new opening it would show as a second line.
    """
    inset = points.copy()
    share = _INSET * np.maximum(own_teeth, np.maximum(moves.opening, moves.meeting))
    share += own_teeth * (_CLOSED_INSET - _INSET) * moves.meeting
    depth = share[:, None] + (own_teeth * (1 - moves.left).clip(0))[:, None] * _CORNER_INSETS
    depth = depth.astype(np.float32)[..., None]
    for inner, middle, outer in _LIPS_INSIDE_OUT:
        inset[:, inner] += depth.clip(0, 1) * (points[:, middle] - points[:, inner])
        inset[:, inner] += (depth - 1).clip(0, 1) * (points[:, outer] - points[:, middle])
    return inset


def _mean_gaps(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the (N,) mean gaps between the inner lips in pixels."""
    gaps = np.linalg.norm(points[:, INNER_LOWER_ROWS] - points[:, INNER_UPPER_ROWS], axis=-1)
    # The order in which NumPy adds depends on the layout, which for one face differs from that for several.
    return np.asarray(np.ascontiguousarray(gaps).mean(1))


def _skull(target: NDArray[np.float64], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (N, 3, 2) `FieldProblem.skull` of images with (N, P, 2) control points."""
    return _affine_maps(target[:, NUM_LANDMARKS:], points[:, NUM_LANDMARKS:].astype(np.float64))


def _affine_maps(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return (N, 3, 2) least-squares affine maps of (N, A, 2) points."""
    design = np.concatenate([np.ones_like(source[..., :1]), source], -1)
    return (np.linalg.pinv(design) @ target).astype(np.float32)


def _enlargement(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (N,) scale factors of (N, 3, 2) affine maps."""
    return np.asarray(np.sqrt(np.abs(np.linalg.det(maps[:, 1:]))).clip(0.1), np.float32)


def _axes(points: NDArray[np.floating]) -> LipAxes:
    return lip_axes(points[:, INNER_UPPER_ROWS], points[:, INNER_LOWER_ROWS])


def grid_positions(size: int) -> NDArray[np.float32]:
    """Return the (32,) pixel positions of the cell centres; pixel centres are at integers."""
    return ((np.arange(GRID) + 0.5) * (size / GRID) - 0.5).astype(np.float32)


def grid_points(size: int) -> NDArray[np.float32]:
    """Return (1024, 2) positions of the cell centres in the units of `FieldProblem.points`, row by row."""
    position = grid_positions(size) / size - 0.5
    columns, rows = np.meshgrid(position, position)
    return np.stack([columns.ravel(), rows.ravel()], 1).astype(np.float32)
