"""Compiles loops over pixels with Numba.

A kernel is compiled for the types in its signature when its module is imported, or loaded from the cache on disk, which
the first start of a checkout fills. Modules with kernels are therefore imported by those processes only that run them.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from types import FunctionType
from typing import Any, Final, TypeAlias, TypeVar, cast

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
# Numbers in kernels. Loops are computed in vectors if constants are float32, because Numba otherwise uses float64, and
# indices unsigned, because negative ones count from the end.
Real: TypeAlias = float | np.floating
Whole: TypeAlias = int | np.integer
_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "fastmath": True, "error_model": "numpy"}


def kernel(*signatures: str) -> Callable[[F], F]:
    """Compile a function for signatures of Numba types; it runs without the GIL."""

    def compile_for_signatures(function: F) -> F:
        return _compile(function, list(signatures))

    return compile_for_signatures


def inline(function: F) -> F:
    """Compile a function that kernels call, for the types that they pass."""
    return _compile(function)


def _compile(function: F, signatures: list[str] | None = None) -> F:
    python = cast(FunctionType, function)
    python.__qualname__ = f"{python.__qualname__}_{_fingerprint(python)}"  # names the file in the cache

    def compile_function(cache: bool) -> F:
        decorator = numba.njit(signatures, cache=cache, **_OPTIONS)
        return cast(F, decorator(function))

    try:
        return compile_function(cache=True)
    except RuntimeError:  # Numba can write neither to the folder of the module nor to that of the user
        return compile_function(cache=False)


def _fingerprint(function: FunctionType) -> str:
    """Return a hash of the code of a function and of the numbers and compiled functions that it uses.

    Numba compiles these into the function, but drops a cached function only when the function's own file changes.
    """
    code = function.__code__
    parts = [repr(_OPTIONS), code.co_code.hex(), repr(code.co_consts)]
    for name in code.co_names:
        used = function.__globals__.get(name)
        if isinstance(used, int | float | np.number):
            parts.append(f"{name} = {used!r}")
        elif isinstance(used, numba.core.registry.CPUDispatcher):
            parts.append(used.py_func.__qualname__)  # with its own fingerprint
    return sha256("\n".join(parts).encode()).hexdigest()[:12]
