"""Each kernel against the same operation in whole arrays."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.engines.warp.painting.lip_coordinates import LipCoords, darken, smooth_cut
from models.engines.warp.painting.plane_kernels import (
    darken_into,
    fade_into,
    lay_chroma,
    lay_luma,
    multiply_luma,
    offset_chroma,
    padded_positions,
    sharpen_into,
    smooth_cut_into,
)
from models.engines.warp.painting.planes import F32, PAD, U8, Box
from models.geometry.thin_plate import GRID

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


_BOX, _CELL = Box(6, 4, 26, 20), 7
_ROWS, _COLUMNS = _BOX.pixels(_CELL)
_SHAPE = _ROWS.stop - _ROWS.start, _COLUMNS.stop - _COLUMNS.start
_NEAR = slice(20, 60), slice(30, 90)


def _noise(shape: tuple[int, ...], low: float, high: float, seed: int = 0) -> F32:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def _bytes(shape: tuple[int, ...], seed: int = 0) -> U8:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _enlarged(cells: F32, cell: float) -> F32:
    """The box of padded cells, enlarged by OpenCV."""
    size = round(len(cells) * cell)
    rows, columns = _BOX.pixels(cell)
    first = round(PAD * cell)
    whole = np.asarray(cv2.resize(cells, (size, size)), np.float32)
    return whole[first + rows.start : first + rows.stop, first + columns.start : first + columns.stop]


def test_padded_positions_repeat_edge() -> None:
    shifts = _noise((2, 4, GRID, GRID), -20, 20)
    found = padded_positions(shifts, _CELL)
    centres = (np.arange(-PAD, GRID + PAD) + 0.5) * _CELL - 0.5
    wanted = np.pad(shifts, ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)), "edge")
    wanted[:, 0::2] += centres
    wanted[:, 1::2] += centres[:, None]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_colour_match_scales_luma_and_offsets_chroma() -> None:
    luma, chroma = _noise(_SHAPE, 0, 255), _bytes((_SHAPE[0] // 2, _SHAPE[1] // 2))
    cells, out = _noise((GRID + 2 * PAD,) * 2, 0.5, 1.5), np.empty(chroma.shape, np.float32)
    wanted = (luma + 8) * _enlarged(cells, _CELL) - 8
    multiply_luma(luma, cells, _CELL, _COLUMNS.start, _ROWS.start)
    np.testing.assert_allclose(luma, wanted, atol=1e-3)
    offset_chroma(chroma, cells, _CELL / 2, _COLUMNS.start // 2, _ROWS.start // 2, out)
    np.testing.assert_allclose(out, chroma + _enlarged(cells, _CELL / 2), atol=1e-3)


def test_sharpen_into_is_unsharp_mask() -> None:
    luma, out = _bytes(_SHAPE), np.empty(_SHAPE, np.float32)
    sharpen_into(luma, 0.45, out)
    soft = cv2.blur(luma.astype(np.float32), (3, 3), borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(out, luma + 0.45 * (luma - soft), atol=1e-3)


def test_fade_into_keeps_opening() -> None:
    plane, other, opening = _noise(_SHAPE, 0, 255, 1), _noise(_SHAPE, 0, 255, 2), _noise((40, 60), 0, 1)
    weight = np.full(_SHAPE, 0.3, np.float32)
    weight[_NEAR] *= 1 - opening
    wanted = plane + weight * (other - plane)
    fade_into(plane, other, 0.3, opening, _NEAR[0].start, _NEAR[1].start)
    np.testing.assert_allclose(plane, wanted, atol=1e-3)


def test_darken_into_equals_darken() -> None:
    luma, dark = _noise(_SHAPE, 0, 255), _noise((40, 60), 0, 1)
    wanted = luma.copy()
    wanted[_NEAR] = darken(luma[_NEAR], dark * np.float32(0.6), np.float32(120))
    darken_into(luma, dark, 0.6, 120.0, _NEAR[0].start, _NEAR[1].start)
    np.testing.assert_allclose(luma, wanted, atol=1e-3)


@pytest.mark.parametrize("near", [_NEAR, (slice(0, 40), slice(0, 60)), (slice(_SHAPE[0] - 40, None), slice(0, 60))])
def test_smooth_cut_into_equals_smooth_cut(near: tuple[slice, slice]) -> None:
    luma = _noise(_SHAPE, 0, 255)
    padded = np.pad(luma, ((1, 1), (0, 0)), "edge")
    above, below = padded[:-2][near], padded[2:][near]
    rows: NDArray[np.float32] = np.arange(40, dtype=np.float32)[:, None] + np.zeros(60, np.float32)
    zero = np.zeros_like(rows)
    middle: NDArray[np.float32] = np.linspace(20.3, 21.8, 60, dtype=np.float32) + zero
    coords = LipCoords(zero, rows, middle, middle, zero, zero, zero)
    wanted = luma.copy()
    wanted[near] = smooth_cut(luma[near], above, below, coords, 0.7)
    assert np.abs(wanted - luma).max() > 10
    smooth_cut_into(luma, np.subtract(rows, middle), 0.7, near[0].start, near[1].start)
    np.testing.assert_allclose(luma, wanted, atol=1e-3)


def test_lay_luma_blends_by_mask() -> None:
    size = GRID * _CELL
    below, mask = _bytes((size, size), 1), _bytes((size // 2, size // 2), 2)
    wanted, double = _noise(_SHAPE, -20, 280), cv2.resize(mask.astype(np.float32), (size, size)) / 255
    light = wanted.round().clip(0, 255)
    expected = below.astype(np.float32)
    expected[_ROWS, _COLUMNS] += double[_ROWS, _COLUMNS] * (light - expected[_ROWS, _COLUMNS])
    lay_luma(below, _COLUMNS.start, _ROWS.start, wanted, mask)
    assert np.abs(below - expected).max() < 0.51

    half = slice(_ROWS.start // 2, _ROWS.stop // 2), slice(_COLUMNS.start // 2, _COLUMNS.stop // 2)
    chroma, wanted = _bytes(mask.shape, 3), np.ascontiguousarray(wanted[::2, ::2])
    expected = chroma.astype(np.float32)
    expected[half] += mask[half] / np.float32(255) * (wanted.round().clip(0, 255) - expected[half])
    lay_chroma(chroma, half[1].start, half[0].start, wanted, mask)
    assert np.abs(chroma - expected).max() < 0.51
