"""A Gradio page: speech and a face in, video out. Loads nothing from other hosts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from socket import socket
from typing import Any, Final

# Read when Gradio is imported: disables its version check and telemetry.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import anyio
import gradio as gr
from fastapi import FastAPI

from lipwright_client import AsyncLipwright, ClientError, Job
from lipwright_client.calls import JobFields

_CACHE_S: Final = (3600, 86400)
"""Clean-up interval and maximum age of the page's own copies, in seconds."""
_CANCEL_S = 5.0
_SHUTDOWN_S = 3  # grace period for open requests
_PROGRESS = gr.Progress()
_FONT = ("system-ui", "sans-serif")  # Gradio's default fonts come from a font service

OpenClient = Callable[[gr.Request], AsyncLipwright]
Shown = tuple[str, str | None]


class GradioPage:
    """The page.

    Args:
        open_client: Returns a client with the credentials of a request.
    """

    def __init__(self, open_client: OpenClient) -> None:
        self._open_client = open_client

    def mount(self, app: FastAPI, path: str, max_file_bytes: int | None = None) -> FastAPI:
        """Mount the page at `path` of `app`."""
        theme = gr.themes.Default(font=_FONT, font_mono=("ui-monospace", "monospace"))
        options: dict[str, Any] = {"theme": theme, "ssr_mode": False, "pwa": False, "run_history": False}
        options |= {"max_file_size": max_file_bytes, "footer_links": ["api"], "mcp_server": False, "show_error": True}
        mounted: FastAPI = gr.mount_gradio_app(app, self.blocks(), path, **options)
        return mounted

    def blocks(self) -> gr.Blocks:
        """Return the layout and its event handlers."""
        blocks: gr.Blocks = gr.Blocks(title="Lipwright", analytics_enabled=False, delete_cache=_CACHE_S)
        with blocks:
            gr.Markdown("# Lipwright\nTurn a face and an audio clip into a lip-synced talking-head video.")
            with gr.Row():
                with gr.Column():
                    audio = gr.Audio(label="Speech", type="filepath", buttons=["download"])
                    text = gr.Textbox("", label="... or text (requires a voice)")
                    with gr.Tab("Video"):
                        video = gr.Video(label="Face", height=240, buttons=["download"])
                    with gr.Tab("Portrait"):
                        portrait = gr.Image(label="Face", type="filepath", height=240, buttons=["download"])
                    with gr.Tab("Saved avatar"):
                        avatar = gr.Dropdown([], label="Face", allow_custom_value=True)
                    with gr.Row():
                        make, stop = gr.Button("Create video", variant="primary"), gr.Button("Stop")
                    with gr.Accordion("Options", open=False):
                        engine, *options = _options()
                with gr.Column():
                    state = gr.Textbox(label="State", interactive=False)
                    result = gr.Video(label="Result", interactive=False, buttons=["download"])
            inputs = [audio, text, video, portrait, avatar, engine, *options]
            making = make.click(self.speak, inputs, [state, result], api_name="speak", concurrency_limit=None)
            stop.click(None, cancels=[making], api_visibility="private")
            blocks.load(self.choices, None, [avatar, engine], api_name="choices")
        return blocks

    async def choices(self, request: gr.Request) -> tuple[gr.Dropdown, gr.Dropdown]:
        """Return the avatars and engines of the service."""
        try:
            async with self._open_client(request) as client:
                avatars = await client.avatars.list()
                engines = await client.engines.list()
        except ClientError as error:
            raise gr.Error(f"{error.title}: {error.detail}", print_exception=False) from error
        known = [(each.title, each.name) for each in engines if each.is_installed]
        default = next((each.name for each in engines if each.is_default), None)
        kept = [("none", "")] + [(each.label or each.id, each.id) for each in avatars]
        return gr.Dropdown(kept, value=""), gr.Dropdown(known, value=default)

    async def speak(
        self,
        audio: str | None,
        text: str | None,
        video: str | None,
        portrait: str | None,
        avatar: str | None,
        engine: str | None,
        face: str,
        loop: str,
        background: str | None,
        crop: str | None,
        format: str,
        request: gr.Request,
        background_file: str | None = None,  # without a default, calls over Gradio's API would have to pass it
        quality: str = "balanced",
        progress: gr.Progress = _PROGRESS,
    ) -> AsyncIterator[Shown]:
        """Create a video; yields its state and finally the file. Leaving early cancels the job."""
        fields = _fields(audio, text or "", (video, portrait, avatar), face)
        fields |= {"engine": engine or None, "loop": loop, "background": background or None, "crop": crop or None}
        fields |= {"background_file": Path(background_file) if background_file else None, "format": format}
        fields |= {"quality": quality}
        try:
            async with self._open_client(request) as client:
                async for shown in _run(client, fields, progress):
                    yield shown
        except ClientError as error:
            raise gr.Error(f"{error.title}: {error.detail}", print_exception=False) from error


def _options() -> list[Any]:
    """Return the inputs of a job that have defaults, the engine first."""
    engine = gr.Dropdown([], label="Engine", allow_custom_value=True)
    face = gr.Textbox("largest", label="Which face: largest, speaking, person:0, 0, point:x,y or box:x0,y0,x1,y1")
    loops = ["pingpong", "loop", "hold", "cut", "source", "retime", "natural"]
    loop = gr.Radio(loops, value="pingpong", label="Fit the video to the speech")
    backgrounds: list[Any] = [("as in the video, or as saved with the avatar", "")]
    backgrounds += ["source", "blur", "transparent", "white", "#00b140"]
    title = "Background, or a colour (transparent: in webm)"
    background = gr.Dropdown(backgrounds, value="", label=title, allow_custom_value=True)
    background_file = gr.File(label="... or a picture or video", type="filepath", file_types=["image", "video"])
    crops: list[Any] = [("as in the video", ""), "9:16", "1:1", "16:9"]
    crop = gr.Dropdown(crops, value="", label="Shape (width:height)", allow_custom_value=True)
    # No mov: Gradio converts what browsers do not play.
    file_format = gr.Radio(["mp4", "webm"], value="mp4", label="File format")
    quality = gr.Radio(["fast", "balanced", "best"], value="balanced", label="Quality")
    return [engine, face, loop, background, crop, file_format, background_file, quality]


def _fields(audio: str | None, text: str, faces: tuple[str | None, ...], face: str) -> JobFields:
    """Return the speech and the face of a job. `faces` are a video, a portrait and the ID of an avatar."""
    if bool(audio) == bool(text.strip()):
        raise gr.Error("Speech: provide either audio or text.", print_exception=False)
    if sum(map(bool, faces)) != 1:
        raise gr.Error("Face: provide one of video, portrait and saved avatar.", print_exception=False)
    video, portrait, avatar = faces
    fields: JobFields = {"audio": Path(audio)} if audio else {"text": text}
    if source := video or portrait:
        fields |= {"video": Path(source), "face": face or "largest"}
    return fields | {"avatar_id": avatar or None}


async def _run(client: AsyncLipwright, fields: JobFields, progress: gr.Progress) -> AsyncIterator[Shown]:
    yield "uploading", None
    job = await client.jobs.create(**fields)
    try:
        async for job in client.jobs.events(job.id):  # noqa: B020 - the same job, later
            progress(job.progress, desc=job.stage)
            yield _state(job), None
    except BaseException:
        with anyio.move_on_after(_CANCEL_S, shield=True):
            await client.jobs.cancel(job.id)
        raise
    job.check()
    with tempfile.TemporaryDirectory(prefix="lipwright-") as folder:
        path = Path(folder) / f"{Path(job.inputs.audio).stem or 'result'}.{fields['format']}"
        await client.jobs.download(job.id, path)
        yield _state(job), str(path)  # Gradio copies the file before it continues


def _state(job: Job) -> str:
    """Return the state of a job as one line."""
    if job.status == "queued":
        ahead = job.queue_position or 0
        return "next in the queue" if not ahead else f"queued, {ahead} ahead"
    if job.is_final:
        warnings = [str(each) for each in (job.report or {}).get("warnings", [])]
        return " ".join([job.status, *warnings])
    return f"{job.stage}: {job.progress:.0%}" + (f", {job.count}" if job.count else "")


def run(url: str, listener: socket) -> None:
    """Serve the page at a bound address of localhost until Ctrl-C or SIGTERM, which cancels its jobs."""
    import signal

    import uvicorn
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    page = GradioPage(lambda request: AsyncLipwright(url))
    app = FastAPI(openapi_url=None)
    # Against DNS rebinding: a foreign domain that resolves to this machine.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    page.mount(app, "/")
    # Handle SIGTERM like Ctrl-C: by default it exits before the page's jobs are cancelled.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Clients that follow a job would otherwise delay the shutdown until the job ends.
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_SHUTDOWN_S)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
