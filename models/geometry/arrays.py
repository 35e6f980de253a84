"""The type of arrays in functions that run on NumPy and on PyTorch alike."""

from __future__ import annotations

from typing import Any, TypeAlias

Array: TypeAlias = Any
"""A NumPy array or a PyTorch tensor. `Any`, because the type information of the two libraries has no common base."""
