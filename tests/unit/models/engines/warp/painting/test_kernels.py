"""What the kernels do beyond the pictures that `test_torch_renderer_equals_cpu_renderer` compares."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from models.engines.warp.painting.fields import NUM_CONTROLS
from models.engines.warp.painting.lip_coordinates import lip_axes, part_jaws
from models.engines.warp.painting.lips import Lips
from models.engines.warp.painting.planes import Box, halve
from models.engines.warp.painting.sampling import sample_cubic, sample_linear
from models.engines.warp.painting.splines import spline_fields
from models.geometry.thin_plate import RIDGE

_PARTS = """
from models.engines.warp.painting.plane_kernels import inline

FACTOR, OFFSET = {factor}, {offset}

@inline
def scaled(value):
    return FACTOR * value
"""
_LOOPS = """
from models.engines.warp.painting.plane_kernels import kernel
from parts_of_loops import OFFSET, scaled

@kernel("void(f8[::1])")
def change(values):
    for i in range(len(values)):
        values[i] = scaled(values[i]) + OFFSET
"""


def _changed(folder: Path, factor: float, offset: float) -> tuple[float, int]:
    """Writes and imports the modules; returns what 1 becomes, and how many functions the cache provided."""
    (folder / "parts_of_loops.py").write_text(_PARTS.format(factor=factor, offset=offset))
    for name in ("parts_of_loops", "loops"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    change, values = importlib.import_module("loops").change, np.ones(1)
    change(values)
    return float(values[0]), sum(change.stats.cache_hits.values())


def test_kernel_changed_constant_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # its age is counted in seconds
    (tmp_path / "loops.py").write_text(_LOOPS)
    assert _changed(tmp_path, 2.0, 0.5) == (2.5, 0)
    assert _changed(tmp_path, 2.0, 0.5) == (2.5, 1)
    assert _changed(tmp_path, 3.0, 0.5) == (3.5, 0)
    assert _changed(tmp_path, 3.0, 0.25) == (3.25, 0)


def test_sample_positions_beyond_edge_read_corners() -> None:
    """Farther than integers reach: a fold in a spline can throw pixels anywhere."""
    height, width = 168, 252
    y, x = np.mgrid[:height, :width]
    place = tuple(np.where(axis < axis.max() / 2, -1e30, 1e12).astype(np.float32) for axis in (x, y))
    luma = np.random.default_rng(1).integers(0, 256, (40, 60), np.uint8)
    luma.flags.writeable = False  # as in an object store
    chroma, read = np.stack([luma, 255 - luma]), np.zeros((height, width), np.uint8)
    mixed, needed = np.zeros((2, height // 2, width // 2), np.uint8), np.ones((12, 18), np.uint8)
    sample_cubic(luma, place, needed, read)
    sample_linear(chroma, place, needed, mixed)
    corners = np.ix_(np.where(y[:, 0] < height / 2, 0, 39), np.where(x[0] < width / 2, 0, 59))
    np.testing.assert_array_equal(read, luma[corners])
    np.testing.assert_array_equal(mixed, [plane[corners][::2, ::2] for plane in chroma])


@pytest.mark.parametrize("shift", [(0, 400), (0, -400), (400, 0), (-400, -400)])
def test_lips_find_lips_outside_box_have_no_opening(shift: tuple[int, int]) -> None:
    """As in turned heads, of whose mouth mask only a part is left. The fade of chroma halves the opening."""
    x = np.linspace(-50, 50, 11)
    arch = 1 - (x / 50) ** 2
    upper, lower = (np.stack([120 + x + shift[0], 80 + gap * arch + shift[1]], 1)[None] for gap in (-16, 24))
    axes = part_jaws(lip_axes(upper, lower), np.full((1, 65), 12, np.float32), np.array([0.6], np.float32))
    lips = Lips.find(axes, Box(0, 2, 30, 22), 8, 160.0, 0.0, 1.0, 0.0)
    assert not lips.opening.any()
    assert not halve(lips.opening).any()


def test_spline_coincident_points_raise() -> None:
    points = np.zeros((NUM_CONTROLS, 2))
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        spline_fields(points, points, np.full(NUM_CONTROLS, RIDGE), 224)
