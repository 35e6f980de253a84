"""Runs one job for a command: checks its files, shows its progress, and saves its video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cli.local_service import ResultNotSavedError
from cli.report import print_warnings
from cli.terminal import UsageError
from lipwright_client import ClientError, Job, Lipwright
from lipwright_client.calls import JobFields


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
    """One progress bar per job stage. Only rendering counts frames."""

    def __init__(self, bar: Progress, request: str) -> None:
        """Start with a bar for the request, which ends when its job exists."""
        self._bar = bar
        self._stage = request
        self._task = bar.add_task(request, total=None, frames="")

    def show(self, job: Job) -> None:
        """Show the stage and progress of `job`."""
        if job.stage != self._stage:
            frames = f"{job.num_frames} frames" if self._stage == "rendering" else ""
            self._bar.update(self._task, total=1, completed=1, frames=frames)
            self._bar.stop_task(self._task)
            if job.is_final:
                return
            self._stage = job.stage
            self._task = self._bar.add_task(self._stage, total=None, frames="")
        if self._stage == "rendering" and job.num_frames:
            done, total = job.num_frames_done, job.num_frames
            self._bar.update(self._task, completed=done, total=total, frames=f"{done}/{total} frames")


def run_job(
    client: Lipwright, out: Path, fields: JobFields, shows_warnings: bool = True, request: str = "sending"
) -> tuple[Job, int]:
    """Submit, follow and download one job; Ctrl-C cancels it. Returns the job and the size of its video in bytes.

    The suffix of `out` is the format of the video. Warnings about it are printed on standard error. `request` says what
    the service does until it has accepted the job.
    """
    fields = {**fields, "format": out.suffix.lower().removeprefix(".")}
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.fields[frames]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        job = client.speak(on_change=_StageBars(bar, request).show, **fields)
    try:
        num_bytes = client.jobs.download(job.id, out)
    except ClientError:
        raise
    except OSError as error:
        raise ResultNotSavedError(job.id, out, error.strerror or str(error)) from error
    if shows_warnings:
        print_warnings(job)
    return job, num_bytes
