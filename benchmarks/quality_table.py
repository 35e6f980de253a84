"""Formats the judge's metrics as a table of medians, with targets and controls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Any

_MANY = float("inf")
Figures = Mapping[str, Any]  # of one result, as written by the judge's score.py


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        test: A name of `benchmarks.quality.TESTS`.
        label: Displayed name.
        block: Block of the judge's metrics.
        metric: Name of the metric in the block.
        goal: Target range of the median, inclusive.
        absolute: Whether to compare absolute values.
    """

    test: str
    label: str
    block: str
    metric: str
    goal: tuple[float, float] | None = None
    absolute: bool = False

    def value(self, figures: Figures) -> float | None:
        """Returns the metric of one result; None if the judge could not compute it."""
        value = figures.get(self.block, {}).get(self.metric)
        if value is None:
            return None
        return abs(float(value)) if self.absolute else float(value)

    def is_met(self, value: float | None) -> bool:
        """Whether all values are within the target."""
        return value is None or self.goal is None or self.goal[0] <= value <= self.goal[1]

    def goal_text(self) -> str:
        """Returns the target as text; empty if there is none."""
        if self.goal is None:
            return ""
        low, high = self.goal
        if low == 0:
            return f"at most {high:g}"
        return f"at least {low:g}" if high in (1.0, _MANY) else f"{low:g} to {high:g}"


_PICTURE = (
    ("seam ring ratio", "pixels", "seam_ring_ratio", (0.0, 1.06)),
    ("jitter ratio", "truth_metrics", "jitter_ratio", (0.85, 1.15)),
)
ROWS: tuple[Row, ...] = (
    Row("rest", "opening, r at lag 0", "truth_metrics", "open_r0", (0.90, 1.0)),
    Row("rest", "lag, frames", "truth_metrics", "open_best_lag_frames", (0.0, 0.5), absolute=True),
    Row("rest", "opening, r at its own lag", "truth_metrics", "open_rbest", (0.90, 1.0)),
    Row("rest", "opening, ratio of spread", "truth_metrics", "open_std_ratio", (0.85, 1.15)),
    Row("rest", "width, r at lag 0", "truth_metrics", "width_r0", (0.68, 1.0)),
    Row("rest", "lip motion distance", "truth_metrics", "lmd_motion", (0.0, 0.0150)),
    Row("rest", "closure precision", "truth_metrics", "closure_precision", (0.93, 1.0)),
    Row("rest", "closure recall", "truth_metrics", "closure_recall", (0.95, 1.0)),
    Row("rest", "PSNR of the mouth, dB", "pixels", "psnr_mouth", (27.5, _MANY)),
    Row("rest", "sharpness ratio", "pixels", "sharpness_ratio", (0.85, 1.2)),
    *(Row("rest", *row) for row in _PICTURE),
    Row("split", "opening, r at lag 0", "truth_metrics", "open_r0", (0.85, 1.0)),
    Row("split", "opening, r at its own lag", "truth_metrics", "open_rbest", (0.85, 1.0)),
    Row("split", "opening, ratio of spread", "truth_metrics", "open_std_ratio", (0.85, 1.15)),
    Row("split", "width, r at lag 0", "truth_metrics", "width_r0"),
    Row("split", "lag, frames", "truth_metrics", "open_best_lag_frames", (0.0, 0.5), absolute=True),
    Row("split", "jitter ratio", "truth_metrics", "jitter_ratio", (0.85, 1.15)),
    Row("silent", "opening, spread", "motion", "open_std", (0.0, 0.002)),
    Row("silent", "share of frames open", "lipleak", "open_frac_silent", (0.0, 0.005)),
    Row("silent", "seam ring ratio", "pixels", "seam_ring_ratio", (0.0, 1.06)),
    Row("cross", "opening, spread", "motion", "open_std"),
    Row("cross", "sharpness ratio", "pixels", "sharpness_ratio"),
    Row("cross", "seam ring ratio", "pixels", "seam_ring_ratio", (0.0, 1.06)),
    Row("cross", "jitter against the source's", "motion", "jitter_vs_source", (0.85, 1.15)),
    Row("still", "opening, r at lag 0", "truth_metrics", "open_r0"),
    Row("still", "lag, frames", "truth_metrics", "open_best_lag_frames", absolute=True),
    Row("still", "opening, ratio of spread", "truth_metrics", "open_std_ratio"),
    Row("still", "jitter ratio", "truth_metrics", "jitter_ratio"),
)
_CONTROLS = ("control:ceiling", "control:unchanged")
_CONTROL_HEADS = ("control: re-encoded truth", "control: unchanged")


def medians(
    results: Sequence[Mapping[str, Any]], row: Row, clips: Iterable[str], test: str | None = None
) -> float | None:
    """Returns the median of a row over some clips; None without values.

    Args:
        results: Dicts with `test`, `clip` and `figures`.
        row: The row.
        clips: Names of the clips.
        test: Overrides the row's test, for the controls.
    """
    wanted, test = set(clips), test or row.test
    values = [row.value(r["figures"]) for r in results if r["test"] == test and r["clip"] in wanted]
    known = [value for value in values if value is not None]
    return median(known) if known else None


def table(results: Sequence[Mapping[str, Any]], groups: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Returns the rows of the table, header first: a column per group, and the controls over all clips.

    Args:
        results: Dicts with `test`, `clip` and `figures`.
        groups: Clip names by group.
    """
    clips = sorted({str(r["clip"]) for r in results})
    head = (
        "test",
        "figure",
        "goal",
        *(f"{name} ({len(members)})" for name, members in groups.items()),
        *_CONTROL_HEADS,
    )
    lines: list[tuple[str, ...]] = [head]
    for row in ROWS:
        values = [medians(results, row, members) for members in groups.values()]
        controls = _CONTROLS if row.test == "rest" else ()
        shown = [_number(medians(results, row, clips, control)) for control in controls] or [""] * len(_CONTROLS)
        marked = [_number(value) + ("" if row.is_met(value) else " (missed)") for value in values]
        lines.append((row.test, row.label, row.goal_text(), *marked, *shown))
    return lines


def sections(lines: Sequence[tuple[str, ...]]) -> list[list[tuple[str, ...]]]:
    """Returns the rows of the table without its header, by test."""
    return [list(rows) for _, rows in groupby(lines[1:], lambda line: line[0])]


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Returns the table as Markdown."""
    head, *rest = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([head, "|" + "---|" * len(lines[0]), *rest])


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
