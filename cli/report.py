"""Prints the quality report of a job as a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from lipwright_client import Job

Row = tuple[str, str, str]

_MAX_TIMES = 3  # runs of frames whose times are listed


def print_warnings(job: Job) -> None:
    """Print the warnings of a finished job on standard error."""
    for sentence in (job.report or {}).get("warnings", ()):
        print(f"warning: {sentence}", file=sys.stderr)


def print_report(report: dict[str, Any], console: Console) -> None:
    """Print a report as returned by `GET /v1/jobs/{id}`."""
    table = Table(Column("measured", no_wrap=True), Column("value", no_wrap=True), "meaning", box=None, pad_edge=False)
    for name, value, meaning in _rows(report):
        table.add_row(name, value, meaning)
    console.print(table)
    for title, sentences in (("summary", report["summary"]), ("warnings", report["warnings"] or ["none"])):
        console.print(Text(f"\n{title}", style="bold"))
        for sentence in sentences:
            console.print(Text(f"  {sentence}"))
    console.print(Text("\nmeasured by", style="bold"))
    for section, source in report["measured_by"].items():
        console.print(Text(f"  {section}: {source}"))


def _rows(report: dict[str, Any]) -> Iterator[Row]:
    yield from _source_rows(report["source"])
    yield from _mouth_rows(report["mouth"])
    yield from _face_rows(report["face"])
    exemplars, output = report["exemplars"], report["output"]
    yield (
        "exemplars",
        f"{exemplars['num_used']} of {exemplars['num_kept']}",
        "mouth images of the source that are shown",
    )
    yield "drawn teeth", _share(exemplars["drawn_interior_share"]), "share of the changed frames"
    yield "frames", str(output["num_frames"]), f"{output['fps']} per second, {output['duration_seconds']:.2f} s"
    yield "end of sound", f"{output['audio_minus_video_ms']:+.1f} ms", "after the end of the picture"


def _source_rows(source: dict[str, Any]) -> Iterator[Row]:
    yield (
        "source talks",
        "yes" if source["talks"] else "no",
        f"how far the mouth opens is taken from: {source['calibration']}",
    )
    offset, confidence = source["audio_offset_ms"], source["audio_offset_confidence"]
    found = "nothing to compare" if confidence is None else f"positive: the sound is late; confidence {confidence:.2f}"
    yield "source sound offset", "not known" if offset is None else f"{offset:+.0f} ms", found


def _mouth_rows(mouth: dict[str, Any]) -> Iterator[Row]:
    speech, silence = mouth["num_speech_frames"], mouth["num_silent_frames"]
    yield "opening, speech", _length(mouth["opening_std_speech"]), f"deviation in {speech} frames, in eye distances"
    yield "opening, silence", _length(mouth["opening_std_silence"]), f"deviation in {silence} frames, in eye distances"
    yield "open in silence", _share(mouth["open_share_silence"]), "share of the frames without speech"
    moved = mouth.get("motion_silence")
    if moved is not None:
        yield "motion in silence", f"{moved:.3f}", "variation of the mouth's brightness"
    ratio = mouth["jitter_ratio"]
    against = "" if ratio is None else f"; {ratio:.2f} times that of the source's own speech"
    yield "jitter", _length(mouth["jitter"]), f"of the lips in speech, in eye distances{against}"


def _face_rows(face: dict[str, Any]) -> Iterator[Row]:
    yield "changed", f"{face['num_frames_rewritten']} frames", ""
    for reason, num in face["num_frames_skipped"].items():
        yield "left unchanged", f"{num} frames", _when(reason, face.get("skipped", []))
    if face["eye_distance_px"] is not None:
        yield "face size", f"{face['eye_distance_px']:.0f} px", f"between the outer eye corners: {face['size']}"
        for name in ("yaw", "pitch", "roll"):
            low, high = face[f"{name}_degrees"]
            yield f"head {name}", f"{round(low):+d} to {round(high):+d}", "degrees"


def _when(reason: str, runs: list[dict[str, Any]]) -> str:
    """The reason and the times of the first runs of frames that have it."""
    times = [f"{run['start_seconds']:.2f}-{run['end_seconds']:.2f} s" for run in runs if run["reason"] == reason]
    listed = ", ".join([*times[:_MAX_TIMES], *(["..."] if len(times) > _MAX_TIMES else [])])
    return f"{reason.replace('_', ' ')}: {listed}" if listed else reason.replace("_", " ")


def _length(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
