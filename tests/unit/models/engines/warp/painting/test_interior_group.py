"""Interiors drawn together against each drawn by itself."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from models.engines.warp.chunk import FaceChunk
from models.engines.warp.painting.interior import Colours, draw_interior
from models.engines.warp.painting.interior_group import draw_interiors
from models.engines.warp.painting.lip_coordinates import LipAxes, lip_axes, lip_coords, place_in
from models.engines.warp.painting.planes import Box, grid

_SIZE, _CELL = 224, 7
_NUM = 11  # more than are drawn at once
_SHOWN = 0.4 * (np.arange(_NUM) != 4)  # weights: one face shows no interior


def _axes() -> LipAxes:
    """Mouths that open more and more and move to the right; the first is closed."""
    x = np.linspace(-30, 30, 11)
    arch = 1 - (x / 30) ** 2
    edges = [[np.stack([x + 80 + 4 * k, 120 + side * k * arch], 1) for k in range(_NUM)] for side in (-1, 1)]
    upper, lower = (np.array(each) for each in edges)
    return lip_axes(upper, lower)


def _chunk() -> FaceChunk:
    rng = np.random.default_rng(3)
    arrays: dict[str, Any] = {field.name: np.zeros(0) for field in fields(FaceChunk)} | {
        "crops_y": np.zeros((1, _SIZE, _SIZE), np.uint8),
        "interior": _SHOWN.astype(np.float32),
        "eye_distance": rng.uniform(90, 110, _NUM).astype(np.float32),
        "seam": rng.uniform(100, 130, (_NUM, 2)).astype(np.float32),
        "rounding": rng.uniform(0, 1, _NUM).astype(np.float32),
        **{name: rng.uniform(90, 200, (_NUM, 3)).astype(np.float32) for name in ("skin", "lip", "teeth")},
    }
    return FaceChunk(**arrays)


def test_draw_interiors_equals_single_interiors() -> None:
    chunk, axes = _chunk(), _axes()
    drawn = draw_interiors(chunk, axes)
    assert sorted(drawn) == [face for face in range(1, _NUM) if face != 4]
    for face, interior in drawn.items():
        own, one = LipAxes(*(part[face : face + 1] for part in axes)), slice(face, face + 1)
        left = (50 + 4 * face) // (2 * _CELL) * 2
        box = Box(left, 14, left + 10, 18)  # between the corners
        coords, planes = interior.within(box)
        alone = lip_coords(np, own, *grid(box.pixels(_CELL)))
        for part, wanted in zip(coords, alone, strict=True):
            np.testing.assert_allclose(part, wanted, rtol=1e-5, atol=1e-4)
        colours = Colours(chunk.skin[one], chunk.lip[one], chunk.teeth[one])
        seam = place_in(own, chunk.seam[one])
        wanted = draw_interior(np, alone, chunk.eye_distance[one], seam, colours, chunk.rounding[one])[0]
        np.testing.assert_allclose(planes, wanted, atol=0.05)


def test_draw_interiors_skips_closed_mouths() -> None:
    chunk, axes = _chunk(), _axes()
    closed = axes._replace(lips=np.repeat(axes.lips[:, :1], 4, 1))
    assert not draw_interiors(chunk, closed)
