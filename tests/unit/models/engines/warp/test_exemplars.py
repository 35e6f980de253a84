"""What is read from an exemplar's picture."""

from __future__ import annotations

import numpy as np
import pytest

from models.engines.warp.exemplars import USUAL_BITE, bite_line
from models.geometry.face_points import (
    INNER_LOWER,
    INNER_UPPER,
    NUM_POINTS,
)


def _points() -> np.ndarray:
    points = np.zeros((NUM_POINTS, 2), np.float32)
    x = np.linspace(20, 80, 11)
    points[list(INNER_UPPER)], points[list(INNER_LOWER)] = np.stack([x, x * 0 + 30], 1), np.stack([x, x * 0 + 50], 1)
    return points


@pytest.mark.parametrize("row", [38, 44, 48])
def test_bite_line_is_dark_line_between_teeth(row: int) -> None:
    luma = np.full((96, 96), 150, np.uint8)
    luma[row - 1 : row + 2] = 60
    assert bite_line(luma, _points()) == pytest.approx((row - 30) / 20, abs=0.06)


def test_bite_line_without_contrast_is_usual() -> None:
    assert bite_line(np.full((96, 96), 150, np.uint8), _points()) == pytest.approx(USUAL_BITE, abs=0.03)
