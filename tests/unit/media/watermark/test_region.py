"""The grid around the person has a scale that the detector searches."""

from __future__ import annotations

import numpy as np
import pytest

from media.watermark.detector import detect_in_frames
from media.watermark.embedder import MAX_LEVELS, InvisibleWatermark
from media.watermark.region import Box, Region, region_around
from tests.unit.media.clips import info_of
from tests.unit.media.watermark.marked_clip import FPS, IDENTIFIER, SIZE, planes_with, unmarked_lumas


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.1, 0.2, 0.9, 1.0), (0.1, 0.2, 0.9, 1.0)),
        ((0.2, 0.1, 0.7, 1.0), (0.2, 0.1, 0.7, 1.0)),
        ((0.0, 0.0, 0.7, 1.0), (0.0, 0.0, 0.75, 1.0)),
        ((0.9, 0.8, 1.0, 1.0), (0.68, 0.68, 1.0, 1.0)),
        ((0.1, 0.5, 0.9, 1.0), (0.0, 0.5, 1.0, 1.0)),
        ((0.3, 0.4, 0.65, 1.0), (0.2442, 0.4, 0.7058, 1.0)),
    ],
)
def test_region_around_box_has_searched_sides(box: Box, expected: Box) -> None:
    assert region_around(box) == pytest.approx(expected, abs=1e-3)


def test_draw_with_region_changes_only_the_region() -> None:
    luma = np.full((SIZE[1], SIZE[0]), 90, np.uint8)
    region = Region(0.25, 0.5, 1.0, 1.0)
    InvisibleWatermark(info_of(*SIZE, FPS), IDENTIFIER, region=region).draw(planes_with(luma))
    rows, columns = np.nonzero(luma != 90)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (80, 120, 320, 240)


@pytest.mark.parametrize("box", [(0.2, 0.1, 0.72, 0.9), (0.12, 0.2, 0.88, 1.0)])
def test_detect_person_over_colour_returns_identifier(box: Box) -> None:
    """What the watermark marks is seen in an ellipse, as a person in front of another background."""
    info, region = info_of(*SIZE, FPS), region_around(box)
    mark = InvisibleWatermark(info, IDENTIFIER, flat_levels=MAX_LEVELS, region=region)
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    x = (columns / SIZE[0] - (box[0] + box[2]) / 2) / (box[2] - box[0])
    y = (rows / SIZE[1] - (box[1] + box[3]) / 2) / (box[3] - box[1])
    outside = x**2 + y**2 > 0.25
    frames = []
    for number, luma in enumerate(unmarked_lumas(150)):
        mark.draw(planes_with(luma))
        luma[outside] = 120
        frames.append((luma, number / float(FPS)))
    assert detect_in_frames(frames).identifier == IDENTIFIER.hex()
