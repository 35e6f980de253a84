"""The `lipwright` command: `speak`, `serve`, and the commands of the other modules."""

from __future__ import annotations

import json
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from cli.avatars import app as avatars_app
from cli.batch import batch
from cli.doctor import doctor
from cli.dub import dub
from cli.inspect import inspect
from cli.integrations import gradio, live_worker, mcp
from cli.jobs import app as jobs_app
from cli.jobs import print_report_of
from cli.keys import app as keys_app
from cli.live import live
from cli.local_service import OptionalServer, service_at
from cli.models import app as models_app
from cli.run_job import check_paths, make_job, save_video
from cli.serve import serve
from cli.terminal import (
    Expressiveness,
    Face,
    Motion,
    UsageError,
    commands,
    interrupt_on_sigterm,
    is_file,
    service,
)
from cli.voices import app as voices_app
from lipwright_client.calls import JobFields

app = commands(add_completion=False, pretty_exceptions_enable=False)
app.add_typer(jobs_app, name="jobs")
app.add_typer(avatars_app, name="avatars")
app.add_typer(keys_app, name="keys")
app.add_typer(models_app, name="models")
app.add_typer(voices_app, name="voices")
app.command()(batch)
app.command()(doctor)
app.command()(dub)
app.command()(mcp)
app.command()(serve)
app.command()(gradio)
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
def speak(
    video: Annotated[str, typer.Option(help="The face: a video or a still portrait (file or URL).")],
    out: Annotated[Path, typer.Option(help="Output file: .mp4, .webm or .mov, which also chooses the format.")],
    audio: Annotated[
        str | None, typer.Option(help="The speech: an audio file or a video with sound (file or URL).")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Text to speak instead of AUDIO. Requires a voice on the service.")
    ] = None,
    voice: Annotated[str | None, typer.Option(help="Voice for TEXT. Default: the service's.")] = None,
    engine: Annotated[str | None, typer.Option(help="Engine. Default: the service's.")] = None,
    face: Face = "largest",
    face_image: Annotated[str | None, typer.Option(help="Portrait of the person to animate (file or URL).")] = None,
    loop: Annotated[
        str, typer.Option(help="How to fit the video to the speech: pingpong, loop, hold, cut, source or retime.")
    ] = "pingpong",
    max_audio_stretch: Annotated[
        float | None,
        typer.Option(help="With --loop retime: play the speech up to so many times faster or slower too, 1 to 1.35."),
    ] = None,
    music: Annotated[str | None, typer.Option(help="Music under the speech (file or URL).")] = None,
    music_gain: Annotated[float | None, typer.Option(metavar="DB", help="Its gain in dB (default -12).")] = None,
    background_gain: Annotated[
        float | None,
        typer.Option(metavar="DB", help="Keep the video's own sound under the speech, with this gain in dB."),
    ] = None,
    loudness: Annotated[
        float | None, typer.Option(metavar="LUFS", help="Normalize the result to this loudness, for example -16.")
    ] = None,
    expressiveness: Expressiveness = None,
    motion: Motion = None,
    size: Annotated[str | None, typer.Option(help="Size of the picture, such as 1080x1920. Default: VIDEO's.")] = None,
    crop: Annotated[
        str | None, typer.Option(help="Aspect ratio, such as 9:16; the crop follows the face that speaks.")
    ] = None,
    fps: Annotated[float | None, typer.Option(min=1, max=60, help="Frames per second. Default: VIDEO's.")] = None,
    quality: Annotated[
        str | None,
        typer.Option(help="How the video is encoded: fast (half the CPU time), balanced, or best. Default: balanced."),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(help="What is behind the person: a colour, blur, transparent (.webm, .mov), or a file or URL."),
    ] = None,
    visible_label: Annotated[
        bool, typer.Option("--visible-label", help="Add a visible mark saying that the video is AI-generated.")
    ] = False,
    server: OptionalServer = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the local service.")] = None,
    report: Annotated[bool, typer.Option("--report", help="Print the quality report.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the job as JSON, including the quality report.")
    ] = False,
) -> None:
    """Lip-sync VIDEO to AUDIO or TEXT.

    Without --server, uses the service running in the data folder or starts one for this job.
    """
    interrupt_on_sigterm()
    if (audio is None) == (text is None):
        raise UsageError("input_invalid", "pass either --audio or --text.")
    named = {"video": video, "audio": audio, "face_image": face_image, "music": music}
    named["background_file"] = background if is_file(background) else None
    inputs = {name: value for name, value in named.items() if value}
    files = {name: Path(value) for name, value in inputs.items() if "://" not in value}
    check_paths(files, out)
    fields: JobFields = {"video": video, "face": face, "loop": loop, "visible_label": visible_label or None}
    fields |= {"audio": audio or None, "face_image": face_image or None, "engine": engine or None}
    fields |= {"text": text or None, "voice": voice or None}
    fields |= {"background_gain_db": background_gain, "loudness_lufs": loudness}
    fields |= {"music": music or None, "music_gain_db": music_gain}
    fields |= {"background": None if is_file(background) else background, "background_file": named["background_file"]}
    fields |= {"max_audio_stretch": max_audio_stretch, "size": size, "crop": crop, "fps": fps}
    fields |= {"quality": quality, "expressiveness": expressiveness, "motion": motion}
    if not server:
        _check_media(files)  # fails seconds earlier than a service that still has to start
    with service_at(server, data_dir) as base_url:
        client = service(base_url)
        job = make_job(client, out, fields)
        num_bytes = save_video(client, job, out, shows_warnings=as_json or not report)
    whole = json.dumps({**job.raw, "out": str(out), "num_bytes": num_bytes}, indent=2)
    print(whole if as_json else f"{out}: {job.num_frames} frames, {num_bytes} bytes", flush=True)
    if report and not as_json:
        print_report_of(job)


def _check_media(files: dict[str, Path]) -> None:
    """Open the files as the service does, with its default limits."""
    from config import MediaLimits
    from media.probe import probe_audio, probe_video

    for name, path in files.items():
        (probe_audio if name in ("audio", "music") else probe_video)(path, MediaLimits())
