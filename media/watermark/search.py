"""Finds where in the frame the watermark's grid is: after cropping, scaling or padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from media.watermark.observation import FIELD_SIDE, NUM_PHASES
from media.watermark.pattern import NUM_CELLS, Pattern, draw_cells

_COARSE_SIDE: Final = FIELD_SIDE // 2
_FFT_SIDE: Final = 96
_SCALE_STEP: Final = 1.025
_POWERS: Final = range(-14, 13)  # scales from 0.71 to 1.34
_MAX_STRETCH: Final = 5
"""Powers by which the scales of width and height may differ: 13 %."""
_PHASE_STEP: Final = 2
_REFINEMENTS: Final = ((0.008, 0.5), (0.004, 0.25), (0.002, 0.12))
"""Steps of scale and of offset in field samples."""
_MAX_MOVES: Final = 4


@dataclass(frozen=True)
class Alignment:
    """Where a field shows the watermark's grid.

    Attributes:
        phase: Index of the field.
        sign: 1, or -1 if the field shows the inverted pattern.
        scale_x: Width of the frame, as a share of the width of the marked video: below 1 if it was cropped.
        scale_y: The same for the height.
        x: Left edge of the marked video in the frame, in field samples; negative if it was cropped.
        y: Upper edge.
    """

    phase: int
    sign: int = 1
    scale_x: float = 1.0
    scale_y: float = 1.0
    x: float = 0.0
    y: float = 0.0


class ScaledFields:
    """The spectra of fields at all scales of the search; computed once and compared with any pattern.

    Args:
        fields: (NUM_PHASES, FIELD_SIDE, FIELD_SIDE), see `media.watermark.observation.Observation.fields`.
    """

    def __init__(self, fields: NDArray[np.float32]) -> None:
        self.fields = fields
        self.alignments: list[Alignment] = []
        spectra = []
        for phase in range(0, NUM_PHASES, _PHASE_STEP):
            coarse = cv2.resize(fields[phase], (_COARSE_SIDE, _COARSE_SIDE), interpolation=cv2.INTER_AREA)
            for width, height in _sizes():
                scaled = cv2.resize(coarse, (width, height))
                scaled /= np.sqrt((scaled * scaled).sum()) + np.float32(1e-6)
                self.alignments.append(Alignment(phase, 1, width / _COARSE_SIDE, height / _COARSE_SIDE))
                spectra.append(_spectrum_of(scaled))
        self._spectra = spectra

    def offsets(self, template: NDArray[np.complex64]) -> Iterator[tuple[float, Alignment]]:
        """Yields the best offset at each scale and phase, with its correlation with a conjugated spectrum."""
        from scipy.fft import irfft2  # a fifth of a second to import: only when searching

        for at, spectrum in zip(self.alignments, self._spectra, strict=True):
            correlation = irfft2(spectrum * template, (_FFT_SIDE, _FFT_SIDE), overwrite_x=True)
            peak = int(np.abs(correlation).argmax())
            row, column = divmod(peak, _FFT_SIDE)
            score = float(correlation[row, column])
            x, y = (2.0 * (i if i < _FFT_SIDE // 2 else i - _FFT_SIDE) for i in (column, row))
            yield abs(score), replace(at, sign=1 if score >= 0 else -1, x=x, y=y)


def _spectrum_of(plane: NDArray[np.float32]) -> NDArray[np.complex64]:
    from scipy.fft import rfft2  # six times as fast as NumPy's, and a fifth of a second to import

    spectrum: NDArray[np.complex64] = rfft2(plane, (_FFT_SIDE, _FFT_SIDE))
    return spectrum


class GridSearch:
    """Aligns fields with the cells of a pattern that do not depend on the identifier."""

    def __init__(self, pattern: Pattern) -> None:
        self._template = draw_cells(pattern.sync_cells(), FIELD_SIDE, FIELD_SIDE)

    def unmoved(self, fields: NDArray[np.float32]) -> list[Alignment]:
        """Returns the alignments of a frame that is complete, one per phase."""
        found = []
        for phase, field in enumerate(fields):
            found.append(Alignment(phase, 1 if float((field * self._template).sum()) >= 0 else -1))
        return found

    def moved(self, scaled: ScaledFields, num: int) -> list[Alignment]:
        """Returns the `num` best alignments over all scales, offsets and every second phase."""
        best = sorted(scaled.offsets(self._spectrum), key=lambda pair: -pair[0])[:num]
        return [self._refined(scaled.fields[at.phase], at) for _, at in best]

    @cached_property
    def _spectrum(self) -> NDArray[np.complex64]:
        size = _COARSE_SIDE, _COARSE_SIDE
        template = np.asarray(cv2.resize(self._template, size, interpolation=cv2.INTER_AREA), np.float32)
        conjugated: NDArray[np.complex64] = np.conj(_spectrum_of(template))
        return conjugated

    def _refined(self, field: NDArray[np.float32], at: Alignment) -> Alignment:
        """Moves an alignment to a local maximum of the correlation."""
        best, score = at, self._score(field, at)
        for scale_step, offset_step in _REFINEMENTS:
            for _ in range(_MAX_MOVES):
                before = score
                for moved in _neighbours(best, scale_step, offset_step):
                    if (found := self._score(field, moved)) > score:
                        best, score = moved, found
                if score == before:
                    break
        return best

    def _score(self, field: NDArray[np.float32], at: Alignment) -> float:
        return float((_aligned(field, at) * self._template).sum())


def _neighbours(at: Alignment, scale_step: float, offset_step: float) -> Iterator[Alignment]:
    for name, step in (("x", offset_step), ("y", offset_step), ("scale_x", scale_step), ("scale_y", scale_step)):
        for move in (-step, step):
            yield replace(at, **{name: getattr(at, name) + move})


def aligned_cells(fields: NDArray[np.float32], alignments: Iterable[Alignment]) -> NDArray[np.float32]:
    """Returns the (B, NUM_CELLS, NUM_CELLS) cells of the watermark at each alignment of (P, H, W) fields."""
    size = (NUM_CELLS, NUM_CELLS)
    pictures = (_aligned(fields[at.phase], at) for at in alignments)
    return np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures])


def _sizes() -> list[tuple[int, int]]:
    """Returns width and height of a coarse field at every scale."""
    pairs = ((across, down) for across in _POWERS for down in _POWERS if abs(across - down) <= _MAX_STRETCH)
    sizes = [tuple(round(_COARSE_SIDE * _SCALE_STEP**power) for power in pair) for pair in pairs]
    return [(width, height) for width, height in sizes]


def _aligned(field: NDArray[np.float32], at: Alignment) -> NDArray[np.float32]:
    """Returns the (FIELD_SIDE, FIELD_SIDE) part of the field that shows the marked video; zero where it was cropped."""
    if at == Alignment(at.phase, at.sign):
        return field * np.float32(at.sign)
    # From the centre of a sample of the marked video to that of the field.
    matrix = np.array(
        [
            [1 / at.scale_x, 0, (at.x + 0.5) / at.scale_x - 0.5],
            [0, 1 / at.scale_y, (at.y + 0.5) / at.scale_y - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(field, matrix, (FIELD_SIDE, FIELD_SIDE), flags=flags) * np.float32(at.sign)
