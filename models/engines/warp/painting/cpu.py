"""The engine on the CPU: the same algorithm as `torch_path`, in OpenCV and NumPy, frame by frame.

Only the boxes are touched where the masks are above zero; a frame's data stays in the CPU's cache.
"""

from __future__ import annotations

import cv2
import numpy as np

from models.engines.patches import FacePatches
from models.engines.warp.chunk import FaceChunk
from models.engines.warp.painting import fields
from models.engines.warp.painting.cpu_planes import (
    F32,
    U8,
    Box,
    Mouth,
    cubic,
    double,
    grid,
    halve_positions,
    lay_over,
    linear,
    mix,
    recolour,
    within,
)
from models.engines.warp.painting.interior import BLUR, OWN_SHRINK, Colours, draw_interior, lip_shadow, parting
from models.engines.warp.painting.masks import border_window
from models.engines.warp.painting.match import blur_matrices, match_colour, sharpening
from models.engines.warp.painting.seam import (
    MouthAxes,
    MouthCoords,
    behind_lip,
    darken,
    hollow,
    inside_alpha,
    lower_layer_weight,
    mouth_coords,
    smooth_cut,
)
from models.geometry import thin_plate
from models.geometry.thin_plate import GRID


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

    def __init__(self, chunk: FaceChunk, problem: fields.FieldProblem, weights: F32, face: int) -> None:
        self.chunk, self.face = chunk, face
        self.size = chunk.region_size
        self.cell = self.size // GRID
        self.axes = MouthAxes(*(part[face : face + 1] for part in problem.axes))
        self.own_axes = MouthAxes(*(part[face : face + 1] for part in problem.own_axes))
        self.skull = problem.skull[face]
        self.fade = int(problem.fade[face])
        self.own_teeth = float(problem.own_teeth[face])
        positions = fields.grid_positions(self.size)
        axis = (positions / self.size - 0.5).astype(np.float32)
        flat = thin_plate.evaluate_grid(problem.points[face], weights[face], axis)
        self.upper, self.lower = np.moveaxis(flat.reshape(GRID, GRID, 2, fields.NUM_CHANNELS), 2, 0)
        share = lower_layer_weight(mouth_coords(np, self.axes, positions[None, None], positions[None, :, None]))[0]
        smooth = slice(0, 4)  # of the frame and the mask texture; around the mouth the exemplar covers it
        self.merged = self.upper[..., smooth] + share[..., None] * (self.lower[..., smooth] - self.upper[..., smooth])

    def render(self, out_y: U8, out_uv: U8) -> None:
        """Writes the finished face over the copy of the base crop in `out_y` and `out_uv`."""
        mouth, jaw = self._masks()
        if not jaw.any():
            return
        box = self._box(jaw, Box(0, 0, GRID, GRID))
        frame_y, frame_uv = self._warp_frame(box, out_y, out_uv)
        jaw = jaw[box.pixels(self.cell / 2)]
        weight = jaw * np.float32(1 / 255)
        lay_over(out_y[box.pixels(self.cell)], frame_y, double(weight))
        for plane, warped in zip(out_uv, frame_uv, strict=True):
            lay_over(plane[box.pixels(self.cell / 2)], warped, weight)
        if not mouth.any():
            return
        inner = self._box(mouth, box)
        frame = Mouth(
            frame_y[within(inner, box, self.cell)], [uv[within(inner, box, self.cell / 2)] for uv in frame_uv]
        )
        self._show_mouth(inner, self._cells(inner, frame), mouth[inner.pixels(self.cell / 2)], out_y, out_uv)

    def _masks(self) -> tuple[U8, U8]:
        """Mouth and jaw mask at half size."""
        half = self.size // 2
        place = [cv2.resize(axis, (half, half)) for axis in cv2.split(self.merged[..., fields.TEXTURE])]
        window = border_window(half)
        textures = self.chunk.masks[self.chunk.mask[self.face]]
        masks = (
            cv2.remap(texture, place[0], place[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            for texture in cv2.split(textures)  # one by one: OpenCV is faster on them
        )
        mouth, jaw = (np.asarray(cv2.multiply(mask, window[..., 0], scale=1 / 255), np.uint8) for mask in masks)
        return np.asarray(cv2.bitwise_and(mouth, mouth, mask=jaw), np.uint8), jaw

    def _box(self, mask: U8, outer: Box) -> Box:
        left, top, width, height = cv2.boundingRect(mask)
        step = self.cell  # two cells in luma are this many pixels at half size
        edges = [left // step * 2, top // step * 2, -(-(left + width) // step) * 2, -(-(top + height) // step) * 2]
        return Box(
            max(edges[0], outer.left),
            max(edges[1], outer.top),
            min(edges[2], outer.right),
            min(edges[3], outer.bottom),
        )

    def _enlarge(self, field: F32, box: Box) -> list[F32]:
        """The C planes of a (32, 32, C) field, bilinearly, for the pixels of a box."""
        padded = cv2.copyMakeBorder(np.ascontiguousarray(field), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        block = padded[box.top : box.bottom + 2, box.left : box.right + 2]
        # Planes instead of pairs: NumPy is several times faster on them.
        large = [cv2.resize(plane, None, fx=self.cell, fy=self.cell) for plane in cv2.split(block)]
        return [np.asarray(plane, np.float32)[self.cell : -self.cell, self.cell : -self.cell] for plane in large]

    def _positions(self, shift: list[F32], box: Box) -> list[F32]:
        """Absolute positions x, y of shifts, in place."""
        rows, columns = box.pixels(self.cell)
        shift[0] += np.arange(columns.start, columns.stop, dtype=np.float32)
        shift[1] += np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        return shift

    def _warp_frame(self, box: Box, y: U8, uv: U8) -> tuple[F32, list[F32]]:
        place = self._positions(self._enlarge(self.merged[..., fields.FRAME], box), box)
        half = halve_positions(place)
        return cubic(y, place), [linear(plane, half) for plane in uv]

    def _cells(self, box: Box, mouth: Mouth) -> F32:
        """(3, 32, 32) means of the cells in the box, 0 elsewhere."""
        cells = np.zeros((3, GRID, GRID), np.float32)
        shape = (box.right - box.left, box.bottom - box.top)
        for k, plane in enumerate((mouth.y, *mouth.uv)):
            mean = cv2.resize(plane, shape, interpolation=cv2.INTER_AREA)
            cells[k, box.top : box.bottom, box.left : box.right] = mean
        return cells

    def _show_mouth(self, box: Box, frame_cells: F32, mask: U8, out_y: U8, out_uv: U8) -> None:
        chunk, face = self.chunk, self.face
        share, opening, dark, near = self._seam(box)
        half_mask = mask * np.float32(1 / 255)
        rim = np.zeros((1, GRID, GRID), np.float32)
        rim[0, box.top : box.bottom, box.left : box.right] = cv2.resize(
            4 * half_mask * (1 - half_mask), (box.right - box.left, box.bottom - box.top), interpolation=cv2.INTER_AREA
        )
        exemplar = int(chunk.exemplar[face])
        read = self._read(exemplar, self._place(box, fields.EXEMPLAR, share))
        colour = self._match(box, read, frame_cells, rim)
        mouth = recolour(read, colour)
        weight = float(chunk.fade_weight[face])
        if weight > 0:
            other = self._read(self.fade, self._place(box, fields.FADE, share))
            other = recolour(other, self._match(box, other, frame_cells, rim))
            mouth = mix(mouth, other, weight * (1 - opening))
        mouth = Mouth(self._smooth_cut(darken(mouth.y, dark, chunk.skin[face, 0]), *near), mouth.uv)
        if chunk.interior[face] > 0 and opening.any():
            self._draw_interior(box, mouth, colour, opening * chunk.interior[face])
        lay_over(out_y[box.pixels(self.cell)], mouth.y, double(half_mask))
        for plane, wanted in zip(out_uv, mouth.uv, strict=True):
            lay_over(plane[box.pixels(self.cell / 2)], wanted, half_mask)

    def _seam(self, box: Box) -> tuple[F32, F32, F32, tuple[MouthCoords, slice]]:
        """`lower_layer_weight`, `inside_alpha` and `hollow` of the box's pixels, worked out where the lips are near.

        Last the mouth coordinates there, and which rows of the box these are.
        """
        grid_x, grid_y = grid(box.pixels(self.cell))
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
        near = lower_layer_weight(coords, self._hard)
        share[first:last] = near[0]
        opening, dark = np.zeros((2, height, width), np.float32)
        opening[first:last] = inside_alpha(coords)[0]
        dark[first:last] = hollow(coords, near, self.chunk.eye_distance[self.face : self.face + 1])[0]
        return share, opening, dark, (coords, slice(first, last))

    @property
    def _hard(self) -> float:
        """How suddenly the upper layer changes to the lower one, see `lower_layer_weight`."""
        return float(self.chunk.interior[self.face] * self.chunk.own_teeth[self.face])

    def _smooth_cut(self, luma: F32, coords: MouthCoords, rows: slice) -> F32:
        if self._hard > 0:
            padded = cv2.copyMakeBorder(luma, 1, 1, 0, 0, cv2.BORDER_REPLICATE)
            above, below = padded[:-2][rows], padded[2:][rows]
            luma[rows] = smooth_cut(luma[rows], above, below, coords, self._hard)[0]
        return luma

    def _place(self, box: Box, channels: slice, share: F32) -> list[F32]:
        """Where the box's pixels come from, when the lower layer has the weight `share`."""
        both = np.concatenate([self.upper[..., channels], self.lower[..., channels]], -1)
        upper_x, upper_y, lower_x, lower_y = self._enlarge(both, box)
        for upper, lower in ((upper_x, lower_x), (upper_y, lower_y)):
            lower -= upper
            lower *= share
            lower += upper
        return self._positions([lower_x, lower_y], box)

    def _read(self, crop: int, place: list[F32]) -> Mouth:
        """A crop at the luma positions `place`, sharpened."""
        half = halve_positions(place)
        y = cubic(self.chunk.crops_y[crop], place)
        soft = cv2.blur(y, (3, 3), borderType=cv2.BORDER_REPLICATE)
        amount = float(sharpening(np.array(crop), self.chunk.base[self.face]))
        sharp = np.asarray(cv2.addWeighted(y, 1 + amount, soft, -amount, 0), np.float32)
        return Mouth(sharp, [linear(uv, half) for uv in self.chunk.crops_uv[crop]])

    def _match(self, box: Box, mouth: Mouth, frame_cells: F32, rim: F32) -> list[F32]:
        """Luma gain and chroma offsets, each for the pixels of the luma box."""
        own = self._cells(box, mouth)
        gain, offset = match_colour(np, frame_cells[None], own[None], rim[None], blur_matrices())
        return self._enlarge(np.moveaxis(np.concatenate([gain[0], offset[0]]), 0, -1), box)

    def _draw_interior(self, box: Box, mouth: Mouth, colour: list[F32], weight: F32) -> None:
        """Mixes the drawn interior into the `mouth` of the box, where it has a weight."""
        step = 2 * self.cell  # whole cells in pairs, as every box
        rows, columns = (np.flatnonzero(weight.any(axis)) for axis in (1, 0))
        inside = Box(
            box.left + columns[0] // step * 2,
            box.top + rows[0] // step * 2,
            box.left + (columns[-1] // step + 1) * 2,
            box.top + (rows[-1] // step + 1) * 2,
        )
        luma, chroma = within(inside, box, self.cell), within(inside, box, self.cell / 2)
        seen = Mouth(mouth.y[luma], [plane[chroma] for plane in mouth.uv])
        drawn = mix(seen, self._interior(inside, [plane[luma] for plane in colour]), weight[luma])
        mouth.y[luma] = drawn.y
        for plane, wanted in zip(mouth.uv, drawn.uv, strict=True):
            plane[chroma] = wanted

    def _interior(self, box: Box, colour: list[F32]) -> Mouth:
        """The drawn interior, and in it the exemplar's own teeth where it has some."""
        chunk, one = self.chunk, slice(self.face, self.face + 1)
        axes = self.axes
        small = MouthAxes((axes.centre - 0.5) / 2, axes.along, axes.half_width / 2, axes.lips / 2)
        coords = mouth_coords(np, small, *grid(box.pixels(self.cell / 2)))
        offset, along = chunk.seam[one] - axes.centre, axes.along
        seam = (offset[:, 1] * along[:, 0] - offset[:, 0] * along[:, 1]) / 2
        colours = Colours(chunk.skin[one], chunk.lip[one], chunk.teeth[one])
        drawn = draw_interior(np, coords, chunk.eye_distance[one] / 2, seam, colours)[0]
        sigma = max(float(chunk.eye_distance[self.face]) / 2 * BLUR, 0.3)
        drawn = [cv2.GaussianBlur(plane, (0, 0), sigma) for plane in drawn]
        interior = Mouth(double(drawn[0]), drawn[1:])
        if self.own_teeth > 0:
            grid_x, grid_y = (axis[0] for axis in grid(box.pixels(self.cell)))
            place = [skull[0] + skull[1] * grid_x + skull[2] * grid_y for skull in self.skull.T]
            shift, inside = behind_lip(mouth_coords(np, self.own_axes, place[0][None], place[1][None]), OWN_SHRINK)
            across = self.own_axes.along[0] * np.array([1, -1], np.float32)
            place = [axis + turn * shift[0] for axis, turn in zip(place, across[::-1], strict=True)]
            own = recolour(self._read(int(chunk.exemplar[self.face]), place), colour)
            unit = chunk.eye_distance[one] / 2
            own.y[:] *= double(lip_shadow(coords, unit)[0])
            parted = double(parting(coords, unit)[0])
            interior = mix(interior, own, self.own_teeth * inside[0] * parted)
        return interior
