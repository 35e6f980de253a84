"""Moves the eyes of a portrait: the irises follow the gaze, and the upper lid moves down over a closing eye.

The coordinate frame of an eye has its x axis through the corners. Lids move vertically: the skin between the crease and
the lashes stretches down and covers the eye, and fades into the skin and the lash line of a closed eye, which is drawn
once. Irises move between the lids, which stay in place, and the white of the eye stretches.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lipwright.media.yuv_frame import YuvFrame
from models.geometry.arrays import remap, sample_plane, smooth_step
from models.geometry.head_frame import EYE_LEFT, EYES, LID_CREASES

# Mesh ids of each eye from its image-left to its image-right corner: below the brow, crease, upper lid edge, lower lid
# edge.
_EYES: Final = (
    ((33, 225, 224, 223, 222, 221, 133), LID_CREASES[0], *EYES[0]),
    ((362, 441, 442, 443, 444, 445, 263), LID_CREASES[1], *EYES[1]),
)
_Ids = tuple[tuple[int, ...], ...]
_Floats = NDArray[np.floating]
_STEPS: Final = (1, 2, 2)  # luma pixels per pixel of Y, U and V
_MIN_OPENING: Final = 0.12  # of the eye's width: less is an eye that is already closed
_MIN_WIDTH: Final = 0.12  # eye distances: less is an eye turned away
_ABOVE_CREASE: Final = 0.3  # of the way from the crease to the brow: where the skin that moves begins
_LOWER_REACH: Final = 0.16  # eye distances below the lower lid edge that rise with it
_LOWER_LINE: Final = 0.016  # eye distances from the mesh's lower lid to the end of the visible white of the eye
_LASHES: Final = 0.045  # eye distances above the edge that keep their shape
_LASH_PART: Final = 0.5  # upper bound as a share of the lid, for low brows
_MIN_LID: Final = 0.06  # eye distances between the end of the skin that moves and the edge
_SKIN_BLUR: Final = 0.035  # eye distances along the lid
# A closed lid has the colour of the strip above the lashes, make-up included. The figures were chosen on 16 real blinks
# (docs/experiments.md).
_STRIP: Final = np.linspace(0.0, 0.7, 7)  # places of the strip between the top of the skin (0) and the lashes (1)
_BRIGHT: Final = 70  # percentile of its luma; darker are lashes and the crease
_TO_LIGHT: Final = 0.3  # of the way from the shade of the brow to the brightness of the skin below the eye
_MAX_LIGHT: Final = 1.08  # of that brightness: excludes reflections in glasses
_MAX_GAIN: Final = 1.6  # by which brighter skin is more saturated
_BULGE: Final = 0.2  # share by which the middle of the lid is brighter than its ends
_UNDER: Final = 0.1  # eye distances from the lower lid to the skin below the eye
_TONE_SMOOTHING: Final = 9.0  # columns
_MAX_GRAIN: Final = 8.0  # levels: excludes the rims of glasses
_FULLY_CLOSED: Final = 0.7  # of the way from the brow to the mesh's crease: below, skin is that of the closed eye only
_UPPER_LIGHTS: Final = (0.85, 1.15)  # bounds of the skin below the brow as shares of the lid: excludes brows and rims
_REFLECTION: Final = 200  # least luma of reflections in glasses, which stay
_BEYOND: Final = 0.3  # of the eye's width: skin beyond its corners that closes with the eye
_SMOOTHED: Final = 0.6  # closure from which skin and lashes are those of a closed eye
# The lash line of a closed eye, as in 32 real blinks (docs/experiments.md), in eye distances.
_LINE, _LINE_OUTER = -0.006, 0.004  # its middle below the mesh's lower lid, and the same at the outer corner
_LINE_EDGE: Final = 0.012  # from its middle to the edge of the lid
_LINE_ABOVE, _LINE_BELOW = 0.020, 0.032  # standard deviations of its darkness
_LINE_ENDS: Final = (-0.15, 0.25, 0.6, 1.15)  # of the way from the outer corner to the inner one; full in the middle
_LASH_ROWS: Final = np.linspace(-0.06, 0.0, 7)[:, None]  # eye distances below the open lid's edge: where lashes are
_LASH_DARKNESS: Final = 1.12  # of closed lashes as a multiple of open ones, both as a share of the lid's luma
_LASH_CHROMA: Final = 0.5  # of that share by which their chroma is lower
_FEATHER: Final = 0.010  # eye distances over which the edge of a lid fades
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
    """Lines of one eye, in pixels below the line through the corners: (C,) at its columns or (h, w) at its pixels."""

    columns: _Floats  # pixels from the image-left corner
    top: _Floats  # where the skin that moves begins
    lashes: _Floats  # where the skin ends and the lashes begin
    edge: _Floats  # where lid and lashes end and the eye begins
    lower: _Floats
    line: _Floats  # the middle of the lash line of a closed eye
    crease: _Floats
    brow: _Floats  # where the skin begins that changes when the eye closes


class _Pixels(NamedTuple):
    """The pixels of one plane around one eye: (h, w) float32, luma pixels in the eye's own axes."""

    curves: _Curves  # at each pixel's position along the eye
    down: NDArray[np.float32]
    places: NDArray[np.float32]  # (h, w, 2) x and y of each pixel in the plane
    iris: NDArray[np.float32]  # (h, w, 2) share of a shift of the iris along and down by which a pixel moves
    squint: NDArray[np.float32]  # (h, w) share of the rise of the lower lid by which a pixel moves
    widen: NDArray[np.float32]  # (h, w) the same of the upper lid
    taper: NDArray[np.float32]  # (h, w) thickness of the lash line of a closed eye, 0 to 1
    closed_share: NDArray[np.float32]  # (h, w) share by which the skin of a closed eye replaces the still


class _Eye:
    """One eye."""

    def __init__(self, still: YuvFrame, soft: YuvFrame, points: NDArray[np.float64], ids: _Ids, unit: float) -> None:
        self._still, self._soft, self._unit = still, soft, unit
        self._is_outer_left = ids[0][0] == EYE_LEFT
        self._corner = points[ids[0][0]]
        across = points[ids[0][-1]] - self._corner
        self._width = max(float(np.linalg.norm(across)), 1.0)
        cosine, sine = across / self._width
        self._axes = np.array([[cosine, sine], [-sine, cosine]])  # rows: along, down
        columns = np.linspace(0, self._width, _NUM_COLUMNS)
        top, crease, upper, lower = (self._curve(points[list(line)], columns) for line in ids)
        self._opening = float((lower - upper).max()) / self._width
        edge = upper + self._lash_share(still.y, columns, upper, crease) * (crease - upper)
        margin = _NUM_COLUMNS // 5  # eyes are wider than in the mesh
        wide = sliding_window_view(np.pad(top, margin, mode="edge"), 2 * margin + 1).min(axis=1)
        top = np.minimum(crease + _ABOVE_CREASE * (top - crease), edge - _MIN_LID * unit)
        lashes = edge - np.minimum(_LASHES * unit, _LASH_PART * (edge - top))
        below = _LOWER_LINE * unit * np.sin(np.pi * columns / self._width)  # zero at the corners
        at_outer = 1 - smooth_step(self._outwards(columns) / 0.4)
        line = lower + (_LINE + at_outer * (_LINE_OUTER - _LINE)) * unit
        line = np.maximum(line, edge - _LINE_EDGE * unit)
        brow = np.minimum(wide, np.minimum(top, crease) - _FEATHER * unit)
        self._curves = _Curves(columns, top, lashes, edge, np.maximum(lower + below, edge), line, crease, brow)
        height, width = still.y.shape
        self.box = self._box(width, height)
        if self.can_close:
            self._pixels = {step: self._pixels_of(step) for step in (1, 2)}
            tones = self._lid_tones(still)
            self._closed = [self._closed_skin(number, tone) for number, tone in enumerate(tones)]
            self._darkness = self._lash_darkness(tones[0])

    @property
    def can_close(self) -> bool:
        """False if the eye is closed, turned away or outside the image."""
        x0, y0, x1, y1 = self.box
        return x1 > x0 and y1 > y0 and self._width > _MIN_WIDTH * self._unit and self._opening > _MIN_OPENING

    def draw(self, target: YuvFrame, state: EyeState) -> None:
        """Draw this eye into `target`."""
        for number, (source, plane, step) in enumerate(zip(self._still, target, _STEPS, strict=True)):
            x0, y0, x1, y1 = (side // step for side in self.box)
            moves = any(state[1:]) or state.closing < 0
            eye = self._move_iris(source, step, state) if moves else source[y0:y1, x0:x1]
            plane[y0:y1, x0:x1] = self._draw_lids(eye, number, state) if state.closing > 0 else eye

    def _move_iris(self, plane: NDArray[np.uint8], step: int, state: EyeState) -> NDArray[np.uint8]:
        pixels, unit = self._pixels[step], self._unit / step
        moved = pixels.iris * np.array([state.right * unit, state.down * unit], np.float32)
        moved[..., 1] -= np.float32(max(state.smile, 0) * _SQUINT * unit) * pixels.squint
        moved[..., 1] += np.float32(min(state.closing, 0) * _RAISE * unit) * pixels.widen
        moved = moved @ self._axes.astype(np.float32)
        return remap(plane, pixels.places - moved, cv2.INTER_CUBIC)

    def _draw_lids(self, looking: NDArray[np.uint8], number: int, state: EyeState) -> NDArray[np.uint8]:
        """Return the eye of the plane of a number (Y, U, V) with its lids over the open eye `looking`."""
        step = _STEPS[number]
        pixels, unit, closing = self._pixels[step], self._unit, state.closing
        along, top, lashes, edge, lower, line, *_ = pixels.curves
        down = pixels.down
        opening = lower - edge
        drop = closing * (line + _LINE_EDGE * unit - edge)
        lowered = _UPPER_FOLLOWS * max(state.down, 0) * unit  # as `_move_iris` moves the lid edge
        drop += (1 - closing) * lowered * opening / max(float(opening.max()), 1.0)
        # A point at fraction v of the skin moves by drop * v^2: it stretches most just above the lashes, which keep
        # their shape.
        strength = (2 * pixels.taper).clip(0, 1)  # zero beyond the corners, where no skin moves
        height, below, moved = lashes - top, (down - top).clip(0), strength * drop
        share = (2 * below / (height + np.sqrt(height**2 + 4 * moved * below))).clip(0, 1)
        unfolded = np.minimum(down, top) + share * height + (down - moved - lashes).clip(0, edge - lashes)
        lid = self._take(self._still[number], along, unfolded, step)
        smoothed = smooth_step(closing / _SMOOTHED)
        closed, shut = self._closed[number], smoothed * pixels.closed_share
        feather = max(_FEATHER * unit, step)
        under = ((down - lower + closing * (lower - line)) / feather + 0.5).clip(0, 1)
        over = ((edge + drop - down) / feather + 0.5).clip(0, 1)
        result = looking + shut * under * (closed - looking)
        result += over * (lid + shut * (closed - lid) - result)
        away = (down - edge - drop) / unit + _LINE_EDGE
        spread = np.where(away < 0, _LINE_ABOVE, _LINE_BELOW) * (0.3 + 0.7 * pixels.taper)
        dark = smoothed * self._darkness * strength * np.exp(-((away / spread) ** 2) / 2)
        result -= dark * (_LASH_CHROMA * (result - 128) if number else result)
        return np.asarray(np.rint(result).clip(0, 255), np.uint8)

    def _take(self, plane: NDArray[np.uint8], along: _Floats, down: _Floats, step: int) -> NDArray[np.float32]:
        places = self._corner + np.stack([np.broadcast_to(along, down.shape), down], -1) @ self._axes
        return sample_plane(plane, (places + 0.5) / step - 0.5, cv2.INTER_CUBIC)

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the even left, top, right and bottom of the pixels that may change, clipped to the image."""
        curves = self._curves
        low, high = curves.brow.min() - 0.02 * self._unit, curves.lower.max() + _LOWER_REACH * self._unit
        ends = -_BEYOND * self._width, (1 + _BEYOND) * self._width
        frame = np.array([[a, d] for a in ends for d in (low, high)]) @ self._axes + self._corner
        limits = [width, height]
        x0, y0 = (int(v) for v in np.clip(np.floor(frame.min(0)), 0, limits).astype(int) // 2 * 2)
        x1, y1 = (int(v) for v in np.clip(np.ceil(frame.max(0)), 0, limits).astype(int) // 2 * 2)
        return x0, y0, max(x0, x1), max(y0, y1)

    def _pixels_of(self, step: int) -> _Pixels:
        x0, y0, x1, y1 = (side // step for side in self.box)
        grid = np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), -1)
        local = ((grid + 0.5) * step - 0.5 - self._corner) @ self._axes.T  # (h, w, 2) luma pixels
        along, down = (np.asarray(axis, np.float32) for axis in np.moveaxis(local, -1, 0))
        lines = (np.interp(along, self._curves.columns, line).astype(np.float32) for line in self._curves[1:])
        curves = _Curves(along, *lines)
        outwards = self._outwards(along)
        begins, full, tapers, ends = _LINE_ENDS
        taper = np.minimum((outwards - begins) / (full - begins), (ends - outwards) / (ends - tapers)).clip(0, 1)
        arrays = grid, *self._shares(curves, down, step), taper, self._closed_share(curves, down)
        return _Pixels(curves, down, *(np.asarray(v, np.float32) for v in arrays))

    def _outwards(self, along: _Floats) -> _Floats:
        """Return the places of pixels along the eye between its outer corner (0) and its inner one (1)."""
        place = along / self._width
        return place if self._is_outer_left else 1 - place

    def _beneath(self, curves: _Curves, down: _Floats) -> _Floats:
        """Return the places of pixels between the lash line of the closed eye (0) and the skin below the eye (1)."""
        return (down - curves.line) / (curves.lower + _UNDER * self._unit - curves.line)

    def _closed_share(self, curves: _Curves, down: _Floats) -> _Floats:
        place = self._outwards(curves.columns)
        shares = smooth_step(np.minimum(place, 1 - place) / _BEYOND + 1)
        shares *= smooth_step((down - curves.brow) / (_FULLY_CLOSED * (curves.crease - curves.brow)))
        shares *= 1 - smooth_step((self._beneath(curves, down) - 0.45) / 0.6)
        reflects = smooth_step((self._take(self._soft.y, curves.columns, down, 1) - _REFLECTION) / 30)
        around = np.maximum((curves.crease - down) / (0.04 * self._unit), -place / 0.1)
        return np.asarray(shares * (1 - reflects * smooth_step(around)))

    def _closed_skin(self, number: int, tones: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the (h, w) closed eye without lashes in the plane of a number, given (C,) tones of the lid."""
        soft, step = self._soft[number], _STEPS[number]
        curves, down, *_ = self._pixels[step]
        along, brow, under = curves.columns, curves.brow, curves.lower + _UNDER * self._unit
        skin = np.interp(along, self._curves.columns, tones)
        upper = self._take(soft, along, brow, step)
        if number == 0:
            skin *= 1 + _BULGE * (np.sin(np.pi * self._outwards(along).clip(0, 1)) - 0.9)
            darkest, brightest = _UPPER_LIGHTS
            upper = np.clip(upper, darkest * skin, brightest * skin)
        skin = upper + smooth_step((down - brow) / (0.6 * (curves.line - brow))) * (skin - upper)
        skin += smooth_step(self._beneath(curves, down) / 0.7) * (self._take(soft, along, under, step) - skin)
        if number == 0:  # the grain of the skin below the eye
            mirrored = 2 * under - down
            grain = self._take(self._still.y, along, mirrored, step) - self._take(soft, along, mirrored, step)
            skin += grain.clip(-_MAX_GRAIN, _MAX_GRAIN)
        return np.asarray(skin, np.float32)

    def _lash_darkness(self, tone: NDArray[np.float64]) -> float:
        """Return by which share of the (C,) luma of the lid the lashes are darker."""
        inner = slice(_NUM_COLUMNS // 5, -(_NUM_COLUMNS // 5))
        rows = self._curves.edge + _LASH_ROWS * self._unit
        darkest = self._take(self._soft.y, self._curves.columns, rows, 1).min(0)
        return float(np.clip(_LASH_DARKNESS * np.median(1 - (darkest / tone.clip(1))[inner]), 0, 1))

    def _shares(self, curves: _Curves, down: _Floats, step: int) -> tuple[_Floats, _Floats, _Floats]:
        """Return the (h, w, 2), (h, w) and (h, w) shares by which pixels move with iris and lids, see `_Pixels`."""
        along, top, _, edge, lower, *_ = curves
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
        columns, top, lashes, _, lower, *_ = self._curves
        rows = top + _STRIP[:, None] * (lashes - top)
        strip = [np.float64(self._take(plane, columns, rows, _STEPS[n])) for n, plane in enumerate(still)]
        bright = np.percentile(strip[0], _BRIGHT, axis=0)
        is_skin = strip[0] >= np.median(strip[0], axis=0)
        below = self._take(still.y, columns, lower + _UNDER * self._unit, 1).astype(float)
        shade, *colours = (np.average(plane, axis=0, weights=is_skin) for plane in strip)
        light = np.maximum(bright, bright + _TO_LIGHT * (below - bright)).clip(max=_MAX_LIGHT * below)
        gain = (light / shade.clip(1)).clip(max=_MAX_GAIN)  # the chroma of a surface is proportional to its luma
        brighter = (128 + gain * (colour - 128) for colour in colours)
        return [_smooth(tone, len(columns)) for tone in (light, *brighter)]

    def _lash_share(self, luma: NDArray[np.uint8], columns: _Floats, upper: _Floats, crease: _Floats) -> float:
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

    def __init__(self, still: YuvFrame, points: _Floats, unit: float) -> None:
        flat = np.asarray(points[:, :2], np.float64)
        soft = YuvFrame(*(_blur(plane, _SKIN_BLUR * unit / step) for plane, step in zip(still, _STEPS, strict=True)))
        self._eyes = [eye for ids in _EYES if (eye := _Eye(still, soft, flat, ids, unit)).can_close]
        self._drawn = EyeState()

    def draw(self, target: YuvFrame, state: EyeState) -> None:
        """Draw the eyes into `target`, the same copy of the portrait in every call."""
        if state != self._drawn:
            for eye in self._eyes:
                eye.draw(target, state)
        self._drawn = state


def _blur(plane: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigmaX=sigma, sigmaY=sigma / 4), np.uint8)


def _smooth(tone: NDArray[np.float64], num: int) -> NDArray[np.float64]:
    """Return the (C,) tone without lashes, of the inner columns only: lids are hidden at the corners of an eye."""
    inner = np.arange(num // 5, num - num // 5)
    steady = np.interp(np.arange(num), inner, tone[inner])
    ends = np.percentile(steady, [30, 70])
    return np.asarray(cv2.GaussianBlur(steady.clip(*ends)[None], (0, 0), _TONE_SMOOTHING)[0], np.float64)
