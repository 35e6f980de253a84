"""Prints results as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_WIDTH = 170  # characters


def print_table(headings: Sequence[str], *sections: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Prints a table.

    Args:
        headings: Headings of the columns.
        sections: Rows by section; lines separate the sections.
        title: Title above the table.
    """
    table = Table(*headings, title=title)
    for section in sections:
        for row in section:
            table.add_row(*row)
        table.add_section()
    Console(width=_WIDTH).print(table)


def print_results(results: dict[str, Any]) -> None:
    """Prints the content of `benchmarks/results.json`."""
    stages = {size: _costs(size, each["stages_cpu_ms_per_frame"], each) for size, each in results["stages"].items()}
    print_table(("size", "stage", "CPU ms per frame"), *stages.values(), title="In one process, cached avatar")
    if (graph := results.get("graph")) is None:
        return
    jobs = {size: graph[size]["job"] for size in stages}
    for size, job in jobs.items():
        print(f"{size}: {job['wall_s']} s for {job['num_frames']:g} frames, first segment {job['first_segment_s']} s.")
    costs = [_costs(size, job["cpu_ms_per_frame_by_process"], graph[size]) for size, job in jobs.items()]
    print_table(("size", "process", "CPU ms per frame"), *costs, title=f"Ray Serve, job of {results['seconds']:g} s")
    print(f"Ready after {graph['ready_s']} s; idle: {graph['idle_cpu_seconds_per_second']} CPU s per second.")
    _print_memory(graph["memory"])


def _costs(size: str, costs: dict[str, float], figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    total = sum(costs.values())
    ratios = (
        f"{total / figures[key]:.2f} x {what} of {figures[key]:.2f}"
        for what, key in (
            ("the floor", "floor_cpu_ms_per_frame"),
            ("decoding and x264 veryfast, crf 20,", "veryfast_cpu_ms_per_frame"),
        )
    )
    parts = [(size, name, f"{ms:.2f}") for name, ms in costs.items()]
    return [*parts, (size, "total", "\n= ".join([f"{total:.2f}", *ratios]))]


def _print_memory(memory: dict[str, Any]) -> None:
    short, long = (key for key in memory if key != "size")
    rows = []
    for process, mib in memory[long]["uss_mib"].items():
        before = memory[short]["uss_mib"].get(process)
        rows.append((process, f"{before or 0:.0f}", f"{mib:.0f}", f"{mib / before:.2f}" if before else ""))
    print_table(("process", short, long, "ratio"), rows, title=f"Peak unique memory, MiB, {memory['size']}")
