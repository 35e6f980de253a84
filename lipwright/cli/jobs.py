"""`lipwright jobs`: the jobs of a running service."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from lipwright.cli.draft_file import apply_changes, draft_changes, draft_text, long_texts, print_result, turn_table
from lipwright.cli.job_options import with_job_options
from lipwright.cli.local_service import ANY_SERVER, LocalDataDir, OptionalServer, Server, service_at
from lipwright.cli.run_job import check_input, check_writable, print_report, progress_bars, save_video
from lipwright.cli.terminal import AsJson, UsageError, commands, console, interrupt_on_sigterm, name, service, timestamp
from lipwright.errors import NotFoundError
from lipwright.jobs.model.edits import RevisedSettings
from lipwright_client import Job, Lipwright
from lipwright_client.calls import RevisionFields, format_of

app = commands(help="Manage the jobs of a running service.")

_Out = Annotated[Path | None, typer.Option(help="Output file, with the suffix of the job's format.")]
_NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the video.")]


@app.command("list")
def list_jobs(
    server: Server = ANY_SERVER,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    status: Annotated[str | None, typer.Option(help="Filter by status.")] = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    jobs = service(server).jobs.list(limit, status)
    if as_json:
        print(json.dumps([job.raw for job in jobs], indent=2))
        return
    columns = ("status", "stage", "done", "texts", "frames", "created", "speech", "source")
    table = Table(Column("id", min_width=32), *columns, box=None)
    for job in jobs:
        frames = f"{job.num_frames_done}/{job.num_frames or '?'}"
        texts = f"{job.num_cues_done}/{job.num_cues}" if job.num_cues else ""
        done, created = f"{job.progress:.0%}", timestamp(job.created_at)
        names = name(job.inputs.audio), name(job.inputs.source)
        table.add_row(job.id, job.status, job.stage, done, texts, frames, created, *names)
    console().print(table)


@app.command("show")
def show_job(job_id: str, server: Server = ANY_SERVER) -> None:
    """Show a job as JSON."""
    print(json.dumps(service(server).jobs.get(job_id).raw, indent=2))


@app.command("report")
def report_job(job_id: str, server: Server = ANY_SERVER, as_json: AsJson = False) -> None:
    """Show the quality report of a job."""
    job = service(server).jobs.get(job_id)
    if as_json and job.report is not None:
        print(json.dumps(job.report, indent=2))
    else:
        print_report_of(job)


@app.command("cancel")
def cancel_job(job_id: str, server: Server = ANY_SERVER) -> None:
    """Cancel a job."""
    print(service(server).jobs.cancel(job_id).status)


@app.command("delete")
def delete_job(job_id: str, server: Server = ANY_SERVER) -> None:
    """Delete a job with its files. Cancels an unfinished job first."""
    service(server).jobs.delete(job_id)
    print("removed")


@app.command("download")
def download_job(
    job_id: str, out: Annotated[Path, typer.Option(help="Output file.")], server: Server = ANY_SERVER
) -> None:
    """Download the video of a finished job."""
    print(f"{out}: {service(server).jobs.download(job_id, out)} bytes")


@app.command("turns")
def list_turns(
    job_id: str,
    server: Server = ANY_SERVER,
    srt: Annotated[
        Path | None, typer.Option(help="Write the texts to this SRT file, to change them for `approve` or `revise`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the turns of a job: who says what when, and which texts are too long."""
    turns = service(server).jobs.turns(job_id)
    if srt is not None:
        srt.write_text(draft_text(turns.turns), encoding="utf-8")
    if as_json:
        print(json.dumps(turns.raw, indent=2))
        return
    console().print(turn_table(turns.turns))
    for line in long_texts(turns.turns):
        print(line)


@app.command("approve")
def approve_job(
    job_id: str,
    subtitles: Annotated[
        Path | None,
        typer.Option(
            help="The SRT file of `lipwright dub --review`, as you have changed it. Texts are spoken again where they "
            "have changed; `NAME: ` in front of a text chooses its speaker."
        ),
    ] = None,
    out: _Out = None,
    no_wait: _NoWait = False,
    server: OptionalServer = None,
    data_dir: LocalDataDir = None,
    as_json: AsJson = False,
) -> None:
    """Render a job in review, with the changes of a subtitle file.

    Without --server, uses the service running in the data folder or starts one for this job. Ctrl-C ends the command;
    the job continues.
    """
    _check_files(subtitles, out, no_wait)
    with service_at(server, data_dir) as base_url:
        client = service(base_url)
        _check_format(client, job_id, out)
        if subtitles is not None:
            _apply_file(client, job_id, subtitles.read_bytes())
        _show_result(client, client.jobs.approve(job_id), out, as_json)


def revise_job(
    job_id: str,
    fields: dict[str, object],
    subtitles: Annotated[
        Path | None, typer.Option(help="The SRT file of `lipwright jobs turns --srt`, as you have changed it.")
    ] = None,
    out: _Out = None,
    no_wait: _NoWait = False,
    server: OptionalServer = None,
    data_dir: LocalDataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a new video of a finished job, with other texts or options. What stays the same is not rendered again.

    Without --server, uses the service running in the data folder or starts one for this job. Ctrl-C ends the command;
    the new job continues.
    """
    _check_files(subtitles, out, no_wait)
    with service_at(server, data_dir) as base_url:
        client = service(base_url)
        _check_format(client, job_id, out)
        changes: RevisionFields = {"settings": fields} if fields else {}
        if subtitles is not None:
            changes |= draft_changes(client.jobs.turns(job_id).turns, subtitles.read_bytes()).revision()
        if not changes:
            raise UsageError("input_invalid", "nothing changes: pass a changed --subtitles file, or an option.")
        job = client.jobs.revise(job_id, **changes)
        print(f"Job {job.id} revises {job_id}.", file=sys.stderr)
        _show_result(client, job, out, as_json)


app.command("revise")(with_job_options(revise_job, RevisedSettings.model_fields))


def _check_files(subtitles: Path | None, out: Path | None, no_wait: bool) -> None:
    """Check the files of a command that renders a job whose texts were changed; UsageError if one cannot be used."""
    interrupt_on_sigterm()
    if (out is None) != no_wait:
        raise UsageError("input_invalid", "pass either --out or --no-wait.")
    if subtitles is not None:
        check_input("--subtitles", subtitles)
    if out is not None:
        check_writable(out)


def _check_format(client: Lipwright, job_id: str, out: Path | None) -> None:
    """Raise UploadError if the output file has not the suffix of the job's format."""
    if out is not None:
        format_of(out.suffix, str(client.jobs.get(job_id).options.get("format", "mp4")))


def _show_result(client: Lipwright, job: Job, out: Path | None, as_json: bool) -> None:
    """Wait for the video and save it to `out`; without it, print the job."""
    if out is None:
        print(json.dumps(job.raw, indent=2) if as_json else job.status)
        return
    job = _wait_for_video(client, job.id)
    print_result(job, out, save_video(client, job, out), as_json)


def _apply_file(client: Lipwright, job_id: str, content: bytes) -> None:
    """Change the turns of a job in review as a subtitle file says."""
    turns = client.jobs.turns(job_id)
    changes = draft_changes(turns.turns, content)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("changing texts", total=len(changes))
        turns = apply_changes(client, job_id, turns, changes, lambda: bar.advance(task))
    for line in long_texts(turns.turns):
        print(line, file=sys.stderr)


def _wait_for_video(client: Lipwright, job_id: str) -> Job:
    """Wait until a job has succeeded, and return it; Ctrl-C does not cancel it."""
    try:
        with progress_bars("queued") as show:
            return client.jobs.wait(job_id, on_change=show).check()
    except KeyboardInterrupt:
        print(f"Job {job_id} continues: `lipwright jobs show {job_id}`.", file=sys.stderr)
        raise


def print_report_of(job: Job) -> None:
    """Print the quality report of a job.

    Raises:
        NotFoundError: It has none.
    """
    if job.report is None:
        raise NotFoundError(f"Job {job.id} has no quality report (stage: {job.stage}).")
    print_report(job.report, console())
