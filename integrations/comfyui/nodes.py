"""The node (ComfyUI V3 schema)."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import folder_paths
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy_api.latest import ComfyAPI, ComfyExtension, InputImpl, io

from lipwright_client import AsyncLipwright, Job
from lipwright_client.calls import JobFields

from .content import png_of, wav_of, write_frames

_MORE_AUDIO = ("audio_2", "audio_3", "audio_4")


class LipwrightSpeak(io.ComfyNode):
    """Creates a lip-synced video from speech and a face."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the schema of the node."""
        return io.Schema(
            node_id="LipwrightSpeak",
            display_name="Lipwright: lip sync",
            category="Lipwright",
            description="Lip-syncs a video, an image (or frames) or an avatar to speech, also of several people.",
            inputs=[
                io.Audio.Input("audio", optional=True, tooltip="The speech. Needed unless texts are spoken."),
                io.Video.Input("video", optional=True, tooltip="The face: a video."),
                io.Image.Input("image", optional=True, tooltip="The face: a portrait, or the frames of a video."),
                io.String.Input("avatar_id", default="", optional=True, tooltip="ID of a saved avatar."),
                io.Float.Input(
                    "fps", default=25.0, min=1.0, max=240.0, optional=True, tooltip="Frame rate of batches of images."
                ),
                io.String.Input("engine", default="", optional=True, tooltip="Engine. Empty: the service's default."),
                io.String.Input(
                    "face",
                    default="largest",
                    optional=True,
                    tooltip="Which face: largest, speaking, person:N, 0, point:x,y or box:x0,y0,x1,y1.",
                ),
                io.Combo.Input(
                    "loop",
                    options=["pingpong", "loop", "hold", "cut", "source", "retime", "natural"],
                    default="pingpong",
                    optional=True,
                    tooltip="How to fit the video to the speech. Has no effect with turns, subtitles or a diarization.",
                ),
                io.String.Input(
                    "url",
                    default="",
                    optional=True,
                    tooltip="URL of the service. Empty: LIPWRIGHT_URL. LIPWRIGHT_API_KEY is sent only to that service.",
                ),
                # Saved workflows hold the values of inputs by position: new inputs go to the end.
                io.String.Input(
                    "turns",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip='Who speaks when, as JSON: [{"face": "person:0", "start": 1, "audio": "audio"}, '
                    '{"face": "person:1", "start": 4, "text": "Hi!"}]',
                ),
                *(io.Audio.Input(name, optional=True, tooltip=f'"audio": "{name}" of a turn.') for name in _MORE_AUDIO),
                io.String.Input(
                    "subtitles", default="", multiline=True, optional=True, tooltip="SRT or WebVTT: text to speak."
                ),
                io.String.Input(
                    "speakers",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip='Who the speakers are, as JSON: {"ANNA": {"face": "person:0", "voice": "nova"}}',
                ),
                io.String.Input(
                    "background",
                    default="",
                    optional=True,
                    tooltip="What is behind the person: a colour (#00b140, white), blur, or source (the video's own). "
                    "Empty: the background of the avatar, otherwise source.",
                ),
                io.Image.Input(
                    "background_file",
                    optional=True,
                    tooltip="Behind the person instead of `background`: a picture, or the frames of a video.",
                ),
                io.String.Input(
                    "crop",
                    default="",
                    optional=True,
                    tooltip="Aspect ratio, such as 9:16. The crop follows the face that speaks.",
                ),
                io.String.Input(
                    "size", default="", optional=True, tooltip="Size of the result in pixels, such as 1080x1920."
                ),
                io.String.Input(
                    "diarization",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Who speaks when in `audio`, as RTTM or JSON; `speakers` says which face each speaker is.",
                ),
                io.Combo.Input(
                    "quality",
                    options=["fast", "balanced", "best"],
                    default="balanced",
                    optional=True,
                    tooltip="How the video is encoded: fast takes less CPU time, best keeps more detail.",
                ),
                io.String.Input(
                    "translate_to",
                    default="",
                    optional=True,
                    tooltip="Language: dub the video with a translation of what is said in it.",
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
        audio: dict[str, Any] | None = None,
        video: Any = None,
        image: Any = None,
        avatar_id: str = "",
        fps: float = 25.0,
        engine: str = "",
        face: str = "largest",
        loop: str = "pingpong",
        url: str = "",
        turns: str = "",
        audio_2: dict[str, Any] | None = None,
        audio_3: dict[str, Any] | None = None,
        audio_4: dict[str, Any] | None = None,
        subtitles: str = "",
        speakers: str = "",
        background: str = "",
        background_file: Any = None,
        crop: str = "",
        size: str = "",
        diarization: str = "",
        quality: str = "balanced",
        translate_to: str = "",
    ) -> io.NodeOutput:
        """Create the video. Interrupting the workflow cancels the job."""
        if sum((video is not None, image is not None, bool(avatar_id))) != 1:
            raise ValueError("Connect exactly one of video, image and avatar_id.")
        fields = _speech({"audio": audio, "audio_2": audio_2, "audio_3": audio_3, "audio_4": audio_4})
        fields |= {"turns": _parse_json("turns", turns), "speakers": _parse_json("speakers", speakers)}
        if subtitles.strip():
            fields["subtitles"] = ("comfyui.srt", subtitles.encode())
        if diarization.strip():
            fields["diarization"] = ("comfyui.rttm", diarization.encode())
        fields["translate_to"] = translate_to.strip() or None
        if not any(text.strip() for text in (turns, subtitles, diarization, translate_to)):
            fields["loop"] = loop
        fields |= {"engine": engine or None, "avatar_id": avatar_id or None}
        fields |= {"background": background or None, "crop": crop or None, "size": size or None}
        fields["quality"] = quality
        out = Path(folder_paths.get_temp_directory()) / f"lipwright-{uuid4().hex[:12]}.mp4"
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="lipwright-") as folder:
            if video is not None:
                video.save_to(str(Path(folder) / "comfyui.mp4"))
                fields |= {"video": Path(folder) / "comfyui.mp4", "face": face}
            elif image is not None:
                fields |= {"video": _file(image, fps, Path(folder) / "comfyui.mp4"), "face": face}
            if background_file is not None:
                fields["background_file"] = _file(background_file, fps, Path(folder) / "background.mp4")
            async with _service(url) as client:
                job = await client.speak(out=out, on_change=_progress(), **fields)
        return io.NodeOutput(InputImpl.VideoFromFile(str(out)), job.id)


class LipwrightExtension(ComfyExtension):
    """The extension."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the nodes."""
        return [LipwrightSpeak]


async def comfy_entrypoint() -> ComfyExtension:
    """Entry point, called by ComfyUI at startup."""
    return LipwrightExtension()


def _speech(audio: Mapping[str, dict[str, Any] | None]) -> JobFields:
    """Return the audio files of a job, by the names of the inputs that are connected."""
    files = {name: (f"{name}.wav", wav_of(sound)) for name, sound in audio.items() if sound is not None}
    return {"audio": files.pop("audio", None), "more_audio": files}


def _parse_json(name: str, text: str) -> Any:
    """Return the content of an input with JSON; None if it is empty."""
    try:
        return json.loads(text) if text.strip() else None
    except ValueError as error:
        raise ValueError(f"{name}: expected JSON: {error}") from error


def _file(images: Any, fps: float, path: Path) -> tuple[str, bytes] | Path:
    """Return one image as a PNG, or several as a video, which is written to `path`."""
    if images.shape[0] == 1:
        return path.with_suffix(".png").name, png_of(images)
    write_frames(images, fps, path)
    return path


def _service(url: str) -> AsyncLipwright:
    """Return a client; the API key is not sent to other services that a foreign workflow may name."""
    own = os.environ.get("LIPWRIGHT_URL", "").strip()
    return AsyncLipwright(url or own, api_key=None if not url or url.rstrip("/") == own.rstrip("/") else "")


def _progress() -> Callable[[Job], object]:
    api = ComfyAPI()

    async def show(job: Job) -> None:
        throw_exception_if_processing_interrupted()
        await api.execution.set_progress(value=job.progress, max_value=1.0)

    return show
