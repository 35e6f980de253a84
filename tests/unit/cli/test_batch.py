"""`lipwright batch` against the API on a real socket."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import Result

from tests.unit.api_server import VIDEO_BYTES, MemoryService
from tests.unit.cli.commands import run
from tests.unit.quality_report import example_report


@pytest.fixture
def service(service: MemoryService) -> MemoryService:
    service.outcome = "video"
    return service


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "v.mp4").write_bytes(b"video")
    (tmp_path / "a.wav").write_bytes(b"sound")
    pair = {"video": "v.mp4", "audio": "a.wav"}
    pairs = [
        pair | {"out": "one.mp4", "loop": "hold"},
        pair | {"out": "two.mp4", "engine": "nonesuch"},
        pair | {"out": "memory://results/three.mp4"},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, pairs)))
    return path


def _run(manifest: Path, url: str, *options: str) -> Result:
    return run("batch", str(manifest), "--server", url, "--json", *options)


def _reports(done: Result) -> dict[int, dict[str, Any]]:
    return {report["line"]: report for report in map(json.loads, done.stdout.splitlines())}


def test_batch_writes_results_and_lists_failures(service: MemoryService, url: str, manifest: Path) -> None:
    done = _run(manifest, url)
    reports = _reports(done)
    assert done.exit_code == 1
    assert [reports[line]["status"] for line in (1, 2, 3)] == ["succeeded", "failed", "succeeded"]
    assert (manifest.parent / "one.mp4").read_bytes() == VIDEO_BYTES
    assert fsspec.filesystem("memory").cat("/results/three.mp4") == VIDEO_BYTES
    assert "3 of 3 done, 1 failed" in done.stderr
    assert f"failed: line 2, {manifest.parent / 'two.mp4'}: option_invalid: engine: expected warp" in done.stderr
    assert {request.options.loop for request in service.requests} == {"hold", "pingpong"}


def test_batch_prints_a_short_line_per_pair(service: MemoryService, url: str, manifest: Path) -> None:
    service.report = example_report()
    done = run("batch", str(manifest), "--server", url)
    lines = {line.partition(":")[0]: line for line in done.stdout.splitlines()}
    assert sorted(lines) == ["line 1", "line 2", "line 3"]
    assert re.fullmatch(rf"line 1: {manifest.parent}/one.mp4: 50 frames, \d+\.\d s", lines["line 1"])
    assert f"line 2: {manifest.parent}/two.mp4: failed (option_invalid), " in lines["line 2"]
    assert "warning: line 1: 3 frames left unchanged: no face found." in done.stderr
    record = (manifest.parent / "pairs.results.jsonl").read_text().splitlines()
    assert all("quality" in json.loads(line) for line in record if '"succeeded"' in line)


def test_batch_files_of_pairs_are_sent(tmp_path: Path, service: MemoryService, url: str, manifest: Path) -> None:
    (tmp_path / "b.wav").write_bytes(b"another sound")
    (tmp_path / "a.rttm").write_text("SPEAKER a 1 0.5 1.5 <NA> <NA> Anna <NA> <NA>\n")
    (tmp_path / "de.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nANNA: Hallo\n")
    turns = [{"start": 0, "face": "0"}, {"start": 1.5, "end": 2, "face": "1", "audio": "audio_bob", "audio_start": 0.5}]
    pair, speakers = {"video": "v.mp4", "audio": "a.wav"}, {"Anna": {"face": "1"}}
    with_turns = {**pair, "audio_bob": "b.wav", "out": "one.mp4"}
    diarized = {**pair, "diarization": "a.rttm", "speakers": speakers, "out": "two.mp4"}
    dubbed = {"video": "v.mp4", "subtitles": "de.srt", "speakers": speakers, "out": "three.mp4"}
    pairs: list[dict[str, Any]] = [{**with_turns, "turns": turns}, diarized, dubbed]
    manifest.write_text("\n".join(map(json.dumps, pairs)))
    assert _run(manifest, url, "--max-in-flight", "1").exit_code == 0
    first, second, third = service.requests
    assert {name: file.label for name, file in first.more_audio.items()} == {"audio_bob": "b.wav"}
    assert [turn.model_dump(exclude_unset=True) for turn in first.spec.turns or ()] == turns
    (turn,), (text,) = second.options.turns or (), third.options.turns or ()
    assert (turn.face, turn.start, turn.end, turn.audio_start, turn.speaker) == ("1", 0.5, 2, 0.5, "Anna")
    assert (text.face, text.text) == ("1", "Hallo")


def test_batch_interrupted_run_continues_its_jobs(service: MemoryService, url: str, manifest: Path) -> None:
    record = manifest.parent / "record.jsonl"
    _run(manifest, url, "--record", str(record))
    first, *_ = record.read_text().splitlines()
    record.write_text(first + "\n")  # as if it had been killed before anything came back
    reports = _reports(_run(manifest, url, "--record", str(record)))
    assert len(service.requests) == 2
    assert {reports[line]["job_id"] for line in (1, 3)} == {request.job_id for request in service.requests}


def test_batch_second_run_sends_only_missing_jobs(service: MemoryService, url: str, manifest: Path) -> None:
    _run(manifest, url)
    num_sent = len(service.requests)
    again = _run(manifest, url)
    assert (again.stdout, again.exit_code) == ("", 1), "a permanent failure is still reported"
    assert "failed: line 2" in again.stderr
    assert len(service.requests) == num_sent == 2
    assert set(_reports(_run(manifest, url, "--retry-failed"))) == {2}


def test_batch_invalid_manifest_exits_2_and_lists_errors(service: MemoryService, url: str, manifest: Path) -> None:
    (manifest.parent / "a.wav").unlink()
    done = _run(manifest, url)
    assert (done.exit_code, done.stdout, service.requests) == (2, "", [])
    missing = f"audio: {manifest.parent / 'a.wav'} does not exist or is not a file"
    assert done.stderr.splitlines() == [f"{manifest}:{line}: {missing}" for line in (1, 2, 3)]
    gone = _run(manifest.with_name("none.jsonl"), url)
    assert (gone.exit_code, "none.jsonl" in gone.stderr, "Traceback" in gone.output) == (2, True, False)
