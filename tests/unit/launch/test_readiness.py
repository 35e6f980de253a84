"""The start of Ray ends in time also if Ray keeps the interpreter lock."""

from __future__ import annotations

import subprocess
import sys

_CODE = """
import ctypes
from launch.readiness import bounded_start

with bounded_start(60):
    pass
with bounded_start(0.1):
    ctypes.PyDLL(None).sleep(120)
"""


def test_bounded_start_holding_the_interpreter_lock_ends() -> None:
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Timeout (0:00:00.1")
