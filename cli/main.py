"""The `lipwright` command: speak, serve, jobs, and the commands of their own files."""

from __future__ import annotations

import json
import signal
import threading
from importlib.metadata import version as installed_version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cli.avatars import app as avatars_app
from cli.batch import batch
from cli.doctor import ObjectStoreMemory, doctor
from cli.inspect import inspect
from cli.integrations import check_extra, gradio, live_worker, mcp
from cli.jobs import app as jobs_app
from cli.jobs import print_report_of
from cli.keys import app as keys_app
from cli.live import live
from cli.local_service import service_at
from cli.models import app as models_app
from cli.terminal import SERVER_VARIABLES, UsageError, one_line_errors, service
from lipwright_client import ClientError, Job, Lipwright
from lipwright_client.calls import JobFields

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(jobs_app, name="jobs")
app.add_typer(avatars_app, name="avatars")
app.add_typer(keys_app, name="keys")
app.add_typer(models_app, name="models")
app.command()(batch)
app.command()(doctor)
app.command()(mcp)
app.command()(gradio)
app.command()(inspect)
app.command()(live)
app.command()(live_worker)

_PORT, _HEYGEM_PORT = 8000, 8383


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"lipwright {installed_version('lipwright')}")
        raise typer.Exit


@app.callback()
def lipwright(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Make a face speak."""


@app.command()
def speak(
    video: Annotated[str, typer.Option(help="The face: a video or a still portrait, as a file or a URL.")],
    out: Annotated[Path, typer.Option(help="The video to write.")],
    audio: Annotated[
        str | None, typer.Option(help="The speech: any audio file or a video with sound, or its URL.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="What to say in place of AUDIO, where the service has a voice.")
    ] = None,
    voice: Annotated[str | None, typer.Option(help="The voice that says it; the default is the service's.")] = None,
    engine: Annotated[str | None, typer.Option(help="Engine; the default is the service's.")] = None,
    face: Annotated[str, typer.Option(help="largest, an index, point:x,y or box:x0,y0,x1,y1.")] = "largest",
    face_image: Annotated[str | None, typer.Option(help="A portrait (or its URL) of the person who speaks.")] = None,
    loop: Annotated[str, typer.Option(help="pingpong, loop or hold.")] = "pingpong",
    visible_label: Annotated[
        bool, typer.Option("--visible-label", help="Write into the picture that it is synthetic.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(envvar=SERVER_VARIABLES, help="Use this service; without it, one is started here."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of a service started here.")] = None,
    report: Annotated[bool, typer.Option("--report", help="Print the quality report of the result.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the job as JSON, its quality report within.")] = False,
) -> None:
    """Make the face in VIDEO speak AUDIO, or TEXT.

    Without a server the one that works in the data folder is used, or one is started for this job.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    with one_line_errors():
        if (audio is None) == (text is None):
            raise UsageError("input_invalid", "expected either --audio or --text.")
        named = {"video": video, "audio": audio, "face_image": face_image}
        inputs = {name: value for name, value in named.items() if value}
        files = {name: Path(value) for name, value in inputs.items() if "://" not in value}
        _check_paths(files, out)
        fields: JobFields = {"video": video, "face": face, "loop": loop}
        if audio:
            fields["audio"] = audio
        if text:
            fields["text"] = text
        if voice:
            fields["voice"] = voice
        if visible_label:
            fields["visible_label"] = True
        if face_image:
            fields["face_image"] = face_image
        if engine:
            fields["engine"] = engine
        if not server:
            _check_media(files)  # seconds before a service that is started for them could say it
        with service_at(server, data_dir) as base_url:
            job, num_bytes = _run_job(service(base_url), out, fields)
        whole = json.dumps({**job.raw, "out": str(out), "num_bytes": num_bytes}, indent=2)
        print(whole if as_json else f"{out}: {job.num_frames} frames, {num_bytes} bytes", flush=True)
        if report and not as_json:
            print_report_of(job)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; loopback unless told otherwise.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="TCP port; 0 takes a free one.", show_default="8000, or 8383 with --heygem")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where jobs and files lie.")] = None,
    config: Annotated[Path | None, typer.Option(help="A Serve config instead of the one for this machine.")] = None,
    object_store_memory: ObjectStoreMemory = None,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="TCP port of the metrics for Prometheus; 0 takes a free one.")
    ] = 0,
    allow_without_keys: Annotated[
        bool, typer.Option("--allow-without-keys", help="Serve other machines though there is no API key.")
    ] = False,
    heygem: Annotated[bool, typer.Option("--heygem", help="Answer clients of HeyGem and Duix, too (/easy/*).")] = False,
    heygem_root: Annotated[
        Path | None, typer.Option(help="The folder that those clients know as /code/data; implies --heygem.")
    ] = None,
    heygem_strict: Annotated[
        bool, typer.Option("--heygem-strict", help="Busy instead of queued, and final answers once; implies --heygem.")
    ] = False,
    gradio_page: Annotated[
        bool, typer.Option("--gradio", help="Show a page by Gradio at /gradio, too; needs the extra `gradio`.")
    ] = False,
) -> None:
    """Run the service here until Ctrl-C."""
    from launch.service import NodeOptions, running_service

    signal.signal(signal.SIGTERM, _interrupt)
    node = NodeOptions(object_store_memory, metrics_port or None)
    with one_line_errors():
        door = _heygem(heygem, heygem_root, heygem_strict)
        if gradio_page:
            check_extra("gradio")
        port = (_HEYGEM_PORT if door else _PORT) if port is None else port
        with running_service(host, port, data_dir, config, False, node, allow_without_keys, door, gradio_page) as url:
            metrics = f"; metrics: port {metrics_port}, /metrics" if metrics_port else ""
            print(f"Lipwright serves at {url} (API: {url}/docs{metrics}). Ctrl-C ends it.", flush=True)
            threading.Event().wait()


class _StageBars:
    """One bar for each stage that a job goes through: rendering counts frames, the others only run."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._stage = ""
        self._task = TaskID(0)

    def show(self, job: Job) -> None:
        """Follow `job` to its present stage and progress."""
        if job.stage != self._stage:
            if self._stage:
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


def _run_job(client: Lipwright, out: Path, fields: JobFields) -> tuple[Job, int]:
    """Submit, follow and download one job; Ctrl-C cancels it. Returns the job and the bytes of its video."""
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.fields[frames]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        job = client.speak(on_change=_StageBars(bar).show, **fields)
    try:
        return job, client.jobs.download(job.id, out)
    except ClientError:
        raise
    except OSError as error:
        again = f"The result is kept: lipwright jobs download {job.id} --out FILE.mp4"
        raise OSError(f"{out} cannot be written: {error.strerror}. {again}") from error


def _heygem(is_on: bool, root: Path | None, is_strict: bool) -> dict[str, Any]:
    """Fields of `config.HeygemConfig`; none where its door stays as the config has it."""
    if root is not None and not root.is_dir():
        raise UsageError("input_invalid", f"--heygem-root: there is no folder {root}.")
    given: dict[str, Any] = {"strict": True} if is_strict else {}
    if root is not None:
        given["root"] = str(root.absolute())
    return {"enabled": True, **given} if is_on or given else {}


def _check_media(files: dict[str, Path]) -> None:
    """Open the files as the service will, with its usual limits."""
    from config import MediaLimits
    from media.probe import probe_audio, probe_video

    for name, path in files.items():
        (probe_audio if name == "audio" else probe_video)(path, MediaLimits())


def _check_paths(files: dict[str, Path], out: Path) -> None:
    for name, path in files.items():
        option = f"--{name.replace('_', '-')}"
        if not path.is_file():
            raise UsageError("input_invalid", f"{option}: there is no file {path}.")
        if path.resolve() == out.resolve():
            raise UsageError("input_invalid", f"--out: {out} is the {option} file.")
    if out.suffix.lower() != ".mp4":
        raise UsageError("input_invalid", f"--out: expected a file that ends in .mp4, found {out}.")
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError("input_invalid", f"--out: {out} is not a file in an existing folder.")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    app()
