"""Measures and prints the CPU time of steps, each with a lower bound."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

_NUM_ROUNDS = 3  # the fastest counts: the rest is the load of the machine


class Step(NamedTuple):
    """One row of a table, in CPU ms per frame."""

    name: str
    ms: float
    bound_ms: float
    bound: str


def print_steps(title: str, steps: Sequence[Step]) -> None:
    """Prints a table."""
    table = Table("step", "CPU ms per frame", "at least", "because", title=title)
    for step in steps:
        table.add_row(step.name, f"{step.ms:.2f}", f"{step.bound_ms:.2f}", step.bound)
    Console().print(table)


def cost(num_frames: int, work: Callable[[], object]) -> float:
    """Returns the CPU ms per frame of work on a number of frames."""
    rounds = []
    for _ in range(_NUM_ROUNDS):
        start = time.process_time()
        work()
        rounds.append((time.process_time() - start) * 1000 / num_frames)
    return min(rounds)


def drain(each: Iterable[object]) -> None:
    """Consumes an iterable."""
    for _ in each:
        pass
