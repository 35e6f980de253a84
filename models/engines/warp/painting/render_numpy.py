"""The renderer in OpenCV and NumPy, frame by frame: the same algorithm as `render_torch`.

It only processes the boxes in which the masks are above zero, and the opening only near the lips, so that the data of a
frame stays in the CPU cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np

from models.engines.patches import FacePatches
from models.engines.warp.chunk import FaceChunk
from models.engines.warp.painting import fields
from models.engines.warp.painting.colour_match import blur_matrices, match_colour, sharpening
from models.engines.warp.painting.interior import (
    BLUR,
    MIN_BLUR,
    OWN_SHRINK,
    Colours,
    draw_interior,
    lip_shadow,
    parting,
)
from models.engines.warp.painting.lip_coordinates import (
    LipAxes,
    behind_lip,
    darken,
    lip_coords,
    lower_layer_weight,
    place_in,
    smooth_cut,
)
from models.engines.warp.painting.lips import Lips, fade, find_lips
from models.engines.warp.painting.masks import border_window
from models.engines.warp.painting.numpy_planes import (
    EVERYWHERE,
    F32,
    PAD,
    U8,
    Box,
    Crop,
    Mouth,
    cubic,
    double,
    grid,
    halve,
    halve_positions,
    lay_over,
    linear,
    mix,
    padded_cells,
    recolour,
    rounded,
    sharpen,
    spans,
    within,
)
from models.geometry import thin_plate
from models.geometry.thin_plate import GRID

_AROUND: Final = np.ones((3, 3), np.uint8)


def render_numpy(chunk: FaceChunk) -> FacePatches:
    """Renders one patch per face of `chunk`."""
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

    @classmethod
    def of(cls, chunk: FaceChunk) -> _Faces:
        problem, positions = fields.pose_problem(chunk), fields.grid_positions(chunk.region_size)
        coords = lip_coords(np, problem.axes, positions[None, None], positions[None, :, None])
        amounts = [sharpening(crops, chunk.base) for crops in (chunk.exemplar, problem.fade)]
        return cls(chunk, problem, lower_layer_weight(coords), np.stack(amounts))


class _Face:
    """One face: its fields, masks and boxes; `textures` are its (2, M, M) mouth and jaw mask."""

    def __init__(self, faces: _Faces, face: int, textures: U8) -> None:
        self.chunk, self.face = faces.chunk, face
        chunk, problem = faces.chunk, faces.problem
        # Face by face, the linear system stays in the cache: half the time of solving all at once.
        points, values = problem.points[face : face + 1], problem.values[face : face + 1]
        weights = thin_plate.fit(np, points, values, fields.LAYERS)[0].astype(np.float32)
        self.size = chunk.region_size
        self.cell = self.size // GRID
        self.axes = LipAxes(*(part[face : face + 1] for part in problem.axes))
        self.own_axes = LipAxes(*(part[face : face + 1] for part in problem.own_axes))
        self.skull = problem.skull[face]
        self.fade = int(problem.fade[face])
        self.fade_weight = float(chunk.fade_weight[face])
        self.own_teeth = float(problem.own_teeth[face])
        self.sharpening = faces.sharpening[:, face].tolist()
        used = fields.NUM_CHANNELS if self.fade_weight > 0 else fields.FADE.start
        positions = fields.grid_positions(self.size)
        axis = (positions / self.size - 0.5).astype(np.float32)
        by_layer = weights.reshape(-1, 2, fields.NUM_CHANNELS)[..., :used].reshape(-1, 2 * used)
        layers = thin_plate.evaluate_grid(points[0], by_layer, axis).reshape(2, used, GRID, GRID)
        smooth = slice(0, 4)  # FRAME and TEXTURE; around the mouth the exemplar covers the transition
        merged = layers[0, smooth] + faces.share[face] * (layers[1, smooth] - layers[0, smooth])
        place = merged[fields.TEXTURE]
        self.mouth = self._mask(textures[0], [cv2.resize(axis, (self.size // 2, self.size // 2)) for axis in place])
        jaw = self._mask(textures[1], list(place))
        # Moving cells and their neighbours, as fields are enlarged bilinearly.
        self.moves = np.asarray(cv2.dilate(jaw, _AROUND), np.uint8)
        self.frame = self._places(merged[fields.FRAME] * (jaw * np.float32(1 / 255)))
        self.upper, self.lower = self._places(layers)

    def render(self, out_y: U8, out_uv: U8) -> None:
        """Renders the face over the copy of the base crop in `out_y`, (R, R), and `out_uv`, (2, R / 2, R / 2)."""
        if not self.moves.any():
            return
        self._move_frame(out_y, out_uv)
        if not self.mouth.any():
            return
        box = self._box(self.mouth, self.cell)
        luma, chroma = box.pixels(self.cell), box.pixels(self.cell / 2)
        below = self._cells(box, out_y[luma], [plane[chroma] for plane in out_uv])
        self._lay(box, rounded(self._mouth(box, below, self.mouth[chroma])), self.mouth, out_y, out_uv)

    def _lay(self, box: Box, wanted: Crop, mask: U8, out_y: U8, out_uv: U8) -> None:
        """Blends `wanted` into the box by a half-size mask."""
        weight = mask[box.pixels(self.cell / 2)] * np.float32(1 / 255)
        lay_over([out_y[box.pixels(self.cell)]], [wanted.y], double(weight))
        lay_over([plane[box.pixels(self.cell / 2)] for plane in out_uv], wanted.uv, weight)

    @staticmethod
    def _mask(texture: U8, place: list[F32]) -> U8:
        """Samples a mask texture at positions x, y; zero at the border of the region."""
        read, window = linear(texture, place, outside=0), border_window(len(place[0]))
        return np.asarray(cv2.multiply(read, window, scale=1 / 255, dtype=cv2.CV_8U), np.uint8)

    @staticmethod
    def _box(mask: U8, step: int) -> Box:
        """Returns the bounding box of a mask in pairs of cells, each pair `step` mask pixels wide."""
        left, top, width, height = cv2.boundingRect(mask)
        right, bottom = -(-(left + width) // step), -(-(top + height) // step)
        return Box(left // step * 2, top // step * 2, right * 2, bottom * 2)

    def _places(self, shifts: F32) -> F32:
        """Converts (..., 2n, 32, 32) offsets x, y, ... from cell centres to padded (..., 2n, 36, 36) positions."""
        padded = padded_cells(shifts)
        position = (np.arange(-PAD, GRID + PAD, dtype=np.float32) + 0.5) * np.float32(self.size / GRID) - 0.5
        padded[..., 0::2, :, :] += position
        padded[..., 1::2, :, :] += position[:, None]
        return padded

    def _enlarge(self, padded: F32, box: Box, cell: float) -> F32:
        """Enlarges a (36, 36) plane bilinearly to the pixels of a box with cells of `cell` pixels."""
        block = padded[box.top : box.bottom + 2 * PAD, box.left : box.right + 2 * PAD]
        rim = round(PAD * cell)
        return np.asarray(cv2.resize(block, None, fx=cell, fy=cell), np.float32)[rim:-rim, rim:-rim]

    def _crop(self, row: int) -> Crop:
        return Crop(self.chunk.crops_y[row], list(self.chunk.crops_uv[row]))

    def _move_frame(self, out_y: U8, out_uv: U8) -> None:
        """Warps chin and cheeks with the mouth, fading out towards the rim of the jaw mask.

        Blending them with the unwarped frame instead would show collars and outlines twice.
        """
        box, crop = self._box(self.moves, 2), self._crop(int(self.chunk.base[self.face]))
        place = [self._enlarge(axis, box, self.cell) for axis in self.frame]
        pairs = self.moves.reshape(GRID // 2, 2, GRID // 2, 2).max((1, 3))[box.pixels(0.5)]
        where = spans(pairs.repeat(self.cell, 0).repeat(self.cell, 1), self.cell)
        warped, target = cubic(crop.y, place, where), out_y[box.pixels(self.cell)]
        for part in where:
            target[part] = warped[part]
        half = halve_positions(place)
        for plane, source in zip(out_uv, crop.uv, strict=True):
            plane[box.pixels(self.cell / 2)] = linear(source, half)

    def _cells(self, box: Box, luma: U8 | F32, chroma: Sequence[U8] | Sequence[F32]) -> F32:
        """Returns (3, 32, 32) cell means in the box, 0 elsewhere."""
        cells = np.zeros((3, GRID, GRID), np.float32)
        for k, plane in enumerate((luma, *chroma)):
            cells[k, box.top : box.bottom, box.left : box.right] = self._mean(plane, box)
        return cells

    def _mean(self, plane: U8 | F32, box: Box) -> F32:
        shape = (box.right - box.left, box.bottom - box.top)
        return np.asarray(cv2.resize(plane, shape, interpolation=cv2.INTER_AREA), np.float32)

    def _mouth(self, box: Box, frame_cells: F32, mask: U8) -> Mouth:
        """Renders the content of the mouth box, given the `_cells` of the warped frame and the box's half-size mask."""
        chunk, face = self.chunk, self.face
        lips = find_lips(self.axes, box.pixels(self.cell), chunk.eye_distance[face : face + 1], self._hard)
        rim = np.zeros((1, GRID, GRID), np.float32)
        weight = mask * np.float32(1 / 255)
        rim[0, box.top : box.bottom, box.left : box.right] = self._mean(4 * weight * (1 - weight), box)
        where = spans(mask, self.cell)
        amount, fade_amount = self.sharpening
        mouth = self._read(int(chunk.exemplar[face]), self._place(box, fields.EXEMPLAR, lips), amount, where)
        colour = self._match(box, mouth, frame_cells, rim)
        mouth = recolour(mouth, colour)
        if self.fade_weight > 0:
            other = self._read(self.fade, self._place(box, fields.FADE, lips), fade_amount, where)
            other = recolour(other, self._match(box, other, frame_cells, rim))
            mouth = fade(mouth, other, self.fade_weight, lips)
        dark = lips.dark * (1 - chunk.interior[face])  # a drawn interior has its own dark; twice would outline the lips
        mouth.y[lips.near] = darken(mouth.y[lips.near], dark, chunk.skin[face, 0])
        self._smooth_cut(mouth.y, lips)
        if chunk.interior[face] > 0 and lips.opening.any():
            self._draw_interior(box, mouth, colour, lips)
        return mouth

    @property
    def _hard(self) -> float:
        """How abruptly the upper layer changes to the lower one, see `lower_layer_weight`."""
        return float(self.chunk.interior[self.face] * self.chunk.own_teeth[self.face])

    def _smooth_cut(self, luma: F32, lips: Lips) -> None:
        if self._hard > 0 and lips.opening.size:
            rows, columns = lips.near
            padded = cv2.copyMakeBorder(luma, 1, 1, 0, 0, cv2.BORDER_REPLICATE)[:, columns]
            above, below = padded[:-2][rows], padded[2:][rows]
            luma[lips.near] = smooth_cut(luma[lips.near], above, below, lips.coords, self._hard)[0]

    def _place(self, box: Box, channels: slice, lips: Lips) -> list[F32]:
        """Returns the source positions of the box, blended between the layers by the weight of the lower one."""
        rows, share = lips.mixed, lips.share[lips.mixed]
        above = box._replace(bottom=box.top - (-rows.stop // self.cell))
        below = box._replace(top=box.top + rows.start // self.cell)
        skipped = (below.top - box.top) * self.cell
        place = [np.empty(lips.share.shape, np.float32) for _ in range(2)]
        for k, (upper, lower) in enumerate(zip(self.upper[channels], self.lower[channels], strict=True)):
            over, under = self._enlarge(upper, above, self.cell), self._enlarge(lower, below, self.cell)
            lips.carry(over, under, skipped, k)
            place[k][: rows.start], place[k][rows.stop :] = over[: rows.start], under[rows.stop - skipped :]
            mixed = place[k][rows]
            np.subtract(under[rows.start - skipped : rows.stop - skipped], over[rows], out=mixed)
            mixed *= share
            mixed += over[rows]
        return place

    def _read(self, row: int, place: list[F32], amount: float, where: Sequence[tuple[slice, slice]]) -> Mouth:
        """Samples a crop at the luma positions `place` in the areas `where`, sharpened by `amount`."""
        crop, half = self._crop(row), halve_positions(place)
        luma = sharpen(cubic(crop.y, place, where), amount)
        return Mouth(luma, [linear(uv, half).astype(np.float32) for uv in crop.uv])

    def _match(self, box: Box, mouth: Mouth, frame_cells: F32, rim: F32) -> Mouth:
        """Returns the luma gain and chroma offsets for the pixels of the box."""
        own = self._cells(box, mouth.y, mouth.uv)
        gain, offset = match_colour(np, frame_cells[None], own[None], rim[None], blur_matrices())
        chroma = [self._enlarge(plane, box, self.cell / 2) for plane in padded_cells(offset[0])]
        return Mouth(self._enlarge(padded_cells(gain[0, 0]), box, self.cell), chroma)

    def _draw_interior(self, box: Box, mouth: Mouth, colour: Mouth, lips: Lips) -> None:
        """Blends the drawn interior into `mouth` in the opening."""
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
        weight = np.zeros(mouth.y.shape, np.float32)
        weight[lips.near] = lips.opening * self.chunk.interior[self.face]
        luma, chroma = within(inside, box, self.cell), within(inside, box, self.cell / 2)
        seen, match = (Mouth(part.y[luma], [plane[chroma] for plane in part.uv]) for part in (mouth, colour))
        drawn = mix(seen, self._interior(inside, match), weight[luma])
        mouth.y[luma] = drawn.y
        for plane, wanted in zip(mouth.uv, drawn.uv, strict=True):
            plane[chroma] = wanted

    def _interior(self, box: Box, colour: Mouth) -> Mouth:
        """Returns the drawn interior, with the exemplar's own teeth if it has any."""
        chunk, one = self.chunk, slice(self.face, self.face + 1)
        axes, unit = self.axes, chunk.eye_distance[one]
        coords = lip_coords(np, axes, *grid(box.pixels(self.cell)))
        seam = place_in(axes, chunk.seam[one])
        colours = Colours(chunk.skin[one], chunk.lip[one], chunk.teeth[one])
        sigma = max(float(unit[0]) * BLUR, MIN_BLUR)
        luma, *chroma = (
            cv2.GaussianBlur(plane, (0, 0), sigma) for plane in draw_interior(np, coords, unit, seam, colours)[0]
        )
        interior = Mouth(luma, [halve(plane) for plane in chroma])
        if self.own_teeth > 0:
            grid_x, grid_y = (axis[0] for axis in grid(box.pixels(self.cell)))
            place = [skull[0] + skull[1] * grid_x + skull[2] * grid_y for skull in self.skull.T]
            shift, inside = behind_lip(lip_coords(np, self.own_axes, place[0][None], place[1][None]), OWN_SHRINK)
            across = self.own_axes.along[0] * np.array([1, -1], np.float32)
            place = [axis + turn * shift[0] for axis, turn in zip(place, across[::-1], strict=True)]
            own = self._read(int(chunk.exemplar[self.face]), place, self.sharpening[0], EVERYWHERE)
            own = recolour(own, colour)
            own.y[:] *= lip_shadow(coords, unit)[0]
            interior = mix(interior, own, self.own_teeth * inside[0] * parting(coords, unit)[0])
        return interior
