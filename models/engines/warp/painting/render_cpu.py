"""The renderer in OpenCV and Numba, face by face: the same algorithm as `render_torch`.

It only processes the boxes in which the masks are above zero, and each kernel passes once over the pixels of a box, so
that the data of a face stays in the CPU cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np

from models.engines.patches import FacePatches
from models.engines.warp.chunk import FaceChunk
from models.engines.warp.painting import fields
from models.engines.warp.painting.cells import average_cells, mask_cells
from models.engines.warp.painting.interior import (
    BLUR,
    MIN_BLUR,
    OWN_SHRINK,
    DrawnInterior,
    draw_interiors,
    lip_shadow,
    parting,
)
from models.engines.warp.painting.lip_coordinates import (
    LipAxes,
    behind_lip,
    lip_coords,
    lower_layer_weight,
)
from models.engines.warp.painting.lips import Lips
from models.engines.warp.painting.masks import blur_matrices, border_window, match_colour, sharpening
from models.engines.warp.painting.plane_kernels import (
    darken_into,
    enlarge,
    fade_into,
    lay_chroma,
    lay_luma,
    multiply_luma,
    offset_chroma,
    padded_positions,
    sharpen_into,
    smooth_cut_into,
)
from models.engines.warp.painting.planes import (
    F32,
    U8,
    Box,
    ColourMatch,
    Crop,
    Mouth,
    SharpCrop,
    grid,
    halve,
    linear,
    mix,
    padded_cells,
    within,
)
from models.engines.warp.painting.sampling import sample_cubic, sample_linear
from models.engines.warp.painting.splines import spline_fields
from models.geometry.thin_plate import GRID

_AROUND: Final = np.ones((3, 3), np.uint8)
# Weight in the colour match of pixels with each value of the mouth mask: highest half-way between both images
_RIM: Final = (4 * np.linspace(0, 1, 256) * np.linspace(1, 0, 256)).astype(np.float32)
_EVERYWHERE: Final = np.ones((1, 1), np.uint8)


def render_on_cpu(chunk: FaceChunk) -> FacePatches:
    """Render one patch per face of `chunk`."""
    out_y, out_uv = chunk.crops_y[chunk.base], chunk.crops_uv[chunk.base]  # copies
    if len(chunk.base):
        faces = _Faces.of(chunk)
        textures = np.ascontiguousarray(chunk.masks.transpose(0, 3, 1, 2))  # (V, 2, M, M)
        for face, mask in enumerate(chunk.mask):
            _Face(faces, face, textures[mask]).render(out_y[face], out_uv[face])
    return FacePatches(chunk.row, chunk.origins, out_y, out_uv)


class _Faces(NamedTuple):
    """Values that are computed for all faces of a chunk at once."""

    chunk: FaceChunk  # N faces
    problem: fields.FieldProblem  # their spline problem
    share: F32  # (N, 32, 32) `lower_layer_weight` of the cells
    sharpening: F32  # (2, N) sharpening of the exemplars, and of the exemplars they fade with
    drawn: dict[int, DrawnInterior]  # interiors by face

    @classmethod
    def of(cls, chunk: FaceChunk) -> _Faces:
        problem, positions = fields.pose_problem(chunk), fields.grid_positions(chunk.region_size)
        coords = lip_coords(np, problem.axes, positions[None, None], positions[None, :, None])
        amounts = [sharpening(crops, chunk.base) for crops in (chunk.exemplar, problem.fade)]
        share, drawn = lower_layer_weight(coords), draw_interiors(chunk, problem.axes, problem.own_teeth)
        return cls(chunk, problem, share, np.stack(amounts), drawn)


class _Face:
    """One face: its fields, masks and boxes; `textures` are its (2, M, M) mouth and jaw mask."""

    def __init__(self, faces: _Faces, face: int, textures: U8) -> None:
        self.chunk, self.face = faces.chunk, face
        chunk, problem = faces.chunk, faces.problem
        self.size = chunk.region_size
        self.cell = self.size // GRID
        self.axes = LipAxes(*(part[face : face + 1] for part in problem.axes))
        self.own_axes = LipAxes(*(part[face : face + 1] for part in problem.own_axes))
        self.skull, self.enlargement = problem.skull[face], problem.enlargement[face]
        self.fade = int(problem.fade[face])
        self.fade_weight = float(chunk.fade_weight[face])
        self.own_teeth = float(problem.own_teeth[face])
        self.closing, self.lower_rim = float(problem.closing[face]), float(problem.lower_rim[face])
        self.hard = float(problem.hard[face])
        self.sharpening = faces.sharpening[:, face].tolist()
        self.drawn = faces.drawn.get(face)
        used = fields.NUM_CHANNELS if self.fade_weight > 0 else fields.FADE.start
        values, ridge = problem.values[face, :, :used], problem.ridge[face]
        layers = spline_fields(problem.points[face], values, ridge, self.size)
        smooth = slice(0, 4)  # FRAME and TEXTURE; around the mouth the exemplar covers the transition
        merged = layers[0, smooth] + faces.share[face] * (layers[1, smooth] - layers[0, smooth])
        place = merged[fields.TEXTURE]
        self.mouth = self._mouth_mask(textures[0], place)
        self.mouth_shows, self.mouth_covers = mask_cells(self.mouth, self.cell)
        jaw = self._mask(textures[1], place, border_window(GRID))
        # Moving cells and their neighbours, as fields are enlarged bilinearly.
        self.moves = np.asarray(cv2.dilate(jaw, _AROUND), np.uint8)
        self.frame = padded_positions(merged[None, fields.FRAME] * (jaw * np.float32(1 / 255)), self.cell)[0]
        self.layers = padded_positions(layers, self.cell)  # (2, 2n, 36, 36) of the upper and the lower layer

    def render(self, out_y: U8, out_uv: U8) -> None:
        """Render the face over the copy of the base crop in `out_y`, (R, R), and `out_uv`, (2, R / 2, R / 2)."""
        if not self.moves.any():
            return
        self._move_frame(out_y, out_uv)
        if not self.mouth.any():
            return
        box = self._box(self.mouth, self.cell)
        luma, chroma = box.pixels(self.cell), box.pixels(self.cell / 2)
        below = self._cells(box, (out_y, *out_uv), luma[0].start, luma[1].start)
        mouth = self._mouth(box, below, self.mouth[chroma])
        lay_luma(out_y, luma[1].start, luma[0].start, mouth.y, self.mouth)
        for plane, wanted in zip(out_uv, mouth.uv, strict=True):
            lay_chroma(plane, chroma[1].start, chroma[0].start, wanted, self.mouth)

    def _mouth_mask(self, texture: U8, place: F32) -> U8:
        """Return the (R / 2, R / 2) mask of the mouth, given the positions of cells in its texture."""
        half = self.size // 2
        mask = np.zeros((half, half), np.uint8)
        cells = np.asarray(cv2.dilate(self._mask(texture, place, border_window(GRID)), _AROUND), np.uint8)
        if cells.any():
            box = self._box(cells, 2)
            part = box.pixels(self.cell / 2)
            wide = [enlarge(axis, box, self.cell / 2) for axis in padded_cells(place)]
            mask[part] = self._mask(texture, wide, border_window(half)[part])
        return mask

    @staticmethod
    def _mask(texture: U8, place: F32 | Sequence[F32], window: F32) -> U8:
        """Sample a mask texture at positions x, y, times a `border_window`."""
        read = linear(texture, place)
        return np.asarray(cv2.multiply(read, window, scale=1 / 255, dtype=cv2.CV_8U), np.uint8)

    @staticmethod
    def _box(mask: U8, step: int) -> Box:
        """Return the bounding box of a mask in pairs of cells, each pair `step` mask pixels wide."""
        left, top, width, height = cv2.boundingRect(mask)
        right, bottom = -(-(left + width) // step), -(-(top + height) // step)
        return Box(left // step * 2, top // step * 2, right * 2, bottom * 2)

    def _crop(self, row: int) -> Crop:
        return Crop(self.chunk.crops_y[row], self.chunk.crops_uv[row])

    def _move_frame(self, out_y: U8, out_uv: U8) -> None:
        """Warp chin and cheeks with the mouth, fading out towards the rim of the jaw mask.

        Blending them with the unwarped frame instead would show collars and outlines twice.
        """
        box, crop = self._box(self.moves, 2), self._crop(int(self.chunk.base[self.face]))
        place = [enlarge(axis, box, self.cell) for axis in self.frame]
        # What the mouth covers completely is not seen.
        pairs = self.moves.reshape(GRID // 2, 2, GRID // 2, 2).max((1, 3)) * (1 - self.mouth_covers)
        rows, columns = box.pixels(self.cell)
        sample_cubic(crop.y, place, pairs[box.pixels(0.5)], out_y, rows.start, columns.start)
        rows, columns = box.pixels(self.cell / 2)
        sample_linear(crop.uv, place, pairs[box.pixels(0.5)], out_uv, rows.start, columns.start)

    def _cells(self, box: Box, planes: Sequence[U8 | F32], top: int = 0, left: int = 0) -> F32:
        """Return (3, 32, 32) cell means of luma and two chroma planes in the box, 0 elsewhere.

        The box starts at row `top`, column `left` of the luma plane.
        """
        cells = np.zeros((3, GRID, GRID), np.float32)
        for means, plane, scale in zip(cells[:, *box.cells], planes, (1, 2, 2), strict=True):
            average_cells(plane, self.cell / scale, means, top // scale, left // scale)
        return cells

    def _mouth(self, box: Box, frame_cells: F32, mask: U8) -> Mouth:
        """Render the content of the mouth box, given the `_cells` of the warped frame and the box's half-size mask."""
        chunk, face = self.chunk, self.face
        unit = float(chunk.eye_distance[face])
        lips = Lips.find(self.axes, box, self.cell, unit, self.hard, self.closing, self.lower_rim)
        where = self.mouth_shows[box.pixels(0.5)]
        amount, fade_amount = self.sharpening
        read = [self._read(int(chunk.exemplar[face]), self._place(box, fields.EXEMPLAR, lips), amount, where)]
        if self.fade_weight > 0:
            read.append(self._read(self.fade, self._place(box, fields.FADE, lips), fade_amount, where))
        colours = self._match(box, read, frame_cells, mask)
        top, left = (part.start for part in lips.near)
        mouth, *others = (self._recolour(box, each, colour) for each, colour in zip(read, colours, strict=True))
        for other in others:
            fade_into(mouth.y, other.y, self.fade_weight, lips.opening, top, left)
            opening = halve(lips.opening)
            for plane, faded in zip(mouth.uv, other.uv, strict=True):
                fade_into(plane, faded, self.fade_weight, opening, top // 2, left // 2)
        # A drawn interior has its own dark; twice would outline the lips.
        darken_into(mouth.y, lips.dark, 1 - float(chunk.interior[face]), float(chunk.skin[face, 0]), top, left)
        if self.hard > 0:
            smooth_cut_into(mouth.y, lips.offset, self.hard, top, left)
        if self.drawn is not None and lips.opening.any():
            self._show_interior(box, mouth, colours[0], lips, self.drawn)
        return mouth

    def _place(self, box: Box, channels: slice, lips: Lips) -> F32:
        return lips.place(np.ascontiguousarray(self.layers[:, channels]), box, self.cell)

    def _read(self, row: int, place: F32 | Sequence[F32], amount: float, where: U8) -> SharpCrop:
        """Sample a crop at the luma positions `place` in the cells `where`, sharpened by `amount`."""
        crop, (height, width) = self._crop(row), place[0].shape
        read, luma = np.zeros((height, width), np.uint8), np.empty((height, width), np.float32)
        chroma = np.zeros((2, height // 2, width // 2), np.uint8)
        sample_cubic(crop.y, place, where, read)
        sample_linear(crop.uv, place, where, chroma)
        sharpen_into(read, amount, luma)
        return SharpCrop(luma, list(chroma))

    def _match(self, box: Box, mouths: Sequence[SharpCrop], frame_cells: F32, mask: U8) -> list[ColourMatch]:
        """Return the colour match of each mouth to the frame, given the box's half-size mask."""
        rim = np.zeros((len(mouths), 1, GRID, GRID), np.float32)
        for means in rim[:, 0, *box.cells]:
            average_cells(_RIM.take(mask), self.cell / 2, means)
        own = np.stack([self._cells(box, (mouth.y, *mouth.uv)) for mouth in mouths])
        gain, offset = match_colour(np, frame_cells[None], own, rim, blur_matrices())
        return list(map(ColourMatch, padded_cells(gain[:, 0]), padded_cells(offset)))

    def _recolour(self, box: Box, crop: SharpCrop, colour: ColourMatch) -> Mouth:
        """Apply a colour match; change the luma of `crop` in place."""
        luma, chroma = box.pixels(self.cell), box.pixels(self.cell / 2)
        multiply_luma(crop.y, colour.gain, self.cell, luma[1].start, luma[0].start)
        mouth = Mouth(crop.y, [np.empty(plane.shape, np.float32) for plane in crop.uv])
        for plane, offset, out in zip(crop.uv, colour.offset, mouth.uv, strict=True):
            offset_chroma(plane, offset, self.cell / 2, chroma[1].start, chroma[0].start, out)
        return mouth

    def _show_interior(self, box: Box, mouth: Mouth, colour: ColourMatch, lips: Lips, drawn: DrawnInterior) -> None:
        """Blend the drawn interior into `mouth` in the opening."""
        step = 2 * self.cell  # whole pairs of cells, like every box
        rows, columns = (
            np.flatnonzero(lips.opening.any(axis)) + part.start for axis, part in zip((1, 0), lips.near, strict=True)
        )
        inside = Box(
            box.left + columns[0] // step * 2,
            box.top + rows[0] // step * 2,
            box.left + (columns[-1] // step + 1) * 2,
            box.top + (rows[-1] // step + 1) * 2,
        )
        luma, chroma = within(inside, box, self.cell), within(inside, box, self.cell / 2)
        whole = np.zeros(mouth.y.shape, np.float32)
        whole[lips.near] = lips.opening * self.chunk.interior[self.face]
        weight = whole[luma]
        seen = Mouth(mouth.y[luma], [plane[chroma] for plane in mouth.uv])
        mixed = mix(seen, self._interior(inside, colour, drawn), weight)
        mouth.y[luma] = mixed.y
        for plane, wanted in zip(mouth.uv, mixed.uv, strict=True):
            plane[chroma] = wanted

    def _interior(self, box: Box, colour: ColourMatch, drawn: DrawnInterior) -> Mouth:
        """Return the drawn interior in the box, with the exemplar's own teeth if it has any."""
        chunk, unit = self.chunk, self.chunk.eye_distance[self.face : self.face + 1]
        coords, planes = drawn.within(box)
        sigma = max(float(unit[0]) * BLUR, MIN_BLUR)
        luma, *chroma = (cv2.GaussianBlur(plane, (0, 0), sigma) for plane in planes)
        interior = Mouth(luma, [halve(plane) for plane in chroma])
        if self.own_teeth > 0:
            grid_x, grid_y = (axis[0] for axis in grid(box.pixels(self.cell)))
            place = [skull[0] + skull[1] * grid_x + skull[2] * grid_y for skull in self.skull.T]
            seen = lip_coords(np, self.own_axes, place[0][None], place[1][None])
            bite = chunk.bite[self.face : self.face + 1, None, None]
            drop = (coords.lower - coords.y) * self.enlargement - (seen.lower - seen.y)
            shift, inside = behind_lip(seen, OWN_SHRINK, bite, drop)
            across = self.own_axes.along[0] * np.array([1, -1], np.float32)
            place = [axis + turn * shift[0] for axis, turn in zip(place, across[::-1], strict=True)]
            own = self._read(int(chunk.exemplar[self.face]), place, self.sharpening[0], _EVERYWHERE)
            teeth = self._recolour(box, own, colour)
            teeth.y[:] *= lip_shadow(coords, unit)[0]
            interior = mix(interior, teeth, self.own_teeth * inside[0] * parting(coords, unit)[0])
        return interior
