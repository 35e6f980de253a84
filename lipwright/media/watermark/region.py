"""Where in the frame the grid of the watermark is: around the person, if the rest of the frame is transparent."""

from __future__ import annotations

from typing import Final, NamedTuple

Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge, as shares of the width and height of the frame."""


class Region(NamedTuple):
    """A part of the frame; the edges are shares of its width and height."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0

    def slices(self, width: int, height: int) -> tuple[slice, slice]:
        """Return the rows and columns of a (height, width) plane."""
        return (
            slice(round(self.top * height), round(self.bottom * height)),
            slice(round(self.left * width), round(self.right * width)),
        )


WHOLE_FRAME: Final = Region()
# Sides that `lipwright.media.watermark.search` finds: a small one from _MIN to _SMALL, or a large one from _LARGE.
_MIN, _SMALL, _LARGE = 0.32, 0.68, 0.75
_MAX_STRETCH: Final = 1.3
"""By which two small sides may differ."""


def region_around(box: Box) -> Region:
    """Return the smallest region around a box whose scale the detector searches."""
    width, height = (_search_side(stop - start) for start, stop in (box[::2], box[1::2]))
    if max(width, height) <= _SMALL:
        width, height = max(width, height / _MAX_STRETCH), max(height, width / _MAX_STRETCH)
    elif height <= _SMALL:  # which is only searched in the whole width
        width = 1.0
    left, right = _centre(box[0], box[2], width)
    top, bottom = _centre(box[1], box[3], height)
    return Region(left, top, right, bottom)


def _search_side(side: float) -> float:
    return max(side, _MIN) if side <= _SMALL else max(side, _LARGE)


def _centre(start: float, stop: float, side: float) -> tuple[float, float]:
    """Return the start and stop of a side in the frame whose middle is near that of another one."""
    first = min(max((start + stop - side) / 2, 0.0), 1.0 - side)
    return first, first + side
