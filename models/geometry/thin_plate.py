"""Thin-plate splines: smooth interpolation of scattered points in the plane.

Bookstein, "Principal warps: thin-plate splines and the decomposition of deformations", PAMI 1989; the ridge on the
kernel is Wahba's smoothing spline. The functions work on NumPy arrays and PyTorch tensors; `xp` is the array module,
`numpy` or `torch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from models.geometry.arrays import Array

GRID = 32  # cells per side of the grid on which a field is evaluated
RIDGE = 1e-4  # slight smoothing: neighbouring landmarks jitter independently
TINY = 1e-9  # keeps log finite at distance 0; the product there is 0


def _kernel(xp: ModuleType, squared: Array) -> Array:
    """r^2 log r^2 of squared distances."""
    kernel = xp.log(squared + TINY)
    kernel *= squared
    return kernel


def _squared_distances(a: Array, b: Array) -> Array:
    """(T, M, P) of (T or 1, M, 2) and (T, P, 2) points."""
    x = a[..., 0][..., None] - b[..., 0][:, None]
    y = a[..., 1][..., None] - b[..., 1][:, None]
    x *= x
    y *= y
    x += y
    return x


def _affine(xp: ModuleType, points: Array) -> Array:
    """(T, P, 3) rows 1, x, y."""
    return xp.concatenate([xp.ones_like(points[..., :1]), points], -1)


def fit(
    xp: ModuleType, points: Array, values: Array, layers: Sequence[NDArray[np.intp]], ridge: Array | float = RIDGE
) -> Array:
    """Fit one spline per layer to the same points.

    Args:
        xp: `numpy` or `torch`.
        points: (T, P, 2) float64 in units of the region's side, roughly in [0, 1].
        values: (T, P, C) float64 target values at the points.
        layers: For each of L layers, the rows of the points it uses.
        ridge: Smoothing, of all points or (T, P) of each: the larger, the less a spline follows the point.

    Returns:
        (T, P + 3, L * C) float64 weights for `evaluate`; rows that a layer does not use are zero.
    """
    num_points = points.shape[1]
    affine = _affine(xp, points)  # (T, P, 3)
    kernel = _kernel(xp, _squared_distances(points, points))  # (T, P, P)
    kernel += (ridge * xp.ones_like(points[..., 0]))[..., None] * xp.diag(xp.ones_like(points[0, :, 0]))
    above = xp.concatenate([kernel, affine], -1)
    below = xp.concatenate([affine.swapaxes(1, 2), xp.zeros_like(affine[:, :3])], -1)
    system = xp.concatenate([above, below], 1)  # (T, P + 3, P + 3)
    wanted = xp.concatenate([values, xp.zeros_like(values[:, :3])], 1)  # (T, P + 3, C)
    weights = xp.concatenate([xp.zeros_like(wanted)] * len(layers), -1)
    for k, seen in enumerate(layers):
        rows = np.concatenate([seen, np.arange(num_points, num_points + 3)])
        solution = xp.linalg.solve(system[:, rows][:, :, rows], wanted[:, rows])
        weights[:, rows, k * values.shape[-1] : (k + 1) * values.shape[-1]] = solution
    return weights


def evaluate(xp: ModuleType, points: Array, weights: Array, at: Array) -> Array:
    """Evaluate splines at given positions.

    Args:
        xp: `numpy` or `torch`.
        points: (T, P, 2) float32, the points passed to `fit`.
        weights: (T, P + 3, C) float32 from `fit`.
        at: (M, 2) float32 positions.

    Returns:
        (T, M, C) float32.
    """
    num_points = points.shape[1]
    kernel = _kernel(xp, _squared_distances(at[None], points))  # (T, M, P)
    return kernel @ weights[:, :num_points] + _affine(xp, at) @ weights[:, num_points:]
