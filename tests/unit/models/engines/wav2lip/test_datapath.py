"""The whole way of the official script for a box that stands still: frames -> faces -> frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.engines.paste.blend import spread_over
from models.engines.paste.resample import resize_box
from tests.unit.models.engines.reference import random_pictures


@pytest.fixture
def stored(reference: Callable[[str], Any]) -> Any:
    """Frames, box, faces and what was pasted."""
    return reference("datapath_synth.npz")


def _box(stored: Any) -> NDArray[np.float32]:
    y0, y1, x0, x1 = stored["box_y1y2x1x2"]
    return np.array([x0, y0, x1, y1], np.float32)


def test_resize_box_equals_official_script(stored: Any) -> None:
    height, width = stored["frame_hw"]
    frames = random_pictures(4, height, width, int(stored["frame_seed"]))
    faces = np.stack([resize_box(frame, _box(stored), (96, 96), "linear") for frame in frames])
    assert np.array_equal(faces, stored["face_u8"])
    moved = _box(stored) + np.float32(0.001)  # the way of boxes between pixels
    faces = np.stack([resize_box(frame, moved, (96, 96), "linear") for frame in frames])
    assert np.abs(faces.astype(int) - stored["face_u8"]).max() <= 1


def test_spread_over_equals_official_script(stored: Any) -> None:
    box = _box(stored)
    x0, y0, x1, y1 = (int(value) for value in box)
    for generated, official in zip(stored["pred"], stored["pasted_box"], strict=True):
        face = (generated.transpose(1, 2, 0) * 255).astype(np.uint8)  # cut off, as there
        planes = [spread_over(np.ascontiguousarray(face[..., c]), box, (x0, y0, x1, y1)) for c in range(3)]
        pasted = cv2.merge(planes)
        assert np.abs(pasted.astype(int) - official).max() <= 1
