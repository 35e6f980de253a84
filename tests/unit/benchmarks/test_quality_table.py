from pathlib import Path
from typing import Any

import pytest

from benchmarks.material import find_clips
from benchmarks.quality_table import ROWS, Row, markdown, medians, sections, table
from benchmarks.report import print_table


def _result(test: str, clip: str, **metrics: float) -> dict[str, Any]:
    return {"test": test, "clip": clip, "figures": {"truth_metrics": metrics}}


def test_medians_and_goals_of_a_row() -> None:
    row = Row("rest", "opening", "truth_metrics", "open_r0")
    results = [_result("rest", "a", open_r0=0.5), _result("rest", "b", open_r0=0.9)]
    results += [_result("rest", "c"), _result("split", "a", open_r0=0.1)]
    assert medians(results, row, ["a", "b", "c"]) == pytest.approx(0.7)
    assert medians(results, row, ["b", "c"]) == 0.9 and medians(results, row, ["c"]) is None
    row = Row("rest", "lag", "truth_metrics", "lag", (0.0, 0.5), absolute=True)
    assert medians([_result("rest", "a", lag=-0.8)], row, ["a"]) == 0.8 and not row.is_met(0.8)
    goals = {(0.9, 1.0): "at least 0.9", (0.0, 0.5): "at most 0.5", (0.85, 1.15): "0.85 to 1.15"}
    assert [Row("rest", "", "", "", goal).goal_text() for goal in goals] == list(goals.values())


def test_table_marks_missed_goals_and_shows_controls(capsys: pytest.CaptureFixture[str]) -> None:
    results = [_result("rest", "a", open_r0=0.5), _result("rest", "far/b", open_r0=0.95)]
    results.append(_result("control:ceiling", "a", open_r0=0.99))
    lines = table(results, {"near": ["a"], "far": ["far/b"]})
    assert lines[0][3:5] == ("near (1)", "far (1)")
    assert len(lines) == len(ROWS) + 1
    line = next(line for line in lines if line[1] == "opening, r at lag 0" and line[0] == "rest")
    assert line[3:6] == ("0.50 (missed)", "0.95", "0.99")
    assert markdown(lines).splitlines()[1] == "|" + "---|" * len(lines[0])
    lines = table([_result("rest", "a", open_r0=0.5)], {"near": ["a"]})
    print_table(lines[0], *sections(lines))
    printed = capsys.readouterr().out.splitlines()
    assert [line.count("0.50 (missed)") for line in printed if "0.50" in line] == [1]
    assert sum(line.startswith("├") for line in printed) == len({row.test for row in ROWS}) - 1


def test_find_clips_are_grouped_by_folder(tmp_path: Path) -> None:
    for name in ("Köln 1.mp4", "wild/who.mp4", "wild/far/x.mp4", "wild/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [(clip.name, clip.group) for clip in find_clips(tmp_path)]
    assert found == [("Köln 1", tmp_path.name), ("wild/who", "wild"), ("wild/far/x", "far")]
