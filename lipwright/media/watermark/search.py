"""Finds where in the frame the watermark's grid is: after mirroring, cropping, scaling or padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.watermark.embedder import NUM_CELLS, Pattern, draw_cells
from lipwright.media.watermark.observation import FIELD_SIDE, NO_ZOOM, NUM_PHASES, Zoom, equalise

_COARSE_SIDE: Final = FIELD_SIDE // 2
_MIN_FFT_SIDE: Final = 96
_SCALE_STEP: Final = 1.04
_LARGE: Final = range(-9, 9)  # powers of _SCALE_STEP: frames .70 to 1.37 times as wide or high as the marked video
_SMALL: Final = range(9, 32)  # 1.42 to 3.37 times: a film of 16:9 in a frame of 9:16 needs 3.16
_WHOLE: Final = range(-3, 4)  # a side that is hardly cropped or padded
_TALL: Final = range(-3, 10)  # the height of a person, who is narrow, in front of another background
_MAX_STRETCH: Final = 8
"""Powers by which the scales of width and height may differ where both are small: 37 %, as of 4:3 and 16:9."""
_NUM_REFINED: Final = 24
"""Alignments of the coarse search of which the best are kept after refinement."""
_REFINEMENTS: Final = ((0.008, 0.5), (0.004, 0.25), (0.002, 0.12))
"""Steps of scale, relative, and of offset, in field samples."""
_MAX_MOVES: Final = 4
_PHASES_REFINED: Final = 2
"""Phases with which each alignment of the coarse search is refined."""
_PHASES_AT_ONCE: Final = 2
"""Phases whose fields are added up for the coarse search."""

ZOOMS: Final = (Zoom(1, 1), Zoom(1, 2), Zoom(2, 1), Zoom(2, 2))
"""Of the fields that are searched."""
_FINEST: Final = ZOOMS[-1]
"""Of the fields in which the cells are read."""
Fields = Mapping[Zoom, NDArray[np.float32]]
"""(NUM_PHASES, H, W) by zoom, see `lipwright.media.watermark.observation.Observation.fields`."""


@dataclass(frozen=True)
class Alignment:
    """Where a field shows the watermark's grid.

    Attributes:
        phase: Index of the field.
        sign: 1, or -1 if the field shows the inverted pattern.
        is_mirrored: Whether left and right are exchanged.
        zoom: Resolution of the field.
        scale_x: Width of the frame, as a share of the width of the marked video: below 1 if it was cropped.
        scale_y: The same for the height.
        x: Left edge of the marked video in the frame, in units of 1 / FIELD_SIDE of the marked video's width;
            negative if it was cropped.
        y: Upper edge.
    """

    phase: int
    sign: int = 1
    is_mirrored: bool = False
    zoom: Zoom = NO_ZOOM
    scale_x: float = 1.0
    scale_y: float = 1.0
    x: float = 0.0
    y: float = 0.0


class _Template(NamedTuple):
    """The pattern's synchronisation cells, and the conjugated spectra of its smaller picture, by mirroring and size."""

    picture: NDArray[np.float32]
    small: NDArray[np.float32]
    spectra: dict[tuple[bool, tuple[int, int]], NDArray[np.complex64]]

    @classmethod
    def of(cls, pattern: Pattern) -> _Template:
        picture = draw_cells(pattern.sync_cells(), FIELD_SIDE, FIELD_SIDE)
        small = cv2.resize(picture, (_COARSE_SIDE, _COARSE_SIDE), interpolation=cv2.INTER_AREA)
        return cls(picture, np.asarray(small, np.float32), {})

    def spectrum(self, is_mirrored: bool, size: tuple[int, int]) -> NDArray[np.complex64]:
        if (found := self.spectra.get((is_mirrored, size))) is None:
            found = self.spectra[is_mirrored, size] = _spectrum(_flip(self.small, is_mirrored), size).conj()
        return found


class GridSearch:
    """Aligns fields with the cells of a pattern that do not depend on the identifier."""

    def __init__(self, pattern: Pattern) -> None:
        self._template = _Template.of(pattern)

    def unmoved(self, fields: NDArray[np.float32]) -> list[Alignment]:
        """Return the alignments of a complete frame, mirrored and not, for fields without zoom."""
        found = []
        for is_mirrored in (False, True):
            template = _flip(self._template.picture, is_mirrored)
            for phase, field in enumerate(fields):
                found.append(Alignment(phase, 1 if float((field * template).sum()) >= 0 else -1, is_mirrored))
        return found

    def moved(self, fields: Fields, num: int) -> list[Alignment]:
        """Return the `num` best alignments over all scales, offsets and phases, for the fields of most detail."""
        even = {zoom: equalise(by_phase) for zoom, by_phase in fields.items()}
        coarse = sorted(_offsets(even, self._template), key=_score_of)[:_NUM_REFINED]
        finest = even[_FINEST]
        starts = [start for _, at in coarse for start in self._best_phases(finest, replace(at, zoom=_FINEST))]
        refined = [self._refine(finest[at.phase], at) for at in starts]
        return [at for _, at in sorted(refined, key=_score_of)[:num]]

    def _best_phases(self, fields: NDArray[np.float32], at: Alignment) -> list[Alignment]:
        """Return an alignment with the phases, and their signs, that correlate best."""
        scores = [self._score(field, replace(at, sign=1)) for field in fields]
        best = sorted(range(NUM_PHASES), key=lambda phase: -abs(scores[phase]))[:_PHASES_REFINED]
        return [replace(at, phase=phase, sign=1 if scores[phase] >= 0 else -1) for phase in best]

    def _refine(self, field: NDArray[np.float32], at: Alignment) -> tuple[float, Alignment]:
        """Move an alignment to a local maximum of the correlation, which is returned with it."""
        best, score = at, self._score(field, at)
        for scale_step, offset_step in _REFINEMENTS:
            for _ in range(_MAX_MOVES):
                before = score
                for moved in _neighbours(best, scale_step, offset_step):
                    if (found := self._score(field, moved)) > score:
                        best, score = moved, found
                if score == before:
                    break
        return score, best

    def _score(self, field: NDArray[np.float32], at: Alignment) -> float:
        """Return the correlation in units of what chance would give if the samples were independent."""
        products = _align(field, at) * self._template.picture
        return float(products.sum() / (np.linalg.norm(products) + 1e-6))


def _score_of(scored: tuple[float, Alignment]) -> float:
    return -scored[0]


def _offsets(fields: Fields, template: _Template) -> Iterator[tuple[float, Alignment]]:
    """Yield the best offset for each zoom, group of phases, scale and mirroring, with its correlation."""
    from scipy.fft import irfft2, next_fast_len  # a fifth of a second to import: only when searching

    for zoom, by_phase in fields.items():
        for phase in range(0, NUM_PHASES, _PHASES_AT_ONCE):
            size = _COARSE_SIDE * zoom.across, _COARSE_SIDE * zoom.down
            added = by_phase[phase : phase + _PHASES_AT_ONCE].sum(axis=0)
            coarse = cv2.resize(added, size, interpolation=cv2.INTER_AREA)
            for width, height in _sizes(zoom):
                scaled = np.asarray(cv2.resize(coarse, (width, height)), np.float32)
                scaled /= np.sqrt(np.mean(scaled * scaled)) + np.float32(1e-6)
                shape = next_fast_len(max(height, _MIN_FFT_SIDE)), next_fast_len(max(width, _MIN_FFT_SIDE))
                spectrum = _spectrum(scaled, shape)
                at = Alignment(phase, 1, False, zoom, width / _COARSE_SIDE, height / _COARSE_SIDE)
                for is_mirrored in (False, True):
                    correlation = irfft2(spectrum * template.spectrum(is_mirrored, shape), shape, overwrite_x=True)
                    row, column = divmod(int(np.abs(correlation).argmax()), shape[1])
                    # Relative to chance, which is larger where the field is smooth because it was enlarged.
                    score = float(correlation[row, column] / (np.sqrt(np.mean(correlation**2)) + 1e-6))
                    x = 2.0 * (column if column < width else column - shape[1])
                    y = 2.0 * (row if row < height else row - shape[0])
                    sign = 1 if score >= 0 else -1
                    yield abs(score), replace(at, sign=sign, is_mirrored=is_mirrored, x=x, y=y)


def _spectrum(plane: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.complex64]:
    from scipy.fft import rfft2  # six times as fast as NumPy's, and a fifth of a second to import

    spectrum: NDArray[np.complex64] = rfft2(plane, shape)
    return spectrum


def _flip(picture: NDArray[np.float32], is_mirrored: bool) -> NDArray[np.float32]:
    return picture[:, ::-1] if is_mirrored else picture


def _neighbours(at: Alignment, scale_step: float, offset_step: float) -> Iterator[Alignment]:
    for move in (-1, 1):
        yield replace(at, x=at.x + move * offset_step)
        yield replace(at, y=at.y + move * offset_step)
        yield replace(at, scale_x=at.scale_x * (1 + move * scale_step))
        yield replace(at, scale_y=at.scale_y * (1 + move * scale_step))


def aligned_cells(fields: Fields, alignments: Iterable[Alignment]) -> NDArray[np.float32]:
    """Return the (B, NUM_CELLS, NUM_CELLS) cells of the watermark at each alignment."""
    size = (NUM_CELLS, NUM_CELLS)
    pictures = (_align(fields[at.zoom][at.phase], at) for at in alignments)
    return np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures])


def _sizes(zoom: Zoom) -> list[tuple[int, int]]:
    """Return width and height of a coarse field at every scale that is searched in fields of a zoom."""
    if zoom.across == zoom.down:
        powers, limit = (_LARGE, len(_LARGE)) if zoom.across == 1 else (_SMALL, _MAX_STRETCH)
        pairs = [(across, down) for across in powers for down in powers if abs(across - down) <= limit]
    else:
        sides = (_WHOLE, _SMALL) if zoom.across == 1 else (_SMALL, _TALL)
        pairs = [(across, down) for across in sides[0] for down in sides[1]]
    sizes = [tuple(round(_COARSE_SIDE * _SCALE_STEP**power) for power in pair) for pair in pairs]
    return [(width, height) for width, height in sizes]


def _align(field: NDArray[np.float32], at: Alignment) -> NDArray[np.float32]:
    """Return the (FIELD_SIDE, FIELD_SIDE) part of the field that shows the marked video; zero where it was cropped."""
    if (at.scale_x, at.scale_y, at.x, at.y) == (1, 1, 0, 0) and at.zoom == NO_ZOOM:
        return _flip(field * np.float32(at.sign), at.is_mirrored)
    # From the centre of a sample of the marked video to that of the field.
    across, down = at.zoom.across / at.scale_x, at.zoom.down / at.scale_y
    matrix = np.array([[across, 0, (at.x + 0.5) * across - 0.5], [0, down, (at.y + 0.5) * down - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    found = np.asarray(cv2.warpAffine(field, matrix, (FIELD_SIDE, FIELD_SIDE), flags=flags), np.float32)
    return _flip(found * np.float32(at.sign), at.is_mirrored)
