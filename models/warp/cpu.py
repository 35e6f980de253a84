"""The engine on the CPU: the same algorithm as `models.warp.torch_path`, in OpenCV and NumPy, frame by frame.

Only the boxes are touched where the masks are above zero; a frame's data stays in the CPU's cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face_chunk import FaceChunk, FacePatches
from models.warp import fields, thin_plate
from models.warp.interior import BLUR, OWN_SHRINK, draw_interior, lip_shadow, parting
from models.warp.masks import border_window
from models.warp.match import LUMA_FLOOR, blur_matrices, match_colour
from models.warp.seam import MouthAxes, behind_lip, inside_alpha, lower_layer_weight, mouth_coords
from models.warp.thin_plate import GRID

_F32 = NDArray[np.float32]
_U8 = NDArray[np.uint8]


class _Box(NamedTuple):
    """A rectangle of cells, edges even, so that it has whole chroma pixels in every region size."""

    left: int
    top: int
    right: int
    bottom: int

    def pixels(self, cell: float) -> tuple[slice, slice]:
        """Rows and columns of a plane whose cells are `cell` pixels wide."""
        return (
            slice(round(self.top * cell), round(self.bottom * cell)),
            slice(round(self.left * cell), round(self.right * cell)),
        )


def _within(inner: _Box, outer: _Box, cell: float) -> tuple[slice, slice]:
    """Rows and columns of `inner` in a plane that covers `outer`."""
    left, top = outer.left, outer.top
    return _Box(inner.left - left, inner.top - top, inner.right - left, inner.bottom - top).pixels(cell)


class _Mouth(NamedTuple):
    """What shall stand in the mouth box, 0 to 255 and a little beyond, as a cubic kernel overshoots."""

    y: _F32
    uv: list[_F32]


def render_on_cpu(chunk: FaceChunk) -> FacePatches:
    """Returns one patch for every face of `chunk`."""
    out_y, out_uv = chunk.crops_y[chunk.base], chunk.crops_uv[chunk.base]  # copies
    if len(chunk.base):
        problem = fields.pose_problem(chunk)
        weights = thin_plate.fit(np, problem.points, problem.values, fields.LAYERS).astype(np.float32)
        for face in range(len(chunk.base)):
            _Face(chunk, problem, weights, face).render(out_y[face], out_uv[face])
    return FacePatches(chunk.row, chunk.origins, out_y, out_uv)


class _Face:
    """One face: its fields, masks and boxes."""

    def __init__(self, chunk: FaceChunk, problem: fields.FieldProblem, weights: _F32, face: int) -> None:
        self.chunk, self.face = chunk, face
        self.size = chunk.region_size
        self.cell = self.size // GRID
        self.axes = MouthAxes(*(part[face : face + 1] for part in problem.axes))
        self.own_axes = MouthAxes(*(part[face : face + 1] for part in problem.own_axes))
        self.skull = problem.skull[face]
        self.fade = int(problem.fade[face])
        positions = fields.grid_positions(self.size)
        axis = (positions / self.size - 0.5).astype(np.float32)
        flat = thin_plate.evaluate_grid(problem.points[face], weights[face], axis)
        self.upper, self.lower = np.moveaxis(flat.reshape(GRID, GRID, 2, fields.NUM_CHANNELS), 2, 0)
        share = lower_layer_weight(mouth_coords(np, self.axes, positions[None, None], positions[None, :, None]))[0]
        smooth = slice(0, 4)  # of the frame and the mask texture; around the mouth the exemplar covers it
        self.merged = self.upper[..., smooth] + share[..., None] * (self.lower[..., smooth] - self.upper[..., smooth])

    def render(self, out_y: _U8, out_uv: _U8) -> None:
        """Writes the finished face over the copy of the base crop in `out_y` and `out_uv`."""
        mouth, jaw = self._masks()
        if not jaw.any():
            return
        box = self._box(jaw, _Box(0, 0, GRID, GRID))
        frame_y, frame_uv = self._warp_frame(box, out_y, out_uv)
        jaw = jaw[box.pixels(self.cell / 2)]
        weight = jaw * np.float32(1 / 255)
        _lay_over(out_y[box.pixels(self.cell)], frame_y, _double(weight))
        for plane, warped in zip(out_uv, frame_uv, strict=True):
            _lay_over(plane[box.pixels(self.cell / 2)], warped, weight)
        if not mouth.any():
            return
        inner = self._box(mouth, box)
        frame = _Mouth(
            frame_y[_within(inner, box, self.cell)], [uv[_within(inner, box, self.cell / 2)] for uv in frame_uv]
        )
        self._show_mouth(inner, self._cells(inner, frame), mouth[inner.pixels(self.cell / 2)], out_y, out_uv)

    def _masks(self) -> tuple[_U8, _U8]:
        """Mouth and jaw mask at half size."""
        half = self.size // 2
        place = [cv2.resize(axis, (half, half)) for axis in cv2.split(self.merged[..., fields.TEXTURE])]
        window = border_window(half)
        masks = (
            cv2.remap(texture, place[0], place[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            for texture in cv2.split(self.chunk.masks)  # one by one: OpenCV is faster on them
        )
        mouth, jaw = (np.asarray(cv2.multiply(mask, window[..., 0], scale=1 / 255), np.uint8) for mask in masks)
        return np.asarray(cv2.bitwise_and(mouth, mouth, mask=jaw), np.uint8), jaw

    def _box(self, mask: _U8, within: _Box) -> _Box:
        left, top, width, height = cv2.boundingRect(mask)
        step = self.cell  # two cells in luma are this many pixels at half size
        edges = [left // step * 2, top // step * 2, -(-(left + width) // step) * 2, -(-(top + height) // step) * 2]
        return _Box(
            max(edges[0], within.left),
            max(edges[1], within.top),
            min(edges[2], within.right),
            min(edges[3], within.bottom),
        )

    def _enlarge(self, field: _F32, box: _Box) -> list[_F32]:
        """The C planes of a (32, 32, C) field, bilinearly, for the pixels of a box."""
        padded = cv2.copyMakeBorder(np.ascontiguousarray(field), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        block = padded[box.top : box.bottom + 2, box.left : box.right + 2]
        # Planes instead of pairs: NumPy is several times faster on them.
        large = [cv2.resize(plane, None, fx=self.cell, fy=self.cell) for plane in cv2.split(block)]
        return [np.asarray(plane, np.float32)[self.cell : -self.cell, self.cell : -self.cell] for plane in large]

    def _positions(self, shift: list[_F32], box: _Box) -> list[_F32]:
        """Absolute positions x, y of shifts, in place."""
        rows, columns = box.pixels(self.cell)
        shift[0] += np.arange(columns.start, columns.stop, dtype=np.float32)
        shift[1] += np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        return shift

    def _warp_frame(self, box: _Box, y: _U8, uv: _U8) -> tuple[_F32, list[_F32]]:
        place = self._positions(self._enlarge(self.merged[..., fields.FRAME], box), box)
        half = _halve_positions(place)
        return _cubic(y, place), [_linear(plane, half) for plane in uv]

    def _cells(self, box: _Box, mouth: _Mouth) -> _F32:
        """(3, 32, 32) means of the cells in the box, 0 elsewhere."""
        cells = np.zeros((3, GRID, GRID), np.float32)
        shape = (box.right - box.left, box.bottom - box.top)
        for k, plane in enumerate((mouth.y, *mouth.uv)):
            mean = cv2.resize(plane, shape, interpolation=cv2.INTER_AREA)
            cells[k, box.top : box.bottom, box.left : box.right] = mean
        return cells

    def _show_mouth(self, box: _Box, frame_cells: _F32, mask: _U8, out_y: _U8, out_uv: _U8) -> None:
        chunk, face = self.chunk, self.face
        share, opening = self._seam(box)
        half_mask = mask * np.float32(1 / 255)
        rim = np.zeros((1, GRID, GRID), np.float32)
        rim[0, box.top : box.bottom, box.left : box.right] = cv2.resize(
            4 * half_mask * (1 - half_mask), (box.right - box.left, box.bottom - box.top), interpolation=cv2.INTER_AREA
        )
        exemplar = int(chunk.exemplar[face])
        read = self._read(exemplar, self._place(box, fields.EXEMPLAR, share))
        colour = self._match(box, read, frame_cells, rim)
        mouth = _apply(read, colour)
        weight = float(chunk.fade_weight[face])
        if weight > 0:
            other = self._read(self.fade, self._place(box, fields.FADE, share))
            other = _apply(other, self._match(box, other, frame_cells, rim))
            mouth = _mix(mouth, other, weight * (1 - opening))
        if chunk.interior[face] > 0:
            mouth = _mix(mouth, self._interior(box, colour), opening * chunk.interior[face])
        _lay_over(out_y[box.pixels(self.cell)], mouth.y, _double(half_mask))
        for plane, wanted in zip(out_uv, mouth.uv, strict=True):
            _lay_over(plane[box.pixels(self.cell / 2)], wanted, half_mask)

    def _seam(self, box: _Box) -> tuple[_F32, _F32]:
        """`lower_layer_weight` and `inside_alpha` of the box's pixels, worked out only where the lips are near."""
        grid_x, grid_y = _grid(box.pixels(self.cell))
        centre, along, half_width = self.axes.centre[0], self.axes.along[0], float(self.axes.half_width[0])
        dx = grid_x[0, 0, [0, -1]] - centre[0]
        dy = grid_y[0, [0, -1], 0] - centre[1]
        # Half of the widest change from layer to layer: beside the mouth it grows by 0.9 pixels a pixel.
        beside = abs(dx).max() * abs(along[0]) + abs(dy).max() * abs(along[1]) - half_width
        reach = 0.45 * max(float(beside), 0.0) + 0.5 * float(np.ptp(self.axes.lips[0])) + 0.05 * half_width + 2
        lips = self.axes.lips[0]
        tilt = dx * along[1]
        turn = max(float(along[0]), 1e-3)
        first = int((lips.min() - reach + tilt.min()) / turn - dy[0])
        last = int((lips.max() + reach + tilt.max()) / turn - dy[0]) + 1
        height, width = grid_y.shape[1], grid_x.shape[2]
        first, last = sorted((min(max(first, 0), height - 1), min(max(last, 1), height)))
        coords = mouth_coords(np, self.axes, grid_x, grid_y[:, first:last])
        share = np.zeros((height, width), np.float32)
        share[last:] = 1
        hard = self.chunk.interior[self.face] * self.chunk.own_teeth[self.face]
        share[first:last] = lower_layer_weight(coords, hard)[0]
        opening = np.zeros((height, width), np.float32)
        opening[first:last] = inside_alpha(coords)[0]
        return share, opening

    def _place(self, box: _Box, channels: slice, share: _F32) -> list[_F32]:
        """Where the box's pixels come from, when the lower layer has the weight `share`."""
        both = np.concatenate([self.upper[..., channels], self.lower[..., channels]], -1)
        upper_x, upper_y, lower_x, lower_y = self._enlarge(both, box)
        for upper, lower in ((upper_x, lower_x), (upper_y, lower_y)):
            lower -= upper
            lower *= share
            lower += upper
        return self._positions([lower_x, lower_y], box)

    def _read(self, crop: int, place: list[_F32]) -> _Mouth:
        """A crop at the luma positions `place`."""
        half = _halve_positions(place)
        return _Mouth(_cubic(self.chunk.crops_y[crop], place), [_linear(uv, half) for uv in self.chunk.crops_uv[crop]])

    def _match(self, box: _Box, mouth: _Mouth, frame_cells: _F32, rim: _F32) -> list[_F32]:
        """Luma gain and chroma offsets, each for the pixels of the luma box."""
        own = self._cells(box, mouth)
        gain, offset = match_colour(np, frame_cells[None], own[None], rim[None], blur_matrices())
        return self._enlarge(np.moveaxis(np.concatenate([gain[0], offset[0]]), 0, -1), box)

    def _interior(self, box: _Box, colour: list[_F32]) -> _Mouth:
        """The drawn interior, and in it the exemplar's own teeth where it has some."""
        chunk, one = self.chunk, slice(self.face, self.face + 1)
        axes = self.axes
        small = MouthAxes((axes.centre - 0.5) / 2, axes.along, axes.half_width / 2, axes.lips / 2)
        coords = mouth_coords(np, small, *_grid(box.pixels(self.cell / 2)))
        offset, along = chunk.seam[one] - axes.centre, axes.along
        seam = (offset[:, 1] * along[:, 0] - offset[:, 0] * along[:, 1]) / 2
        drawn = draw_interior(np, coords, chunk.eye_distance[one] / 2, seam, chunk.skin[one])[0]
        sigma = max(float(chunk.eye_distance[self.face]) / 2 * BLUR, 0.3)
        drawn = [cv2.GaussianBlur(plane, (0, 0), sigma) for plane in drawn]
        interior = _Mouth(_double(drawn[0]), drawn[1:])
        if chunk.own_teeth[self.face] > 0:
            grid_x, grid_y = (axis[0] for axis in _grid(box.pixels(self.cell)))
            place = [skull[0] + skull[1] * grid_x + skull[2] * grid_y for skull in self.skull.T]
            shift, inside = behind_lip(mouth_coords(np, self.own_axes, place[0][None], place[1][None]), OWN_SHRINK)
            across = self.own_axes.along[0] * np.array([1, -1], np.float32)
            place = [axis + turn * shift[0] for axis, turn in zip(place, across[::-1], strict=True)]
            own = _apply(self._read(int(chunk.exemplar[self.face]), place), colour)
            unit = chunk.eye_distance[one] / 2
            own.y[:] *= _double(lip_shadow(coords, unit)[0])
            parted = _double(parting(coords, unit)[0])
            interior = _mix(interior, own, chunk.own_teeth[self.face] * inside[0] * parted)
        return interior


def _grid(where: tuple[slice, slice]) -> tuple[_F32, _F32]:
    """(1, 1, w) columns and (1, h, 1) rows of a box."""
    rows, columns = (np.arange(part.start, part.stop, dtype=np.float32) for part in where)
    return columns[None, None], rows[None, :, None]


def _apply(mouth: _Mouth, colour: list[_F32]) -> _Mouth:
    """Brings a mouth to the frame's colours."""
    gain, *offsets = colour
    y = (mouth.y + np.float32(LUMA_FLOOR)) * gain - np.float32(LUMA_FLOOR)
    return _Mouth(y, [plane + _halve(shift) for plane, shift in zip(mouth.uv, offsets, strict=True)])


def _halve_positions(place: list[_F32]) -> list[_F32]:
    """Luma positions to chroma positions, each that of its upper left luma pixel.

    A mean over the four would lie between the layers along the seam of the lips.
    """
    return [axis[::2, ::2] * np.float32(0.5) for axis in place]


def _halve(field: _F32) -> _F32:
    """Means of 2 x 2 pixels."""
    return np.asarray(cv2.resize(field, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)


def _double(plane: NDArray[Any]) -> NDArray[Any]:
    return cv2.resize(plane, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)


def _cubic(plane: _U8, place: list[_F32]) -> _F32:
    return _remap(plane, place, cv2.INTER_CUBIC)


def _linear(plane: _U8, place: list[_F32]) -> _F32:
    return _remap(plane, place, cv2.INTER_LINEAR)


def _remap(plane: _U8, place: list[_F32], interpolation: int) -> _F32:
    """Whole numbers as float32, which OpenCV reads faster than 8 bits."""
    read = cv2.remap(plane.astype(np.float32), place[0], place[1], interpolation, borderMode=cv2.BORDER_REPLICATE)
    return np.rint(read, out=np.asarray(read, np.float32))


def _lay_over(plane: _U8, wanted: NDArray[Any], weight: NDArray[Any]) -> None:
    """Mixes `wanted` into the view `plane` by weights from 0 to 1."""
    mixed = wanted - plane
    mixed *= weight
    mixed += plane
    np.rint(mixed, out=mixed)
    np.clip(mixed, 0, 255, out=mixed)
    plane[:] = mixed


def _mix(mouth: _Mouth, other: _Mouth, weight: _F32) -> _Mouth:
    """Mixes two mouths by a (h, w) weight."""
    half = _halve(weight)
    y = mouth.y + weight * (other.y - mouth.y)
    return _Mouth(y, [a + half * (b - a) for a, b in zip(mouth.uv, other.uv, strict=True)])
