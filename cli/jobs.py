"""`lipwright jobs`: the jobs of a running service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from cli.local_service import ANY_SERVER, Server
from cli.report import print_report
from cli.terminal import AsJson, commands, console, name, service, timestamp
from errors import NotFoundError
from lipwright_client import Job

app = commands(help="Manage the jobs of a running service.")


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
    columns = ("status", "stage", "done", "frames", "created", "speech", "presenter")
    table = Table(Column("id", min_width=32), *columns, box=None)
    for job in jobs:
        frames = f"{job.num_frames_done}/{job.num_frames or '?'}"
        done, created = f"{job.progress:.0%}", timestamp(job.created_at)
        names = name(job.inputs.audio), name(job.inputs.presenter)
        table.add_row(job.id, job.status, job.stage, done, frames, created, *names)
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
    job_id: str, out: Annotated[Path, typer.Option(help="Output file (.mp4).")], server: Server = ANY_SERVER
) -> None:
    """Download the video of a finished job."""
    print(f"{out}: {service(server).jobs.download(job_id, out)} bytes")


def print_report_of(job: Job) -> None:
    """Print the quality report of a job.

    Raises:
        NotFoundError: It has none.
    """
    if job.report is None:
        raise NotFoundError(f"Job {job.id} has no quality report (stage: {job.stage}).")
    print_report(job.report, console())
