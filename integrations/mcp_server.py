"""MCP server (Model Context Protocol, modelcontextprotocol.io) over stdio."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, ConfigDict, Field

from integrations.shared_folder import FolderError, SharedFolder
from lipwright_client import AsyncLipwright, ClientError, Job
from lipwright_client.calls import JobFields
from lipwright_client.settings import VERSION

_INSTRUCTIONS = (
    "Lipwright creates lip-synced talking-head videos: `speak` takes speech (an audio file or text, or the turns of "
    "several people) and a face (a video, a portrait or the ID of an avatar) and writes a video; `dub` lets the people "
    "in a video speak subtitles. Paths are relative to the shared folder; URLs work too. A minute of video can take a "
    "minute or more. `speak` and `dub` report progress; with wait=false, poll `job_status` and then call `save_video`."
)
_Audio = Annotated[str | None, Field(description="The speech: an audio file in the shared folder, or a URL.")]
_Out = Annotated[
    str | None,
    Field(description="Name of the new file in the shared folder, with the suffix of its format. Default: generated."),
]
_Speakers = Annotated[
    dict[str, dict[str, str]] | None,
    Field(
        description="Faces and voices of the speakers that the diarization or the subtitles name: "
        '{"Anna": {"face": "person:0", "voice": "heart"}}. By default a speaker is the person who speaks at these '
        "times in the video of an avatar, and who speaks most in another video."
    ),
]
_JobId = Annotated[str, Field(description="Job ID returned by `speak` or `dub`.")]


class SpeechTurn(BaseModel):
    """What one person says, and when."""

    model_config = ConfigDict(extra="forbid")

    face: str | None = Field(None, description="Who speaks, as in `face` of the tool (its default), or offscreen.")
    start: float = Field(description="When the speech starts, in seconds of the video.")
    end: float | None = Field(None, description="When it ends. Default: after its speech.")
    audio: str | None = Field(
        None, description="The speech: an audio file in the shared folder, or a URL. Default: `audio` of the tool."
    )
    audio_start: float | None = Field(None, description="Where the speech starts in the audio file, in seconds.")
    gain_db: float | None = Field(None, description="Gain of the speech in dB.")
    text: str | None = Field(None, description="Text to speak instead of audio.")
    voice: str | None = Field(None, description="Voice for the text.")
    action: str | None = Field(None, description="Action of an avatar with clips, shown when the speech starts.")


class SpokenVideo(BaseModel):
    """State of a job."""

    job_id: str
    status: str = Field(description="queued, running, review, succeeded, failed or cancelled.")
    stage: str
    progress: float = Field(description="0 to 1.")
    num_texts: int | None = Field(None, description="Texts to speak.")
    num_texts_spoken: int = 0
    num_frames: int | None
    path: str | None = Field(None, description="Path of the saved video.")
    uri: str | None = Field(None, description="The path as a file: URI.")
    error: str | None = Field(None, description="Why the job failed.")
    warnings: list[str] = Field([], description="Known problems of the result.")

    @classmethod
    def of(cls, job: Job, path: Path | None = None) -> SpokenVideo:
        """Return the state of `job`, whose video is at `path`."""
        return cls(
            job_id=job.id,
            status=job.status,
            stage=job.stage,
            progress=job.progress,
            num_texts=job.num_cues,
            num_texts_spoken=job.num_cues_done,
            num_frames=job.num_frames,
            path=None if path is None else str(path),
            uri=None if path is None else path.as_uri(),
            error=None if job.error is None else f"{job.error.code}: {job.error.message}",
            warnings=[str(each) for each in (job.report or {}).get("warnings", [])],
        )


class AvatarSummary(BaseModel):
    """A saved avatar."""

    avatar_id: str
    name: str
    status: str = Field(description="analysing, ready or failed. Jobs may use an avatar that is analysing.")


class EngineSummary(BaseModel):
    """An engine."""

    name: str
    title: str
    is_default: bool
    is_installed: bool


class LipwrightTools:
    """The MCP tools.

    Args:
        client: Client of the service.
        folder: Folder for inputs and results. The model cannot access files outside it.
    """

    def __init__(self, client: AsyncLipwright, folder: SharedFolder) -> None:
        self._client = client
        self._folder = folder

    def server(self) -> MCPServer[Any]:
        """Return an MCP server with these tools."""
        server: MCPServer[Any] = MCPServer(
            "lipwright", title="Lipwright", instructions=_INSTRUCTIONS, version=VERSION, log_level="WARNING"
        )
        for tool in (
            self.speak,
            self.dub,
            self.job_status,
            self.save_video,
            self.cancel_job,
            self.list_avatars,
            self.list_engines,
        ):
            server.add_tool(tool)
        return server

    async def speak(
        self,
        context: Context[Any, Any],
        audio: _Audio = None,
        text: Annotated[
            str | None, Field(description="Text to speak instead of `audio`; may name actions: `Hello! [wave]`.")
        ] = None,
        voice: Annotated[str | None, Field(description="Voice for the text. Default: the service's.")] = None,
        turns: Annotated[
            list[SpeechTurn] | None,
            Field(description="Several speeches in one video, whose length stays as it is, instead of one speech."),
        ] = None,
        diarization: Annotated[
            str | None,
            Field(
                description="RTTM or JSON file in the shared folder: who speaks when in `audio`, instead of `turns`."
            ),
        ] = None,
        speakers: _Speakers = None,
        video: Annotated[
            str | None, Field(description="The face: a video or portrait in the shared folder, or a URL.")
        ] = None,
        avatar_id: Annotated[str | None, Field(description="ID of an avatar, instead of `video`.")] = None,
        action: Annotated[
            str | None, Field(description="Action that an avatar with clips shows at the start; an error lists them.")
        ] = None,
        out: _Out = None,
        engine: Annotated[str | None, Field(description="One of `list_engines`.")] = None,
        face: Annotated[
            str,
            Field(
                description="largest, speaking (who speaks most), person:N, an index by size, point:x,y or "
                "box:x0,y0,x1,y1."
            ),
        ] = "largest",
        background: Annotated[
            str | None,
            Field(
                description="What is behind the person: a colour (#00b140, white), blur, transparent, or source (the "
                "video's own). Default: the background of the avatar, otherwise source."
            ),
        ] = None,
        background_file: Annotated[
            str | None, Field(description="A picture or video behind the person: in the shared folder, or a URL.")
        ] = None,
        crop: Annotated[
            str | None, Field(description="Aspect ratio, such as 9:16; the crop follows the face that speaks.")
        ] = None,
        format: Annotated[
            Literal["mp4", "webm", "mov"], Field(description="File format. A transparent background needs webm or mov.")
        ] = "mp4",
        quality: Annotated[
            Literal["fast", "balanced", "best"],
            Field(description="How the video is encoded: fast takes less CPU time, best keeps more detail."),
        ] = "balanced",
        wait: Annotated[bool, Field(description="Wait for the job to end and save the video.")] = True,
    ) -> SpokenVideo:
        """Lip-sync a video, portrait or avatar to an audio file, a text or turns; returns a video."""
        with _report_errors():
            fields: JobFields = {"audio": self._source(audio, "audio"), "video": self._source(video, "video")}
            fields |= {"text": text, "voice": voice, "avatar_id": avatar_id, "engine": engine, "action": action}
            fields |= {"face": face if video else None}
            fields |= {"background": background, "crop": crop, "format": format, "quality": quality}
            fields |= {"background_file": self._source(background_file, "background_file")}
            fields |= {"diarization": self._source(diarization, "diarization"), "speakers": speakers}
            if turns is not None:
                fields |= self._turns(turns)
            return await self._run(context, fields, out, wait)

    async def dub(
        self,
        context: Context[Any, Any],
        video: Annotated[str, Field(description="A video in the shared folder, or a URL.")],
        subtitles: Annotated[
            str | None, Field(description="SRT or WebVTT file in the shared folder: what is said.")
        ] = None,
        translate_to: Annotated[
            str | None,
            Field(description="Instead of subtitles: speak a translation of what is said, such as `German`."),
        ] = None,
        speakers: _Speakers = None,
        voice: Annotated[str | None, Field(description="Voice of all other speakers.")] = None,
        background_gain_db: Annotated[
            float | None, Field(description="Keep the video's own sound under the speech, for example -12.")
        ] = None,
        subtitles_output: Annotated[
            Literal["track", "burnt"] | None, Field(description="Show the subtitles in the result.")
        ] = None,
        out: _Out = None,
        wait: Annotated[bool, Field(description="Wait for the job to end and save the video.")] = True,
    ) -> SpokenVideo:
        """Dub a video: the people in it speak the subtitles or a translation, each in its time; returns an MP4."""
        with _report_errors():
            source = self._folder.source(video, "video")
            text = None if subtitles is None else self._folder.source(subtitles, "subtitles")
            # The speakers of an avatar are those who speak at the same times in its video.
            avatar = await self._client.avatars.create(video=source, keep=False)
            fields: JobFields = {"avatar_id": avatar.id, "speakers": speakers, "voice": voice}
            fields |= {"subtitles": text, "translate_to": translate_to}
            fields |= {"background_gain_db": background_gain_db, "subtitles_output": subtitles_output}
            # The same video may be a saved avatar with other settings.
            fields |= {"background": "source", "expressiveness": 1, "motion": 1}
            return await self._run(context, fields, out, wait)

    async def job_status(self, job_id: _JobId) -> SpokenVideo:
        """Return the progress of a job, and its error if it failed."""
        with _report_errors():
            return SpokenVideo.of(await self._client.jobs.get(job_id))

    async def save_video(self, job_id: _JobId, out: _Out = None) -> SpokenVideo:
        """Save the video of a finished job to the shared folder."""
        with _report_errors():
            job = await self._client.jobs.get(job_id)
            return await self._save(job, None if out is None else self._folder.target(out, "out", _suffix(job.options)))

    async def cancel_job(self, job_id: _JobId) -> SpokenVideo:
        """Cancel a queued or running job."""
        with _report_errors():
            return SpokenVideo.of(await self._client.jobs.cancel(job_id))

    async def list_avatars(self) -> list[AvatarSummary]:
        """List saved avatars, which need no analysis."""
        with _report_errors():
            avatars = await self._client.avatars.list()
            return [AvatarSummary(avatar_id=each.id, name=each.label, status=each.status) for each in avatars]

    async def list_engines(self) -> list[EngineSummary]:
        """List engines."""
        with _report_errors():
            engines = await self._client.engines.list()
            return [EngineSummary.model_validate(each, from_attributes=True) for each in engines]

    async def _run(self, context: Context[Any, Any], fields: JobFields, out: str | None, wait: bool) -> SpokenVideo:
        """Submit a job; with `wait`, save its video."""
        target = None if out is None else self._folder.target(out, "out", _suffix(fields))
        if not wait:
            return SpokenVideo.of(await self._client.jobs.create(**fields))

        async def report(job: Job) -> None:
            await context.report_progress(job.progress, 1.0, f"{job.stage}, {job.count}" if job.count else job.stage)

        job = await self._client.speak(on_change=report, **fields)
        return await self._save(job, target)

    def _turns(self, turns: Sequence[SpeechTurn]) -> JobFields:
        """Return the fields of a job with these turns; each audio file is sent once."""
        fields: dict[str, str] = {}
        sources: dict[str, str | Path] = {}
        sent = []
        for number, turn in enumerate(turns):
            values = turn.model_dump(exclude_none=True)
            if turn.audio is not None:
                values["audio"] = fields.setdefault(turn.audio, f"audio_{len(fields) + 1}")
                sources[values["audio"]] = self._folder.source(turn.audio, f"turns[{number}].audio")
            sent.append(values)
        return {"turns": sent, "more_audio": sources}

    def _source(self, name: str | None, field: str) -> str | Path | None:
        return None if name is None else self._folder.source(name, field)

    async def _save(self, job: Job, target: Path | None) -> SpokenVideo:
        suffix = _suffix(job.options)
        path = target or self._folder.target(f"lipwright-{job.check().id[:12]}{suffix}", "out", suffix)
        await self._client.jobs.download(job.id, path)
        return SpokenVideo.of(job, path)


def _suffix(options: Mapping[str, Any]) -> str:
    """Return the suffix of the video of a job with these options."""
    return f".{options.get('format', 'mp4')}"


@contextlib.contextmanager
def _report_errors() -> Iterator[None]:
    """Report expected errors to the model; unexpected exceptions propagate."""
    try:
        yield
    except ClientError as error:
        raise ToolError(f"{error.code}: {error.detail}") from error
    except (FolderError, OSError) as error:
        raise ToolError(str(error)) from error


def run(url: str, folder: Path) -> None:
    """Serve on standard input and output until they are closed."""
    LipwrightTools(AsyncLipwright(url), SharedFolder(folder)).server().run("stdio")
