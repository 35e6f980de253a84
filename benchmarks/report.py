"""Prints the results of `benchmarks.render` as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_results(results: dict[str, Any]) -> None:
    """Prints the content of `benchmarks/results.json`."""
    console = Console()
    table = Table("size", "stage", "CPU ms a frame", title="In one process, cached avatar")
    for size, figures in results["stages"].items():
        _add_costs(table, size, figures["stages_cpu_ms_per_frame"], figures)
    console.print(table)
    if (graph := results.get("graph")) is None:
        return
    table = Table("size", "process", "CPU ms a frame", title=f"Ray Serve, job of {results['seconds']:g} s")
    for size in results["stages"]:
        job = graph[size]["job"]
        _add_costs(table, size, job["cpu_ms_per_frame_by_process"], graph[size])
        console.print(
            f"{size}: {job['wall_s']} s for {job['num_frames']:g} frames, first segment {job['first_segment_s']} s."
        )
    console.print(table)
    console.print(f"Ready after {graph['ready_s']} s; idle: {graph['idle_cpu_seconds_per_second']} CPU s per second.")
    console.print(_memory_table(graph["memory"]))


def _add_costs(table: Table, size: str, costs: dict[str, float], figures: dict[str, Any]) -> None:
    for name, ms in costs.items():
        table.add_row(size, name, f"{ms:.2f}")
    total = sum(costs.values())
    ratios = (
        f"{total / ms:.2f} x {what} of {ms:.2f}"
        for what, ms in (
            ("the floor", figures["floor_cpu_ms_per_frame"]),
            ("decoding and x264 veryfast, crf 20,", figures["veryfast_cpu_ms_per_frame"]),
        )
    )
    table.add_row(size, "total", "\n= ".join([f"{total:.2f}", *ratios]), end_section=True)


def _memory_table(memory: dict[str, Any]) -> Table:
    short, long = (key for key in memory if key != "size")
    table = Table("process", short, long, "ratio", title=f"Peak unique memory, MiB, {memory['size']}")
    for process, mib in memory[long]["uss_mib"].items():
        before = memory[short]["uss_mib"].get(process)
        ratio = f"{mib / before:.2f}" if before else ""
        table.add_row(process, f"{before or 0:.0f}", f"{mib:.0f}", ratio)
    return table
