"""The `lipwright` command: `speak`, `serve`, and the commands of the other modules."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from cluster.drain import drain
from lipwright.cli.avatars import app as avatars_app
from lipwright.cli.batch import batch
from lipwright.cli.doctor import doctor
from lipwright.cli.draft_file import print_result
from lipwright.cli.dub import dub
from lipwright.cli.inspect import inspect
from lipwright.cli.integrations import live_worker, mcp
from lipwright.cli.job_options import local_files, with_job_options
from lipwright.cli.jobs import app as jobs_app
from lipwright.cli.jobs import print_report_of
from lipwright.cli.keys import app as keys_app
from lipwright.cli.live import live
from lipwright.cli.local_service import LocalDataDir, OptionalServer, service_at
from lipwright.cli.models import app as models_app
from lipwright.cli.run_job import VideoOut, check_paths, make_job, save_video
from lipwright.cli.serve import serve
from lipwright.cli.terminal import UsageError, commands, interrupt_on_sigterm, service
from lipwright.cli.voices import app as voices_app
from lipwright_client.calls import JobFields

app = commands(add_completion=False, pretty_exceptions_enable=False)
app.add_typer(jobs_app, name="jobs")
app.add_typer(avatars_app, name="avatars")
app.add_typer(keys_app, name="keys")
app.add_typer(models_app, name="models")
app.add_typer(voices_app, name="voices")
app.command()(batch)
app.command()(doctor)
app.command()(drain)
app.command()(dub)
app.command()(mcp)
app.command()(serve)
app.command()(inspect)
app.command()(live)
app.command()(live_worker)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"lipwright {installed_version('lipwright')}")
        raise typer.Exit


@app.callback()
def lipwright(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Lip-sync a video or photo to speech."""


@app.command()
@with_job_options
def speak(
    fields: JobFields,
    out: VideoOut,
    server: OptionalServer = None,
    data_dir: LocalDataDir = None,
    report: Annotated[bool, typer.Option("--report", help="Print the quality report.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the job as JSON, including the quality report.")
    ] = False,
) -> None:
    """Lip-sync a video or portrait to speech: VIDEO or AVATAR_ID to AUDIO or TEXT.

    Without --server, uses the service running in the data folder or starts one for this job.
    """
    interrupt_on_sigterm()
    if ("audio" in fields) == ("text" in fields):
        raise UsageError("input_invalid", "pass either --audio or --text.")
    if ("video" in fields) == ("avatar_id" in fields):
        raise UsageError("input_invalid", "pass either --video or --avatar-id.")
    files = local_files(fields)
    check_paths(files, out)
    if not server:
        _check_media(files)  # fails seconds earlier than a service that still has to start
    with service_at(server, data_dir) as base_url:
        client = service(base_url)
        job = make_job(client, out, fields)
        num_bytes = save_video(client, job, out, shows_warnings=as_json or not report)
    print_result(job, out, num_bytes, as_json)
    if report and not as_json:
        print_report_of(job)


def _check_media(files: dict[str, Path]) -> None:
    """Open the files as the service does, with its default limits."""
    from lipwright.config import MediaLimits
    from lipwright.media.probe import probe_audio, probe_video

    for name, path in files.items():
        (probe_audio if name in ("audio", "music") else probe_video)(path, MediaLimits())
