"""A Gradio page for those who expect one: speech and a face in, video out. All of it comes from here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

# Read when Gradio is imported: it asks home for its newest version, and counts its users, unless told not to.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import anyio
import gradio as gr
from fastapi import FastAPI

from lipwright_client import AsyncLipwright, ClientError, Job
from lipwright_client.calls import JobFields

_CACHE_S: Final = (3600, 86400)
"""How often, and at which age, uploads and results of the page go. The service keeps results by its own rules."""
_CANCEL_S = 5.0
_SHUTDOWN_S = 3  # for requests that are nearly done
_PROGRESS = gr.Progress()
_FONT = ("system-ui", "sans-serif")  # Gradio's own come from a font service

OpenClient = Callable[[gr.Request], AsyncLipwright]
Shown = tuple[str, str | None]


class GradioPage:
    """The page.

    Args:
        open_client: Opens the service for whoever sends a request.
    """

    def __init__(self, open_client: OpenClient) -> None:
        self._open_client = open_client

    def mount(self, app: FastAPI, path: str, max_file_bytes: int | None = None) -> FastAPI:
        """Show the page at `path` of `app`."""
        theme = gr.themes.Default(font=_FONT, font_mono=("ui-monospace", "monospace"))
        options: dict[str, Any] = {"theme": theme, "ssr_mode": False, "pwa": False, "run_history": False}
        options |= {"max_file_size": max_file_bytes, "footer_links": ["api"], "mcp_server": False, "show_error": True}
        mounted: FastAPI = gr.mount_gradio_app(app, self.blocks(), path, **options)
        return mounted

    def blocks(self) -> gr.Blocks:
        """The page's parts and what they do."""
        blocks: gr.Blocks = gr.Blocks(title="Lipwright", analytics_enabled=False, delete_cache=_CACHE_S)
        with blocks:
            gr.Markdown("# Lipwright\nSpeech and a face in, a video in which that face speaks that speech out.")
            with gr.Row():
                with gr.Column():
                    audio = gr.Audio(label="Speech", type="filepath", buttons=["download"])
                    text = gr.Textbox("", label="... or a text, where the service has a voice")
                    with gr.Tab("Video"):
                        video = gr.Video(label="Face", height=240, buttons=["download"])
                    with gr.Tab("Portrait"):
                        portrait = gr.Image(label="Face", type="filepath", height=240, buttons=["download"])
                    with gr.Tab("Kept avatar"):
                        avatar = gr.Dropdown([], label="Face", allow_custom_value=True)
                    with gr.Row():
                        make, stop = gr.Button("Make it speak", variant="primary"), gr.Button("Stop")
                    with gr.Accordion("Options", open=False):
                        engine = gr.Dropdown([], label="Engine", allow_custom_value=True)
                        face = gr.Textbox("largest", label="Which face: largest, 0, point:x,y or box:x0,y0,x1,y1")
                        loop = gr.Radio(
                            ["pingpong", "loop", "hold"], value="pingpong", label="Shorter video than speech"
                        )
                with gr.Column():
                    state = gr.Textbox(label="State", interactive=False)
                    result = gr.Video(label="Result", interactive=False, buttons=["download"])
            inputs = [audio, text, video, portrait, avatar, engine, face, loop]
            making = make.click(self.speak, inputs, [state, result], api_name="speak", concurrency_limit=None)
            stop.click(None, cancels=[making], api_visibility="private")
            blocks.load(self.choices, None, [avatar, engine], api_name="choices")
        return blocks

    async def choices(self, request: gr.Request) -> tuple[gr.Dropdown, gr.Dropdown]:
        """The kept avatars and the engines of the service."""
        try:
            async with self._open_client(request) as client:
                avatars = await client.avatars.list()
                engines = (await client.engines.list()).engines
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
        request: gr.Request,
        progress: gr.Progress = _PROGRESS,
    ) -> AsyncIterator[Shown]:
        """Make a video: tells the state as it changes, and the file at the end. Leaving early cancels the job."""
        fields = _fields(audio, text or "", (video, portrait, avatar), engine, face, loop)
        try:
            async with self._open_client(request) as client:
                async for shown in _run(client, fields, progress):
                    yield shown
        except ClientError as error:
            raise gr.Error(f"{error.title}: {error.detail}", print_exception=False) from error


def _fields(
    audio: str | None, text: str, faces: tuple[str | None, ...], engine: str | None, face: str, loop: str
) -> JobFields:
    """A job of what is filled in. `faces` are a video, a portrait and the id of an avatar."""
    if bool(audio) == bool(text.strip()):
        raise gr.Error("Speech: expected either a sound or a text.", print_exception=False)
    if sum(map(bool, faces)) != 1:
        raise gr.Error("Face: expected one of a video, a portrait and a kept avatar.", print_exception=False)
    fields: JobFields = {"audio": Path(audio), "loop": loop} if audio else {"text": text, "loop": loop}
    video, portrait, avatar = faces
    if avatar:
        fields["avatar_id"] = avatar
    elif source := video or portrait:
        fields["video"], fields["face"] = Path(source), face or "largest"
    if engine:
        fields["engine"] = engine
    return fields


async def _run(client: AsyncLipwright, fields: JobFields, progress: gr.Progress) -> AsyncIterator[Shown]:
    yield "sending", None
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
        path = Path(folder) / f"{Path(job.inputs.audio).stem or 'result'}.mp4"
        await client.jobs.download(job.id, path)
        yield _state(job), str(path)  # copied by Gradio before it asks for more


def _state(job: Job) -> str:
    """The job in one line."""
    if job.status == "queued":
        ahead = job.queue_position or 0
        return "waiting to start" if not ahead else f"waiting: {ahead} before it"
    if job.is_final:
        warnings = [str(each) for each in (job.report or {}).get("warnings", [])]
        return " ".join([job.status, *warnings])
    frames = f", frame {job.num_frames_done} of {job.num_frames}" if job.num_frames else ""
    return f"{job.stage}: {job.progress:.0%}{frames}"


def run(url: str, port: int) -> None:
    """Show the page of the service at `url` to this machine, until Ctrl-C or SIGTERM; the page's jobs end with it."""
    import signal

    import uvicorn
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    page = GradioPage(lambda request: AsyncLipwright(url))
    app = FastAPI(openapi_url=None)
    # A name elsewhere that points here (DNS rebinding) would let its page use the service in the visitor's name.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    page.mount(app, "/")
    # As Ctrl-C does: by itself SIGTERM ends the process before the page's jobs are cancelled.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Whoever still follows a job would keep the page alive for as long as that job takes.
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=_SHUTDOWN_S)
