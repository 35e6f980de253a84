"""What is read from an exemplar's picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from media.planes import Planes
from models.engines.warp.exemplar_bank import USUAL_BITE, BankBuilder, bite_line
from models.geometry.face_points import (
    INNER_LOWER,
    INNER_UPPER,
    MIDDLE_LOWER,
    MIDDLE_UPPER,
    NUM_POINTS,
    OUTER_LOWER,
    OUTER_UPPER,
)
from models.mouth.shape import TRACKED_GAIN
from models.presenter.face_region import FaceRegion
from models.track.face_track import finish_track
from tests.unit.models.synthetic_presenter import EYES, make_presenter


def _points() -> np.ndarray:
    points = np.zeros((NUM_POINTS, 2), np.float32)
    x = np.linspace(20, 80, 11)
    points[list(INNER_UPPER)], points[list(INNER_LOWER)] = np.stack([x, x * 0 + 30], 1), np.stack([x, x * 0 + 50], 1)
    return points


@pytest.mark.parametrize("row", [38, 44, 48])
def test_the_bite_line_is_the_dark_line_between_the_teeth(row: int) -> None:
    luma = np.full((96, 96), 150, np.uint8)
    luma[row - 1 : row + 2] = 60
    assert bite_line(luma, _points()) == pytest.approx((row - 30) / 20, abs=0.06)


def test_a_picture_that_tells_nothing_has_the_usual_bite_line() -> None:
    assert bite_line(np.full((96, 96), 150, np.uint8), _points()) == pytest.approx(USUAL_BITE, abs=0.03)


def test_exemplars_are_as_open_as_their_pictures_show(tmp_path: Path) -> None:
    """Red lips that part twice as far in odd frames as their landmarks, and as far as those in even ones."""
    raw = make_presenter(tmp_path, 0.14).raw
    track = finish_track(raw.points, raw.present)
    region = FaceRegion.of(track)
    builder = BankBuilder(tmp_path, track, region, 100)
    side = region.size * 3
    for frame in builder.frames:
        points = track.points[frame, :, :2]
        v = np.full((side // 2, side // 2), 140, np.uint8)
        lips = points[[*OUTER_UPPER, *OUTER_LOWER[::-1]]] / 2
        cv2.fillPoly(v, [np.rint(lips).astype(np.int32)], 165)
        middle = (points[13] + points[14]) / 4
        half = np.ptp(points[[13, 14], 1]) * (0.5 + 0.5 * (frame % 2))
        v[round(middle[1] - half / 2) : round(middle[1] + half / 2), int(middle[0] - 12) : int(middle[0] + 12)] = 120
        builder.add(Planes(np.full((side, side), 120, np.uint8), np.full_like(v, 120), v))
    finished = builder.finish()
    seen, mesh = finished.shape[builder.frames, 0], track.shape[builder.frames, 0]
    wide = mesh > 0.05
    share, is_odd = seen / np.maximum(mesh, 0.05), builder.frames % 2 == 1
    assert share[wide & is_odd].mean() > 1.3 * share[wide & ~is_odd].mean()
    # The landmarks of the lips stand as far apart as that, in the picture too; nothing else is moved.
    gaps = np.linalg.norm(finished.points[builder.frames, 13] - finished.points[builder.frames, 14], axis=1) / EYES
    assert gaps == pytest.approx(np.maximum(seen, 0) / TRACKED_GAIN[0], abs=0.02)
    others = np.setdiff1d(np.arange(NUM_POINTS), [*INNER_UPPER, *INNER_LOWER, *MIDDLE_UPPER, *MIDDLE_LOWER])
    assert finished.points[:, others] == pytest.approx(track.points[:, others], abs=0.01)
