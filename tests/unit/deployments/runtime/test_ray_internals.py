"""Forked workers must not draw the same ids."""

from __future__ import annotations

import subprocess
import sys

_CODE = """
import ray
from deployments.runtime.ray_internals import draws_own_ids, ids_of_classes_from_system

class Counter:
    pass

with ids_of_classes_from_system():
    ray.remote(Counter)
print(draws_own_ids())
ray.remote(Counter)
print(draws_own_ids())
"""


def test_ids_that_are_drawn_before_a_fork_repeat_and_this_is_noticed() -> None:
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["True", "False"], done.stderr
