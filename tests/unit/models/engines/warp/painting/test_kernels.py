"""Compiled functions are cached on disk, and compiled again when something that they use changes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

_PARTS = """
from models.engines.warp.painting.kernels import inline

FACTOR, OFFSET = {factor}, {offset}

@inline
def scaled(value):
    return FACTOR * value
"""
_LOOPS = """
from models.engines.warp.painting.kernels import kernel
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
