"""Moves the eyes of a portrait: the irises follow the gaze, and the upper lid moves down over a closing eye.

The coordinate frame of an eye has its x axis through the corners. Lids move vertically: the crease above the eye stays
in place, the skin between it and the lashes stretches down and covers the eye, and the lower lid rises. Irises move
between the lids, which stay in place, and the white of the eye stretches.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.geometry.arrays import sample_plane, smooth_step
from models.geometry.head_frame import EYES, LID_CREASES

# Mesh ids of each eye from its image-left to its image-right corner: below the brow, crease, upper lid edge, lower lid
# edge.
_EYES: Final = (
    ((33, 225, 224, 223, 222, 221, 133), LID_CREASES[0], *EYES[0]),
    ((362, 441, 442, 443, 444, 445, 263), LID_CREASES[1], *EYES[1]),
)
_STEPS: Final = (1, 2, 2)  # luma pixels per pixel of Y, U and V
_MIN_OPENING: Final = 0.12  # of the eye's width: less is an eye that is already closed
_MIN_WIDTH: Final = 0.12  # eye distances: less is an eye turned away
_LOWER_RISE: Final = 0.25  # of the opening, so that the lashes of a closed eye lie on a flat line
_ABOVE_CREASE: Final = 0.3  # of the way from the crease to the brow: where the skin that moves begins
_LOWER_REACH: Final = 0.16  # eye distances below the lower lid edge that rise with it
_OVERLAP: Final = 0.012  # eye distances that the lashes of a closed eye overlap the lower lid edge
_LOWER_LINE: Final = 0.016  # eye distances from the mesh's lower lid to the end of the visible white of the eye
_LASHES: Final = 0.045  # eye distances above the edge that keep their shape
_LASH_PART: Final = 0.5  # upper bound as a share of the lid, for low brows
_MIN_LID: Final = 0.06  # eye distances between the end of the skin that moves and the edge
_ABOVE_LASHES: Final = 0.2  # of the skin's height
_FULL_DROP: Final = 0.06  # eye distances: a lid lowered this far is fully smoothed
_SKIN_BLUR: Final = 0.035  # eye distances along the lid
# The lid unfolds from the strip above the lashes and has its colour, make-up included. The figures were chosen on 16
# real blinks (docs/experiments.md).
_STRIP: Final = np.linspace(0.0, 0.7, 7)  # places of the strip between the top of the skin (0) and the lashes (1)
_BRIGHT: Final = 70  # percentile of its luma; darker are lashes and the crease
_TO_LIGHT: Final = 0.7  # of the way from the shade of the brow to the brightness of the skin below the eye
_MAX_LIGHT: Final = 1.08  # of that brightness: excludes reflections in glasses
_MAX_GAIN: Final = 1.6  # by which brighter skin is more saturated
_TONE_SHARE: Final = 0.7  # by which it replaces the stretched skin, fully from this place on: above are crease and rims
_FULL_TONE: Final = 0.8
_BULGE, _LASH_SHADE = 0.12, 0.12  # shares by which the middle of the lid is brighter, and its edge darker
_UNDER: Final = 0.07  # eye distances from the lower lid to the skin below the eye
_TONE_SMOOTHING: Final = 9.0  # columns
_MAX_GLINT: Final = 8.0  # levels by which lashes may be brighter than the lid: excludes highlights of wet rims
_MAX_GRAIN: Final = 6.0  # levels: excludes the rims of glasses
_FEATHER: Final = 0.010  # eye distances over which the edge of a lid fades
_SOFT_LASHES: Final = 3.0  # multiple of _FEATHER over which the lid skin blends into lashes
_WHITE: Final = 0.28  # of the eye's width: its ends, which stretch or shrink when the iris moves
# Lids follow the gaze up and down: shares of the shift of the iris by which the upper and the lower one move.
_UPPER_FOLLOWS, _LOWER_FOLLOWS = 0.75, 0.3
_SQUINT: Final = 0.018  # eye distances by which a full smile raises the lower lid
_RAISE: Final = 0.1  # eye distances by which the upper lid would rise at a `closing` of -1
_NUM_COLUMNS: Final = 65
_SMOOTHING: Final = 2.5  # columns
# Candidate positions of the lashes between the mesh's lid edge (0) and crease (1).
_LASH_SHARES: Final = np.linspace(-0.35, 1.0, 28)
_LASH_USUAL, _LASH_SPREAD = 0.30, 0.35


class EyeState(NamedTuple):
    """What both eyes of a portrait do."""

    closing: float = 0.0  # how far the lids are closed, 0 to 1; below 0, the upper ones are raised
    right: float = 0.0  # shift of the irises to the right, in eye distances
    down: float = 0.0  # shift of the irises down, in eye distances; the lids follow it
    smile: float = 0.0  # how far the portrait smiles, -1 to 1; above 0 it raises the lower lids


class _Curves(NamedTuple):
    """Lines of one eye at its columns, in pixels below the line through the corners; (C,) each."""

    columns: NDArray[np.float64]
    top: NDArray[np.float64]  # where the skin that moves begins
    lashes: NDArray[np.float64]  # where the skin ends and the lashes begin
    edge: NDArray[np.float64]  # where lid and lashes end and the eye begins
    lower: NDArray[np.float64]


class _Pixels(NamedTuple):
    """The pixels of one plane around one eye: (h, w) float32, luma pixels in the eye's own axes."""

    along: NDArray[np.float32]
    down: NDArray[np.float32]
    top: NDArray[np.float32]  # the lines at each pixel's position along the eye
    lashes: NDArray[np.float32]
    edge: NDArray[np.float32]
    lower: NDArray[np.float32]
    places: NDArray[np.float32]  # (h, w, 2) x and y of each pixel in the plane
    iris: NDArray[np.float32]  # (h, w, 2) share of a shift of the iris along and down by which a pixel moves
    squint: NDArray[np.float32]  # (h, w) share of the rise of the lower lid by which a pixel moves
    widen: NDArray[np.float32]  # (h, w) the same of the upper lid
    tones: NDArray[np.float32]  # (3, h, w) Y, U and V of the unfolded lid


class _Eye:
    """One eye."""

    def __init__(self, still: YuvFrame, points: NDArray[np.float64], ids: tuple[tuple[int, ...], ...], unit: float):
        self._unit = unit
        self._corner = points[ids[0][0]]
        across = points[ids[0][-1]] - self._corner
        self._width = max(float(np.linalg.norm(across)), 1.0)
        cosine, sine = across / self._width
        self._axes = np.array([[cosine, sine], [-sine, cosine]])  # rows: along, down
        columns = np.linspace(0, self._width, _NUM_COLUMNS)
        top, crease, upper, lower = (self._curve(points[list(line)], columns) for line in ids)
        self._opening = float((lower - upper).max()) / self._width
        edge = upper + self._lash_share(still.y, columns, upper, crease) * (crease - upper)
        top = np.minimum(crease + _ABOVE_CREASE * (top - crease), edge - _MIN_LID * unit)
        lashes = edge - np.minimum(_LASHES * unit, _LASH_PART * (edge - top))
        below = _LOWER_LINE * unit * np.sin(np.pi * columns / self._width)  # zero at the corners
        self._curves = _Curves(columns, top, lashes, edge, np.maximum(lower + below, edge))
        self._tones = self._lid_tones(still)
        height, width = still.y.shape
        self.box = self._box(width, height)
        self._pixels = {step: self._pixels_of(step) for step in (1, 2)}

    @property
    def can_close(self) -> bool:
        """False if the eye is closed, turned away or outside the image."""
        x0, y0, x1, y1 = self.box
        return x1 > x0 and y1 > y0 and self._width > _MIN_WIDTH * self._unit and self._opening > _MIN_OPENING

    def draw(self, still: YuvFrame, soft: YuvFrame, target: YuvFrame, state: EyeState) -> None:
        """Draw this eye into `target`."""
        for number, (source, skin, plane, step) in enumerate(zip(still, soft, target, _STEPS, strict=True)):
            x0, y0, x1, y1 = (side // step for side in self.box)
            moves = any(state[1:]) or state.closing < 0
            eye = self._move_iris(source, step, state) if moves else source[y0:y1, x0:x1]
            plane[y0:y1, x0:x1] = self._draw_lids(source, skin, eye, number, state) if state.closing > 0 else eye

    def _move_iris(self, plane: NDArray[np.uint8], step: int, state: EyeState) -> NDArray[np.uint8]:
        pixels, unit = self._pixels[step], self._unit / step
        moved = pixels.iris * np.array([state.right * unit, state.down * unit], np.float32)
        moved[..., 1] -= np.float32(max(state.smile, 0) * _SQUINT * unit) * pixels.squint
        moved[..., 1] += np.float32(min(state.closing, 0) * _RAISE * unit) * pixels.widen
        moved = moved @ self._axes.astype(np.float32)
        # x and y are in one map; OpenCV's type stubs do not allow the second one to be None.
        shown = cv2.remap(  # type: ignore[call-overload]
            plane, pixels.places - moved, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(shown, np.uint8)

    def _draw_lids(
        self,
        plane: NDArray[np.uint8],
        soft: NDArray[np.uint8],
        looking: NDArray[np.uint8],
        number: int,
        state: EyeState,
    ) -> NDArray[np.uint8]:
        """Return the eye of the plane of a number (Y, U, V) with its lids over the open eye `looking`."""
        step, is_luma = _STEPS[number], number == 0
        pixels, unit, closing = self._pixels[step], self._unit, state.closing
        _, down, top, lashes, edge, lower, *_ = pixels
        opening = lower - edge
        rise = _LOWER_RISE * closing * opening
        lower = lower - rise
        overlap = _OVERLAP * unit * (opening / (0.03 * unit)).clip(0, 1)
        drop = closing * (lower + overlap - edge).clip(0)
        lowered = _UPPER_FOLLOWS * max(state.down, 0) * unit  # as `_move_iris` moves the lid edge
        drop += (1 - closing) * lowered * opening / max(float(opening.max()), 1.0)
        # A point at fraction v of the skin moves by drop * v^2: it stretches most just above the lashes, which keep
        # their shape.
        height, below = lashes - top, (down - top).clip(0)
        share = (2 * below / (height + np.sqrt(height**2 + 4 * drop * below))).clip(0, 1)
        strip = (down - drop).clip(lashes, edge)
        # Stretched skin is smooth and sampled from farther up: otherwise the tips of lashes in it would be stretched.
        pull = (drop / (_FULL_DROP * unit)).clip(0, 1)
        skin = np.where(down < top, down, top + share * height * (1 - _ABOVE_LASHES * pull * share))
        stretched = (pull * 2 * share).clip(0, 1)
        lid = self._take(plane, pixels, skin, step)
        # What was folded has the tone of the strip, and the grain of the skin below the eye, mirrored at the lashes.
        under = pixels.lower + _UNDER * unit
        smooth = self._take(soft, pixels, skin, step)
        tone = pixels.tones[number]
        if is_luma:
            middle = np.sin(np.pi * share) * np.sin(np.pi * (pixels.along / self._width).clip(0, 1))
            tone = tone * (1 + _BULGE * (middle - 0.3) - _LASH_SHADE * share**6)
        smooth += _TONE_SHARE * smooth_step(share / _FULL_TONE) * (tone - smooth)
        mirrored = 2 * under - down
        grain = self._take(plane, pixels, mirrored, step) - self._take(soft, pixels, mirrored, step)
        lid += stretched * (smooth + grain.clip(-_MAX_GRAIN, _MAX_GRAIN) - lid)
        feather = max(_FEATHER * unit, step)
        fringe = self._take(plane, pixels, strip, step)
        if is_luma:
            fringe -= pull * (fringe - tone - _MAX_GLINT).clip(0)
        turn = np.minimum(_SOFT_LASHES * feather, drop).clip(1e-3)
        lid = fringe + ((lashes + drop - down) / turn).clip(0, 1) * (lid - fringe)
        cheek = down + rise * (1 - (down - lower) / (_LOWER_REACH * unit)).clip(0, 1) ** 2
        result = looking.astype(np.float32)
        for cover, distance in ((self._take(plane, pixels, cheek, step), down - lower), (lid, edge + drop - down)):
            result += (distance / feather + 0.5).clip(0, 1) * (cover - result)
        return np.rint(result).clip(0, 255).astype(np.uint8)

    def _take(
        self, plane: NDArray[np.uint8], pixels: _Pixels, down: NDArray[np.float32], step: int
    ) -> NDArray[np.float32]:
        places = self._corner + np.stack([pixels.along, down], -1) @ self._axes
        return sample_plane(plane, (places + 0.5) / step - 0.5, cv2.INTER_CUBIC)

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the even left, top, right and bottom of the pixels that may change, clipped to the image."""
        curves = self._curves
        low, high = curves.top.min() - 0.02 * self._unit, curves.lower.max() + _LOWER_REACH * self._unit
        frame = np.array([[a, d] for a in (0.0, self._width) for d in (low, high)]) @ self._axes + self._corner
        limits = [width, height]
        x0, y0 = (int(v) for v in np.clip(np.floor(frame.min(0)), 0, limits).astype(int) // 2 * 2)
        x1, y1 = (int(v) for v in np.clip(np.ceil(frame.max(0)), 0, limits).astype(int) // 2 * 2)
        return x0, y0, max(x0, x1), max(y0, y1)

    def _pixels_of(self, step: int) -> _Pixels:
        x0, y0, x1, y1 = (side // step for side in self.box)
        grid = np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), -1)
        local = ((grid + 0.5) * step - 0.5 - self._corner) @ self._axes.T  # (h, w, 2) luma pixels
        curves = self._curves
        lines = [np.interp(local[..., 0], curves.columns, line) for line in curves[1:]]
        tones = [np.interp(local[..., 0], curves.columns, tone) for tone in self._tones]
        arrays = local[..., 0], local[..., 1], *lines, grid, *self._shares(local, lines, step), tones
        return _Pixels(*(np.asarray(v, np.float32) for v in arrays))

    def _shares(
        self, local: NDArray[np.float64], lines: list[NDArray[np.float64]], step: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the (h, w, 2), (h, w) and (h, w) shares by which pixels move with iris and lids, see `_Pixels`."""
        along, down = np.moveaxis(local, -1, 0)
        top, _, edge, lower = lines
        place = along / self._width
        ends = smooth_step(place / _WHITE) * smooth_step((1 - place) / _WHITE)
        rim = max(_FEATHER * self._unit, step)
        across = smooth_step(np.minimum(down - edge, lower - down).clip(0) / rim)
        part = ((down - edge) / np.maximum(lower - edge, 1e-3)).clip(0, 1)  # from the upper to the lower lid
        above = ((down - top) / np.maximum(edge - top, 1e-3)).clip(0, 1)
        below = (1 - (down - lower) / (_LOWER_REACH * self._unit)).clip(0, 1) ** 2
        middle = 1 - (_UPPER_FOLLOWS + _LOWER_FOLLOWS) / 2
        follow = _UPPER_FOLLOWS + part * (_LOWER_FOLLOWS - _UPPER_FOLLOWS) + 4 * middle * part * (1 - part)
        iris = np.stack([across, follow * above * below], -1)
        return ends[..., None] * iris, ends * part**2 * below, ends * (1 - part) ** 2 * above

    def _curve(self, line: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
        along, down = ((line - self._corner) @ self._axes.T).T
        order = np.argsort(along)
        heights = np.interp(columns, along[order], down[order])
        reach = int(3 * _SMOOTHING)
        kernel = np.exp(-((np.arange(-reach, reach + 1) / _SMOOTHING) ** 2) / 2)
        # Odd reflection at the ends keeps the corners in place.
        padded = np.pad(heights, reach, mode="reflect", reflect_type="odd")
        return np.convolve(padded, kernel / kernel.sum(), "valid")

    def _lid_tones(self, still: YuvFrame) -> list[NDArray[np.float64]]:
        """Return (C,) Y, U and V of the lid at each column of the curves."""
        columns, top, lashes, _, lower = self._curves

        def taken(down: NDArray[np.float64], number: int) -> NDArray[np.float64]:
            step = _STEPS[number]
            places = self._corner + np.stack([np.broadcast_to(columns, down.shape), down], -1) @ self._axes
            return sample_plane(still[number], (places + 0.5) / step - 0.5, cv2.INTER_CUBIC).astype(np.float64)

        strip = [taken(top + _STRIP[:, None] * (lashes - top), number) for number in range(3)]
        bright = np.percentile(strip[0], _BRIGHT, axis=0)
        is_skin = strip[0] >= np.median(strip[0], axis=0)
        below = taken((lower + _UNDER * self._unit)[None], 0)[0]
        shade, *colours = (np.average(plane, axis=0, weights=is_skin) for plane in strip)
        light = np.maximum(bright, bright + _TO_LIGHT * (below - bright)).clip(max=_MAX_LIGHT * below)
        gain = (light / shade.clip(1)).clip(max=_MAX_GAIN)  # the chroma of a surface is proportional to its luma
        brighter = (128 + gain * (colour - 128) for colour in colours)
        return [_smooth(tone, len(columns)) for tone in (light, *brighter)]

    def _lash_share(
        self,
        luma: NDArray[np.uint8],
        columns: NDArray[np.float64],
        upper: NDArray[np.float64],
        crease: NDArray[np.float64],
    ) -> float:
        """Return where the lashes end, as a fraction of the way from the mesh's lid edge to the crease."""
        inside = slice(_NUM_COLUMNS // 6, -(_NUM_COLUMNS // 6))
        down = upper + _LASH_SHARES[:, None] * (crease - upper)  # (S, C)
        along = np.broadcast_to(columns, down.shape)
        places = self._corner + np.stack([along, down], -1) @ self._axes
        light = sample_plane(luma, places, cv2.INTER_CUBIC)[:, inside].mean(1)
        likely = np.exp(-(((_LASH_SHARES - _LASH_USUAL) / _LASH_SPREAD) ** 2) / 2)
        dark = (light.max() - light) * likely
        darkest = float(_LASH_SHARES[dark.argmax()])
        gap = float(np.abs(crease - upper)[inside].mean())
        return darkest - 0.012 * self._unit / max(gap, 1e-6)  # the lower edge of the lash line


class Eyelids:
    """The eyes of a portrait that can be closed.

    Args:
        still: The portrait.
        points: (468, 2 or 3) landmarks in pixels.
        unit: Pixels per eye distance.
    """

    def __init__(self, still: YuvFrame, points: NDArray[np.floating], unit: float) -> None:
        flat = np.asarray(points[:, :2], np.float64)
        self._still = still
        self._soft = YuvFrame(
            *(_blur(plane, _SKIN_BLUR * unit / step) for plane, step in zip(still, _STEPS, strict=True))
        )
        self._eyes = [eye for ids in _EYES if (eye := _Eye(still, flat, ids, unit)).can_close]
        self._drawn = EyeState()

    def draw(self, target: YuvFrame, state: EyeState) -> None:
        """Draw the eyes into `target`, the same copy of the portrait in every call."""
        if state != self._drawn:
            for eye in self._eyes:
                eye.draw(self._still, self._soft, target, state)
        self._drawn = state


def _blur(plane: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigmaX=sigma, sigmaY=sigma / 4), np.uint8)


def _smooth(tone: NDArray[np.float64], num: int) -> NDArray[np.float64]:
    """Return the (C,) tone without lashes, of the inner columns only: lids are hidden at the corners of an eye."""
    inner = np.arange(num // 5, num - num // 5)
    steady = np.interp(np.arange(num), inner, tone[inner])
    ends = np.percentile(steady, [30, 70])
    return np.asarray(cv2.GaussianBlur(steady.clip(*ends)[None], (0, 0), _TONE_SMOOTHING)[0], np.float64)
