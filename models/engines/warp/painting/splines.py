"""The splines of one face on the CPU: the same as `thin_plate.fit` and `thin_plate.evaluate`, in a third of the time.

Points are ordered so that each layer is a slice of them: those of the upper layer alone, of both, of the lower one.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.painting.fields import LOWER_ROWS, UPPER_ROWS, grid_points
from models.engines.warp.painting.plane_kernels import kernel
from models.engines.warp.painting.planes import F32
from models.geometry.thin_plate import GRID, TINY

F64 = NDArray[np.float64]
# Times the outer product of the affine terms, added to the kernel matrix. It leaves the solution unchanged, because
# weights are orthogonal to these terms, and makes the matrix positive definite, so that Cholesky's method can be used.
_AFFINE_WEIGHT: Final = 10.0
# Floats as integers: exponents start at bit 23, and the square root of one half, below which a mantissa is doubled.
_EXPONENT, _ROOT = 23, np.int32(0x3F3504F3)
_LN2 = np.float32(np.log(2))
_THIRD, _FIFTH, _SEVENTH, _NINTH = (np.float32(1 / odd) for odd in (3, 5, 7, 9))
_U1, _U2 = np.uint64(1), np.uint64(2)
_ONE, _TWO, _TINY = np.float32(1), np.float32(2), np.float32(TINY)


class _Order(NamedTuple):
    rows: NDArray[np.intp]  # (P,) control points, in the order described above
    num_upper: int  # of the upper layer alone
    num_both: int

    @property
    def layers(self) -> tuple[slice, slice]:
        """Return the points of the upper and of the lower layer."""
        return slice(0, self.num_upper + self.num_both), slice(self.num_upper, len(self.rows))


@cache
def _order() -> _Order:
    upper, lower = np.setdiff1d(UPPER_ROWS, LOWER_ROWS), np.setdiff1d(LOWER_ROWS, UPPER_ROWS)
    both = np.intersect1d(UPPER_ROWS, LOWER_ROWS)
    return _Order(np.concatenate([upper, both, lower]), len(upper), len(both))


def spline_fields(points: F64, values: F64, ridge: F64, size: int) -> F32:
    """Fit splines to the control points of a face and evaluate them at the cell centres.

    Args:
        points: (P, 2) `FieldProblem.points`.
        values: (P, C) `FieldProblem.values`.
        ridge: (P,) `FieldProblem.ridge`.
        size: Pixels per side of the region.

    Returns:
        (2, C, 32, 32) float32 fields of the upper and of the lower layer.

    Raises:
        numpy.linalg.LinAlgError: The points are (almost) on one line, or spread over more than about 2.5 regions, where
            the errors of float32 distances exceed the ridge.
    """
    order = _order()
    points, values, ridge = points[order.rows], values[order.rows], ridge[order.rows]
    num, num_channels = values.shape
    basis, both = _basis(points, size), order.num_upper + order.num_both
    system, affine = _system(points, ridge)
    fields = np.zeros((2, num_channels, GRID * GRID), np.float32)
    for field, layer, start in zip(fields, order.layers, (both, order.num_both), strict=True):
        weights, plane = _solve(system[layer, layer], values[layer], affine[layer])
        # In the order of the basis, which has the affine terms behind the points of both layers
        rows = np.concatenate([weights[:start], plane, weights[start:]])
        _multiply(rows.T.astype(np.float32, order="C"), basis[layer.start : layer.stop + 3], field)
    return fields.reshape(2, num_channels, GRID, GRID)


def _system(points: F64, ridge: F64) -> tuple[F64, F64]:
    """Return the positive definite (P, P) system of the points, and their (P, 3) affine terms."""
    x, y = np.ascontiguousarray(points.T, np.float32)
    kernel_matrix = np.empty((len(points), len(points)), np.float32)
    _radial_basis(x, y, x, y, kernel_matrix)
    affine, system = np.ones((len(points), 3)), np.empty(kernel_matrix.shape)
    affine[:, 1:] = points
    _add_terms(kernel_matrix, affine, ridge, system)
    return system, affine


@kernel("void(f4[:,::1], f8[:,::1], f8[::1], f8[:,::1])")
def _add_terms(kernel_matrix: F32, affine: F64, ridge: F64, system: F64) -> None:
    """Fill `system` with the kernel matrix, the weighted outer product of the affine terms, and the ridge."""
    num = len(affine)
    for row in range(num):
        _, x, y = affine[row]
        for i in range(np.uint64(num)):
            product = 1.0 + x * affine[i, _U1] + y * affine[i, _U2]
            system[row, i] = _AFFINE_WEIGHT * product + np.float64(kernel_matrix[row, i])
        system[row, row] += ridge[row]


def _solve(system: F64, values: F64, affine: F64) -> tuple[F64, F64]:
    """Return (n, C) weights and (3, C) affine coefficients of one layer with n points."""
    from scipy.linalg.lapack import dposv  # adds a tenth of a second to the start of processes that fit no splines

    num_channels = values.shape[1]
    wanted = np.asfortranarray(np.hstack([values, affine]))
    # Symmetric, so its transpose is the same matrix in LAPACK's order of columns.
    _, solution, failed = dposv(np.ascontiguousarray(system).T, wanted, overwrite_a=True, overwrite_b=True)
    # Block elimination: the affine coefficients are those that make the weights orthogonal to the affine terms.
    of_values, of_affine = solution[:, :num_channels], solution[:, num_channels:]
    _, coefficients, flat = dposv(affine.T @ of_affine, affine.T @ of_values)
    if failed or flat:
        raise np.linalg.LinAlgError(f"The spline of {len(values)} points is singular.")
    return of_values - of_affine @ coefficients, coefficients


def _basis(points: F64, size: int) -> F32:
    """Return (P + 3, 1024) values of the radial basis functions at the cell centres, affine terms in their place."""
    x, y = np.ascontiguousarray(points.T, np.float32)
    columns, rows = _cell_centres(size)
    both = _order().num_upper + _order().num_both
    basis = np.empty((len(points) + 3, GRID * GRID), np.float32)
    _radial_basis(x[:both], y[:both], columns, rows, basis[:both])
    basis[both], basis[both + 1], basis[both + 2] = 1, columns, rows
    _radial_basis(x[both:], y[both:], columns, rows, basis[both + 3 :])
    return basis


@cache
def _cell_centres(size: int) -> F32:
    return np.ascontiguousarray(grid_points(size).T)


@kernel("void(f4[::1], f4[::1], f4[::1], f4[::1], f4[:,::1])")
def _radial_basis(x: F32, y: F32, columns: F32, rows: F32, out: F32) -> None:
    """Fill (P, M) `out` with r^2 log r^2 of the distances of P points and M positions.

    The logarithm of the mantissa m is its series in (m - 1) / (m + 1), exact to 1e-7.
    """
    num = len(columns)
    # One by one: rows of an array have no known stride in Numba
    squared, exponents, mantissas = np.empty(num, np.float32), np.empty(num, np.float32), np.empty(num, np.float32)
    bits, mantissa_bits = squared.view(np.int32), mantissas.view(np.int32)
    for point in range(len(x)):
        for i in range(np.uint64(num)):
            across, down = columns[i] - x[point], rows[i] - y[point]
            squared[i] = across * across + down * down + _TINY
        for i in range(np.uint64(num)):
            exponent = (bits[i] - _ROOT) >> _EXPONENT
            mantissa_bits[i], exponents[i] = bits[i] - (exponent << _EXPONENT), exponent
        for i in range(np.uint64(num)):
            s = (mantissas[i] - _ONE) / (mantissas[i] + _ONE)
            t = s * s
            series = _ONE + t * (_THIRD + t * (_FIFTH + t * (_SEVENTH + t * _NINTH)))
            out[point, i] = squared[i] * (exponents[i] * _LN2 + _TWO * s * series)


@kernel("void(f4[:,::1], f4[:,::1], f4[:,::1])")
def _multiply(a: F32, b: F32, out: F32) -> None:
    """Add the matrix product of a and b to `out`. BLAS copies b, which takes longer than multiplying a few rows."""
    num_columns = np.uint64(out.shape[1])
    for k in range(0, len(b) - 3, 4):
        for row in range(len(a)):
            first, second, third, fourth = a[row, k], a[row, k + 1], a[row, k + 2], a[row, k + 3]
            for i in range(num_columns):
                out[row, i] += first * b[k, i] + second * b[k + 1, i] + third * b[k + 2, i] + fourth * b[k + 3, i]
    for k in range(len(b) // 4 * 4, len(b)):
        for row in range(len(a)):
            for i in range(num_columns):
                out[row, i] += a[row, k] * b[k, i]
