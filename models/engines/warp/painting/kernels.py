"""Compiles loops over pixels with Numba.

A kernel is compiled for the types in its signature when its module is imported, or loaded from the cache on disk, which
the first start of a checkout fills. Modules with kernels are therefore imported by those processes only that run them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(signature: str) -> Callable[[F], F]:
    """Compiles a function for one signature of Numba types; it runs without the GIL."""
    return _compiled(signature)


def inlined(function: F) -> F:
    """Compiles a function that kernels call, for the types that they pass."""
    compiled: F = _compiled()(function)
    return compiled


def _compiled(*signature: str) -> Callable[[F], F]:
    def compile_function(function: F) -> F:
        options = {"nogil": True, "fastmath": True, "error_model": "numpy"}
        try:
            compiled: F = numba.njit(*signature, cache=True, **options)(function)
        except RuntimeError:  # neither the folder of the module nor that of the user can be written
            compiled = numba.njit(*signature, **options)(function)
        return compiled

    return compile_function
