"""Runs jobs for commands: checks their files, shows their progress, and saves their videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cli.local_service import ResultNotSavedError
from cli.report import print_warnings
from cli.terminal import UsageError
from lipwright_client import ClientError, Job, Lipwright
from lipwright_client.calls import JobFields

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
