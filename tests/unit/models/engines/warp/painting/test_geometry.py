"""Splines, seam, masks and colour match."""

from __future__ import annotations

import numpy as np
import torch

from models.engines.warp.painting.lip_coordinates import (
    LipAxes,
    LipCoords,
    behind_lip,
    cavity,
    darken,
    inside_alpha,
    lip_axes,
    lip_coords,
    lower_layer_weight,
    part_jaws,
    smooth_cut,
)
from models.engines.warp.painting.masks import LUMA_FLOOR, blur_matrices, border_window, draw_masks, match_colour
from models.geometry import thin_plate
from models.geometry.head_frame import mean_face


def test_spline_fits_affine_map_exactly() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (3, 40, 2))
    matrix, shift = rng.normal(size=(2, 2)), rng.normal(size=2)
    weights = thin_plate.fit(np, points, points @ matrix + shift, [np.arange(40)])
    at = rng.uniform(-0.5, 0.5, (50, 2)).astype(np.float32)
    found = thin_plate.evaluate(np, points.astype(np.float32), weights.astype(np.float32), at)
    assert found.shape == (3, 50, 2)
    np.testing.assert_allclose(found, np.broadcast_to(at @ matrix + shift, found.shape), atol=2e-4)


def test_spline_layer_uses_own_points_only() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (1, 30, 2))
    values = np.zeros((1, 30, 1))
    values[:, 20:] = 1.0
    weights = thin_plate.fit(np, points, values, [np.arange(20), np.arange(20, 30)])
    found = thin_plate.evaluate(np, points.astype(np.float32), weights.astype(np.float32), points[0].astype(np.float32))
    np.testing.assert_allclose(found[0, :, 0], 0, atol=1e-3)
    np.testing.assert_allclose(found[0, :, 1], 1, atol=1e-3)


def test_spline_ignores_points_with_large_ridge() -> None:
    rng = np.random.default_rng(0)
    points, values = rng.uniform(-0.5, 0.5, (1, 30, 2)), np.zeros((1, 30, 1))
    values[:, 20:] = 1.0
    ridge = np.where(np.arange(30) < 20, thin_plate.RIDGE, 1.0)
    weights = thin_plate.fit(np, points, values, [np.arange(30)], ridge[None])
    theirs = thin_plate.fit(
        torch, torch.from_numpy(points), torch.from_numpy(values), [np.arange(30)], torch.from_numpy(ridge[None])
    )
    np.testing.assert_allclose(theirs.numpy(), weights, rtol=1e-6, atol=1e-6)
    found = thin_plate.evaluate(np, points.astype(np.float32), weights.astype(np.float32), points[0].astype(np.float32))
    assert np.abs(found[0, :20]).max() < 0.05


def _mouth(gap: float) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(20, 80, 11)
    bow = gap / 2 * (1 - ((x - 50) / 30) ** 2)
    return np.stack([x, 40 - bow], 1)[None], np.stack([x, 40 + bow], 1)[None]


def _coords(axes: LipAxes) -> LipCoords:
    """Of the pixels of a square of 100."""
    pixels = np.arange(100, dtype=np.float32)
    return lip_coords(np, axes, pixels[None, None], pixels[None, :, None])


def test_lower_layer_weight_switches_between_lips() -> None:
    coords = _coords(lip_axes(*_mouth(12.0)))
    weight, inside = lower_layer_weight(coords)[0], inside_alpha(coords)[0]
    assert weight[30, 50] == 0
    assert weight[50, 50] == 1
    assert weight[37, 50] < 0.5 < weight[43, 50]
    assert inside[40, 50] == 1
    assert inside[30, 50] == inside[50, 50] == inside[40, 10] == 0
    closed = _coords(lip_axes(*_mouth(0.0)))
    assert inside_alpha(closed).max() == 0


def test_lip_axes_are_round_between_landmarks() -> None:
    x = np.linspace(20, 80, 11)
    half_gap = 20 * np.array([0, 0.29, 0.6, 0.85, 1, 1, 1, 0.85, 0.6, 0.29, 0])
    straight = np.interp(np.linspace(20, 80, 65), x, half_gap)
    axes = lip_axes(*(np.stack([x, 40 + sign * half_gap], 1)[None] for sign in (-1, 1)))
    below = axes.lips[0, 1]
    assert np.abs(np.diff(below, 2)).max() < 0.5 * np.abs(np.diff(straight, 2)).max()
    assert np.abs(below - straight).max() < 0.03 * 20, "it opens as far as its landmarks say"
    np.testing.assert_allclose(below[[0, -1]], 0, atol=1e-5)
    np.testing.assert_allclose(axes.lips[0, 0], -below, atol=1e-5)


def test_smooth_cut_sloping_line_has_no_steps() -> None:
    x = np.linspace(20, 80, 11)
    lips = np.stack([x, 40.03 + 0.1 * (x - 50)], 1)[None]
    coords = _coords(lip_axes(lips, lips))
    luma = 100 + 50 * (lower_layer_weight(coords, 1.0) > 0.5)
    padded = np.pad(luma, ((0, 0), (1, 1), (0, 0)), mode="edge")
    smooth = smooth_cut(luma, padded[:, :-2], padded[:, 2:], coords, 1.0)
    inner = slice(25, 75)
    heights = [100 - (plane[0, :, inner] - 100).sum(0) / 50 for plane in (luma, smooth)]  # of the line, in each column
    assert np.abs(np.diff(heights[0])).max() == 1
    assert np.abs(np.diff(heights[1])).max() < 0.15
    assert (smooth_cut(luma, padded[:, :-2], padded[:, 2:], coords, 0.0) == luma).all()


def _column(gap: float, own_gap: float, bite: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower layer's share and cavity in the middle column of a mouth whose upper lip is at 40 - gap / 2."""
    axes = part_jaws(lip_axes(*_mouth(gap)), np.full((1, 65), own_gap, np.float32), np.array([bite], np.float32))
    coords = _coords(axes)
    weight = lower_layer_weight(coords)
    return weight[0, :, 50], cavity(coords, np.array([100.0]))[0, :, 50]


def test_lower_layer_weight_wider_opening_keeps_teeth_rigid() -> None:
    weight, dark = _column(gap=20, own_gap=10, bite=0.4)  # lips at 30 and 50: the jaws' parts end at 34 and begin at 44
    assert (weight[30:35] == 0).all()
    assert (weight[44:51] == 1).all()
    assert (np.diff(weight[34:45]) > 0).all()
    assert dark[39] == 1
    assert dark[30:34].max() == dark[45:51].max() == 0


def test_lower_layer_weight_smaller_opening_hides_lower_teeth() -> None:
    weight, dark = _column(gap=10, own_gap=20, bite=0.4)  # lips at 35 and 45: the upper jaw's part ends at 43
    assert (weight[35:42] == 0).all()
    assert (weight[44:46] == 1).all()
    assert dark.max() == 0


def test_cavity_thin_jaw_gap_has_no_dots() -> None:
    """A sloping gap of a pixel and a half between the jaws of a mouth that is open by twelve."""
    x = np.linspace(20, 80, 11)
    upper, lower = (np.stack([x, 40 + edge + 0.13 * (x - 50)], 1)[None] for edge in (-6, 6))
    for lip in (upper, lower):
        lip[:, [0, -1], 1] = 40 + 0.13 * (x[[0, -1]] - 50)
    axes = lip_axes(upper, lower)
    axes = part_jaws(axes, axes.lips[:, 1] - axes.lips[:, 0] - 1.5, np.array([0.5], np.float32))
    columns, rows = np.arange(35, 66, dtype=np.float32), np.arange(25, 56, dtype=np.float32)
    coords = lip_coords(np, axes, columns[None, None], rows[None, :, None])
    shown = darken(np.full((1, 31, 31), 120.0), cavity(coords, np.array([60.0])), 150.0)[0].min(0)
    assert shown.min() < 119  # there is a line ...
    assert np.ptp(shown) < 12  # ... and it is even: single dark pixels stand out by 70 levels


def test_draw_masks_are_soft_nested_and_inside_border() -> None:
    masks = draw_masks(mean_face()).astype(int)
    mouth, jaw = masks[..., 0], masks[..., 1]
    assert mouth.max() == jaw.max() == 255
    assert (mouth[jaw == 0] == 0).all()
    assert (mouth > 0).sum() < (jaw > 0).sum()
    assert abs(np.diff(mouth, axis=1)).max() < 60
    window = border_window(80)
    assert window[0].max() == window[:, -1].max() == 0
    assert window[40, 40].min() == 255


def test_colour_match_extends_rim_difference_inwards() -> None:
    rim = np.zeros((1, 1, 32, 32), np.float32)
    rim[..., 8:24, 8:24] = 1
    rim[..., 10:22, 10:22] = 0
    frame = np.full((1, 3, 32, 32), 100, np.float32)
    exemplar = frame.copy()
    exemplar[:, 0] = (100 + LUMA_FLOOR) / 1.2 - LUMA_FLOOR
    exemplar[:, 1] -= 5
    exemplar[:, :, 10:22, 10:22] = 30  # the mouth itself has no say
    gain, offset = match_colour(np, frame, exemplar, rim, blur_matrices())
    np.testing.assert_allclose(gain[0, 0, 10:22, 10:22], 1.2, rtol=1e-3)
    np.testing.assert_allclose(offset[0, 0, 10:22, 10:22], 5, rtol=1e-3)
    np.testing.assert_allclose(offset[0, 1, 10:22, 10:22], 0, atol=1e-4)


def test_lip_axes_pass_through_landmarks() -> None:
    """Landmarks of a turned head overtake each other: the later ones then stand where the first ones do."""
    rng = np.random.default_rng(4)
    x = np.linspace(-1, 1, 11) + rng.normal(0, 0.1, (6, 11))
    x[:, 0], x[:, -1] = -1, 1
    x, y = x.clip(-1, 1), np.pad(rng.uniform(-9, 9, (6, 9)), ((0, 0), (1, 1)))
    dense = np.linspace(-1, 1, 65)
    lines = np.array([np.interp(dense, *line) for line in zip(np.maximum.accumulate(x, 1), y, strict=True)])
    found, wanted = (
        lip_axes(*(np.stack([50 + 30 * across, 40 + down + gap], -1) for gap in (0, 20)))
        for across, down in ((x, y), (np.broadcast_to(dense, lines.shape), lines))
    )
    np.testing.assert_allclose(found.lips, wanted.lips, atol=1e-4)


def test_behind_lip_lower_part_moves_with_lower_lip() -> None:
    """Lips 20 pixels apart whose lower one is to sink by 16, and jaws that meet in the middle between them."""
    x = np.linspace(20, 80, 11)
    axes = lip_axes(*(np.stack([x, np.full(11, y)], 1)[None] for y in (40.0, 60.0)))
    rows = np.arange(30, 90, dtype=np.float32)
    coords = lip_coords(np, axes, np.full((1, 1, 1), 50, np.float32), rows[None, :, None])
    drop = np.full((1, len(rows), 1), 16, np.float32)
    shift, inside = (each[0, :, 0] for each in behind_lip(coords, 0.0, np.float32(0.5), drop))
    upper, between, lower = (rows > 41) & (rows < 50), (rows > 54) & (rows < 62), (rows > 66) & (rows < 75)
    assert not shift[upper].any()
    np.testing.assert_allclose(shift[lower], -16)
    np.testing.assert_allclose((rows + shift)[between], 50, atol=1e-4)
    assert inside[upper].min() == inside[lower].min() == 1
    assert inside[between].max() < 0.05
    together = behind_lip(coords, 0.0, np.float32(1.0), drop)
    alone = behind_lip(coords, 0.0, np.float32(0.5), np.zeros_like(drop))
    for some, others in zip(together, alone, strict=True):
        np.testing.assert_allclose(some[0, rows < 60, 0], others[0, rows < 60, 0], atol=1e-4)
