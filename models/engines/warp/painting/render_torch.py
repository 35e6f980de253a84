"""The renderer in PyTorch for any device, all faces of a chunk at once: the same algorithm as `render_cpu`.

A chunk is uploaded once and downloaded once; nothing in between waits for the device.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from models.engines.patches import FacePatches
from models.engines.warp.chunk import FaceChunk
from models.engines.warp.painting import fields
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
    cavity,
    darken,
    inside_alpha,
    lip_coords,
    lower_layer_weight,
    place_in,
    smooth_cut,
    to_lip,
)
from models.engines.warp.painting.masks import (
    LUMA_FLOOR,
    TEXTURE,
    blur_matrices,
    border_window,
    match_colour,
    sharpening,
)
from models.geometry import thin_plate
from models.geometry.thin_plate import GRID


class TorchRenderer:
    """Renders chunks on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._blurs = self._upload(blur_matrices())

    @torch.inference_mode()
    def render(self, chunk: FaceChunk) -> FacePatches:
        """Render one patch per face of `chunk`."""
        if not len(chunk.base):
            return FacePatches(chunk.row, chunk.origins, chunk.crops_y[chunk.base], chunk.crops_uv[chunk.base])
        y, uv = _Faces(self, chunk).render()
        return FacePatches(chunk.row, chunk.origins, y.cpu().numpy(), uv.cpu().numpy())

    def _upload(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.array(array)).to(self._device, non_blocking=True)


class _Faces:
    """N faces of one chunk on the device."""

    def __init__(self, renderer: TorchRenderer, chunk: FaceChunk) -> None:
        upload = self._upload = renderer._upload
        self.blurs = renderer._blurs
        self.chunk, self.size = chunk, chunk.region_size
        self.crops_y = upload(chunk.crops_y)[:, None].float()  # (K, 1, R, R)
        self.crops_uv = upload(chunk.crops_uv).float()  # (K, 2, R/2, R/2)
        problem = fields.pose_problem(chunk)
        self.fade, self.own_teeth, self.enlargement = problem.fade, problem.own_teeth, problem.enlargement
        self.closing, self.lower_rim = problem.closing, problem.lower_rim
        self.skull = upload(problem.skull)  # (N, 3, 2)
        self.axes = LipAxes(*(upload(part) for part in problem.axes))
        self.own_axes = LipAxes(*(upload(part) for part in problem.own_axes))
        points = upload(problem.points)
        values, ridge = upload(problem.values), upload(problem.ridge)
        weights = thin_plate.fit(torch, points, values, fields.LAYERS, ridge).float()
        flat = thin_plate.evaluate(torch, points.float(), weights, upload(fields.grid_points(self.size)))
        layers = flat.reshape(len(points), GRID, GRID, 2, fields.NUM_CHANNELS).permute(3, 0, 4, 1, 2)
        self.upper, self.lower = layers[0], layers[1]  # (N, 8, 32, 32)
        positions = upload(fields.grid_positions(self.size))
        share = lower_layer_weight(lip_coords(torch, self.axes, positions[None, None], positions[None, :, None]))
        self.merged = _mix(self.upper[:, :4], self.lower[:, :4], share[:, None])
        pixels = torch.arange(self.size, device=points.device, dtype=torch.float32)
        self.pixels = pixels
        grid = torch.meshgrid(pixels, pixels, indexing="xy")
        self.affine_grid = torch.stack([torch.ones_like(grid[0]), *grid])  # (3, R, R): 1, x, y
        self.coords = lip_coords(torch, self.axes, pixels[None, None], pixels[None, :, None])
        self.hard = upload(problem.hard)[:, None, None]
        self.share = lower_layer_weight(self.coords, self.hard)[:, None]

    def render(self) -> tuple[Tensor, Tensor]:
        """Return (N, R, R) luma and (N, 2, R / 2, R / 2) chroma, uint8."""
        chunk = self.chunk
        mouth_mask, jaw_share = self._masks()
        moved = self._enlarge(self.merged[:, fields.FRAME] * jaw_share)
        frame_y, frame_uv = self._read(chunk.base, self._positions(moved))
        mouth_y, mouth = _double(mouth_mask).round() / 255, mouth_mask / 255
        rim = self._cell_means(4 * mouth * (1 - mouth))
        cells = torch.cat([self._cell_means(frame_y), self._cell_means(frame_uv)], 1)
        shown_y, shown_uv, colour = self._exemplar(chunk.exemplar, fields.EXEMPLAR, cells, rim)
        lower_rim = self._upload(self.lower_rim)[:, None, None]
        inside = inside_alpha(self.coords, lower_rim)[:, None]
        if chunk.fade_weight.any():
            other_y, other_uv, _ = self._exemplar(self.fade, fields.FADE, cells, rim)
            weight = self._column(chunk.fade_weight) * (1 - inside)
            shown_y, shown_uv = _mix(shown_y, other_y, weight), _mix(shown_uv, other_uv, _halve(weight))
        closing = self._upload(self.closing)[:, None, None]
        dark = cavity(self.coords, self._upload(chunk.eye_distance), closing, lower_rim)[:, None]
        dark = dark * (1 - self._column(chunk.interior))  # a drawn interior has its own dark
        shown_y = darken(shown_y, dark, self._column(chunk.skin[:, 0]))
        if bool(self.hard.any()):
            padded = functional.pad(shown_y, (0, 0, 1, 1), mode="replicate")[:, 0]
            above, below = padded[:, :-2], padded[:, 2:]
            shown_y = smooth_cut(shown_y[:, 0], above, below, self.coords, self.hard)[:, None]
        if chunk.interior.any():
            drawn_y, drawn_uv = self._interior(colour)
            alpha = inside * self._column(chunk.interior)
            shown_y, shown_uv = _mix(shown_y, drawn_y, alpha), _mix(shown_uv, drawn_uv, _halve(alpha))
        out_y = _mix(frame_y, shown_y, mouth_y).round().clip(0, 255).byte()[:, 0]
        return out_y, _mix(frame_uv, shown_uv, mouth).round().clip(0, 255).byte()

    def _column(self, values: NDArray[np.float32]) -> Tensor:
        return self._upload(values)[:, None, None, None]

    def _masks(self) -> tuple[Tensor, Tensor]:
        """Return the mouth mask, (N, 1, R / 2, R / 2) integers 0 to 255, and the jaw mask of the cells, 0 to 1."""
        half = self.size // 2
        texture = self._upload(self.chunk.masks[self.chunk.mask]).float().permute(0, 3, 1, 2)
        cells = self.merged[:, fields.TEXTURE]
        place = functional.interpolate(cells, (half, half), mode="bilinear")
        return self._mask(texture[:, :1], place), self._mask(texture[:, 1:], cells) / 255

    def _mask(self, texture: Tensor, place: Tensor) -> Tensor:
        grid = ((2 * place + 1) / TEXTURE - 1).permute(0, 2, 3, 1)
        mask = functional.grid_sample(texture, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return (mask.round() * self._upload(border_window(place.shape[-1])) / 255).round()

    def _enlarge(self, field: Tensor) -> Tensor:
        return functional.interpolate(field, (self.size, self.size), mode="bilinear")

    def _cell_means(self, plane: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(plane, GRID)

    def _place(self, channels: slice, share: Tensor) -> Tensor:
        """Return (N, 2, R, R) source positions, blended between the layers by the weight `share` of the lower one."""
        layers = []
        for layer, is_lower in ((self.upper, False), (self.lower, True)):
            edge = self.affine_grid[1:] + torch.stack(to_lip(self.axes, self.coords, is_lower), 1)
            layers.append(_sample(self._enlarge(layer[:, channels]), edge, "bilinear"))
        return self._positions(_mix(layers[0], layers[1], share))

    def _positions(self, shift: Tensor) -> Tensor:
        return shift + self.affine_grid[1:]

    def _read(self, crops: NDArray[np.int32], place: Tensor) -> tuple[Tensor, Tensor]:
        """Sample N crops at (N, 2, R, R) positions, rounded to 8 bits."""
        y = _grid_sample(self.crops_y[crops], place, "bicubic")
        return y, _grid_sample(self.crops_uv[crops], place[:, :, ::2, ::2] / 2, "bilinear")

    def _show(self, crops: NDArray[np.int32], place: Tensor) -> tuple[Tensor, Tensor]:
        """Sample N crops like `_read` and sharpen them."""
        y, uv = self._read(crops, place)
        soft = functional.avg_pool2d(functional.pad(y, (1, 1, 1, 1), mode="replicate"), 3, 1)
        amount = torch.from_numpy(sharpening(crops, self.chunk.base)).to(y.device)[:, None, None, None]
        return y + amount * (y - soft), uv

    def _exemplar(
        self, crops: NDArray[np.int32], channels: slice, cells: Tensor, rim: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return mouths in the target shape and the frame's colours, and the (N, 3, R, R) colour correction."""
        y, uv = self._show(crops, self._place(channels, self.share))
        own = torch.cat([self._cell_means(y), self._cell_means(uv)], 1)
        colour = self._enlarge(torch.cat(match_colour(torch, cells, own, rim, self.blurs), 1))
        return *_apply(y, uv, colour), colour

    def _interior(self, colour: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, 1, R, R) and (N, 2, R / 2, R / 2) drawn interiors, with the exemplars' own teeth if any."""
        axes, chunk, coords = self.axes, self.chunk, self.coords
        seam = place_in(axes, self._upload(chunk.seam))
        unit = self._upload(chunk.eye_distance)
        colours = Colours(*(self._upload(colour) for colour in (chunk.skin, chunk.lip, chunk.teeth)))
        own_teeth = self._upload(self.own_teeth)
        drawn = draw_interior(torch, coords, unit, seam, colours, self._upload(chunk.rounding), own_teeth)
        drawn = _blur(drawn, np.maximum(chunk.eye_distance * BLUR, MIN_BLUR))
        y, uv = drawn[:, :1], _halve(drawn[:, 1:])
        if self.own_teeth.any():
            place = torch.einsum("nck,chw->nkhw", self.skull, self.affine_grid)
            seen = lip_coords(torch, self.own_axes, place[:, 0], place[:, 1])
            bite, enlargement = (self._upload(part)[:, None, None] for part in (chunk.bite, self.enlargement))
            drop = (coords.lower - coords.y) * enlargement - (seen.lower - seen.y)
            shift, inside = behind_lip(seen, OWN_SHRINK, bite, drop)
            across = torch.stack([-self.own_axes.along[:, 1], self.own_axes.along[:, 0]], 1)
            place = place + across[..., None, None] * shift[:, None]
            own_y, own_uv = _apply(*self._show(chunk.exemplar, place), colour)
            own_y = own_y * lip_shadow(coords, unit)[:, None]
            weight = inside[:, None] * self._column(self.own_teeth) * parting(coords, unit)[:, None]
            y, uv = _mix(y, own_y, weight), _mix(uv, own_uv, _halve(weight))
        return y, uv


def _apply(y: Tensor, uv: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
    """Apply a colour correction to planes."""
    return (y + LUMA_FLOOR) * colour[:, :1] - LUMA_FLOOR, uv + _halve(colour[:, 1:])


def _mix(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    return a + weight * (b - a)


def _halve(plane: Tensor) -> Tensor:
    return functional.avg_pool2d(plane, 2)


def _double(plane: Tensor) -> Tensor:
    return functional.interpolate(plane, scale_factor=2, mode="bilinear")


def _grid_sample(planes: Tensor, place: Tensor, mode: str) -> Tensor:
    """Sample (N, C, h, w) planes at (N, 2, h, w) pixel positions x, y, rounded and clipped to 8 bits."""
    return _sample(planes, place, mode).round().clip(0, 255)


def _sample(planes: Tensor, place: Tensor, mode: str) -> Tensor:
    """Sample (N, C, h, w) planes at (N, 2, h, w) pixel positions x, y."""
    grid = ((2 * place + 1) / planes.shape[-1] - 1).permute(0, 2, 3, 1)
    return functional.grid_sample(planes, grid, mode=mode, padding_mode="border", align_corners=False)


def _blur(pictures: Tensor, sigma: NDArray[np.floating]) -> Tensor:
    """Blur (N, C, h, w) pictures, each by its own one of (N,) sigmas in pixels."""
    radius = max(1, round(4 * float(sigma.max())))
    steps, sigma = np.arange(-radius, radius + 1), sigma[:, None].astype(np.float64)
    weights = np.exp(-(steps**2) / (2 * sigma**2)) * (np.abs(steps) <= np.rint(4 * sigma))
    weights = (weights / weights.sum(1, keepdims=True)).repeat(pictures.shape[1], 0).astype(np.float32)
    kernels = torch.from_numpy(weights).to(pictures.device, non_blocking=True)[:, None, None]  # (N * C, 1, 1, taps)
    wide = functional.pad(pictures, (radius, radius, radius, radius), mode="replicate").flatten(0, 1)
    across = functional.conv2d(wide, kernels, groups=len(kernels))
    return functional.conv2d(across, kernels.transpose(2, 3), groups=len(kernels)).reshape(pictures.shape)
