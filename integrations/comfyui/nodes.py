"""The node, after ComfyUI's V3 convention."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import folder_paths
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy_api.latest import ComfyAPI, ComfyExtension, InputImpl, io

from lipwright_client import AsyncLipwright, Job
from lipwright_client.calls import JobFields

from .content import png_of, wav_of, write_frames


class LipwrightSpeak(io.ComfyNode):
    """Speech and a face in, a video in which that face speaks that speech out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What ComfyUI shows of the node."""
        return io.Schema(
            node_id="LipwrightSpeak",
            display_name="Lipwright: make a face speak",
            category="Lipwright",
            description="Speech, and a video, an image (or frames) or an avatar of a Lipwright service.",
            inputs=[
                io.Audio.Input("audio", tooltip="The speech."),
                io.Video.Input("video", optional=True, tooltip="The face: a video."),
                io.Image.Input("image", optional=True, tooltip="The face: a portrait, or the frames of a video."),
                io.String.Input("avatar_id", default="", optional=True, tooltip="An avatar that the service keeps."),
                io.Float.Input("fps", default=25.0, min=1.0, max=240.0, optional=True, tooltip="Rate of frames."),
                io.String.Input("engine", default="", optional=True, tooltip="Empty takes the service's own."),
                io.String.Input("face", default="largest", optional=True, tooltip="largest, 0, point:x,y, box:..."),
                io.Combo.Input("loop", options=["pingpong", "loop", "hold"], default="pingpong", optional=True),
                io.String.Input(
                    "url",
                    default="",
                    optional=True,
                    tooltip="The service; empty takes LIPWRIGHT_URL. LIPWRIGHT_API_KEY is sent to that one only.",
                ),
            ],
            outputs=[
                io.Video.Output("result", display_name="video"),
                io.String.Output("job_id", display_name="job id"),
            ],
        )

    @classmethod
    async def execute(
        cls,
        audio: dict[str, Any],
        video: Any = None,
        image: Any = None,
        avatar_id: str = "",
        fps: float = 25.0,
        engine: str = "",
        face: str = "largest",
        loop: str = "pingpong",
        url: str = "",
    ) -> io.NodeOutput:
        """Make the video; interrupting the workflow cancels the job."""
        if sum((video is not None, image is not None, bool(avatar_id))) != 1:
            raise ValueError("Expected exactly one of video, image and avatar_id.")
        fields: JobFields = {"audio": ("comfyui.wav", wav_of(audio)), "loop": loop}
        if engine:
            fields["engine"] = engine
        out = Path(folder_paths.get_temp_directory()) / f"lipwright-{uuid4().hex[:12]}.mp4"
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="lipwright-") as folder:
            if avatar_id:
                fields["avatar_id"] = avatar_id
            elif video is not None or image is not None:
                fields["video"], fields["face"] = _avatar(video, image, fps, Path(folder)), face
            async with _service(url) as client:
                job = await client.speak(out=out, on_change=_progress(), **fields)
        return io.NodeOutput(InputImpl.VideoFromFile(str(out)), job.id)


class LipwrightExtension(ComfyExtension):
    """What ComfyUI is told of this folder."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes."""
        return [LipwrightSpeak]


async def comfy_entrypoint() -> ComfyExtension:
    """Called by ComfyUI when it starts."""
    return LipwrightExtension()


def _avatar(video: Any, image: Any, fps: float, folder: Path) -> tuple[str, bytes] | Path:
    """The face as a file: a video trimmed and cropped as ComfyUI has it, frames as a video, a picture as a PNG."""
    path = folder / "comfyui.mp4"
    if video is not None:
        video.save_to(str(path))
    elif image.shape[0] == 1:
        return "comfyui.png", png_of(image)
    else:
        write_frames(image, fps, path)
    return path


def _service(url: str) -> AsyncLipwright:
    """The service; a workflow of a stranger's that names another one does not get the key."""
    own = os.environ.get("LIPWRIGHT_URL", "").strip()
    return AsyncLipwright(url or own, api_key=None if not url or url.rstrip("/") == own.rstrip("/") else "")


def _progress() -> Callable[[Job], object]:
    api = ComfyAPI()

    async def show(job: Job) -> None:
        throw_exception_if_processing_interrupted()
        await api.execution.set_progress(value=job.progress, max_value=1.0)

    return show
