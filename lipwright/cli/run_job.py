"""Runs jobs for commands: checks their files, shows their progress, saves their videos, prints their reports."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from lipwright.cli.local_service import ResultNotSavedError
from lipwright.cli.terminal import UsageError
from lipwright_client import ClientError, Job, Lipwright
from lipwright_client.calls import JobFields

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


VideoOut = Annotated[Path, typer.Option(help="Output file: .mp4, .webm or .mov, which also chooses the format.")]


def check_paths(files: Mapping[str, Path], out: Path) -> None:
    """Check the input files, by the names of their parameters, and the output file.

    Raises:
        UsageError: One of them cannot be used.
    """
    for name, path in files.items():
        check_input(name, path)
        if path.resolve() == out.resolve():
            raise UsageError("input_invalid", f"{name}: {path} would be overwritten by the output.")
    if out.suffix.lower() not in (".mp4", ".webm", ".mov"):
        raise UsageError("input_invalid", f"--out: {out} must end in .mp4, .webm or .mov.")
    check_writable(out)


def check_input(name: str, path: Path) -> None:
    """Raise UsageError if the file of a parameter does not exist."""
    if not path.is_file():
        raise UsageError("input_invalid", f"{name}: {path} does not exist or is not a file.")


def check_writable(out: Path) -> None:
    """Raise UsageError if the output file cannot be written."""
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError("input_invalid", f"--out: the folder of {out} does not exist.")
    try:  # the name is as long as that of the download in progress
        with NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}.", suffix=".part"):
            pass
    except OSError as error:
        raise UsageError("input_invalid", f"--out: cannot write {out}: {error.strerror}.") from error


class _StageBars:
    """One progress bar per job stage. Texts and frames are counted."""

    def __init__(self, bar: Progress, stage: str) -> None:
        self._bar = bar
        self._begin(stage)

    def show(self, job: Job) -> None:
        """Show the stage and progress of `job`."""
        if job.stage != self._stage:
            self._end()
            if job.is_final:
                return
            self._begin(job.stage)
        is_speaking = job.stage == "speaking"
        if is_speaking and job.num_cues is None:
            self._bar.update(self._task, count="preparing texts")
        elif job.count:
            done, total = (job.num_cues_done, job.num_cues) if is_speaking else (job.num_frames_done, job.num_frames)
            self._bar.update(self._task, completed=done, total=total, count=job.count)
        if job.is_waiting_for_review:
            self._end()

    def _begin(self, stage: str) -> None:
        self._stage = stage
        self._task = self._bar.add_task(stage, total=None, count="")

    def _end(self) -> None:
        self._bar.update(self._task, total=1, completed=1)
        self._bar.stop_task(self._task)


@contextmanager
def progress_bars(stage: str = "sending") -> Iterator[Callable[[Job], None]]:
    """Show progress on standard error during the block; yield a function to call with the job at every change.

    `stage` says what is done until then.
    """
    columns = (TextColumn("{task.description:<10}"), BarColumn(), TextColumn("{task.fields[count]}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        yield _StageBars(bar, stage).show


def make_job(client: Lipwright, out: Path, fields: JobFields) -> Job:
    """Submit a job and follow it to its end, or until it is in review; Ctrl-C cancels it.

    The suffix of `out` is the format of the video.
    """
    fields = {**fields, "format": out.suffix.lower().removeprefix(".")}
    with progress_bars() as show:
        return client.speak(on_change=show, **fields)


def save_video(client: Lipwright, job: Job, out: Path, shows_warnings: bool = True) -> int:
    """Download the video of a finished job and return its size in bytes. Warnings are printed on standard error.

    Raises:
        ResultNotSavedError: The file cannot be written.
    """
    try:
        num_bytes = client.jobs.download(job.id, out)
    except ClientError:
        raise
    except OSError as error:
        raise ResultNotSavedError(job.id, out, error.strerror or str(error)) from error
    if shows_warnings:
        print_warnings(job)
    return num_bytes
