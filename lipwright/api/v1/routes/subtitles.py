"""The route /v1/subtitles."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import Request, Response
from pydantic import Field
from starlette.responses import PlainTextResponse

from lipwright.api.access import caller_of
from lipwright.api.forms.form_receiver import FormReceiver
from lipwright.api.forms.form_schema import form_body
from lipwright.api.problem import problem_responses
from lipwright.api.routing import Routes, route
from lipwright.config import PipelineConfig
from lipwright.jobs.fair_queue import FairQueue
from lipwright.jobs.model.base import FilePart, RequestModel, example
from lipwright.jobs.ports import JobService
from lipwright.jobs.sources.client_names import client_names
from lipwright.media.subtitles.cues import Cue
from lipwright.media.subtitles.texts import SubtitleFormat, subtitle_file
from lipwright.speech.transcriber import Transcriber
from lipwright.storage.file_keys import upload_key
from lipwright.storage.file_store import FileStore

SUBTITLE_TYPES: dict[SubtitleFormat, str] = {"srt": "application/x-subrip", "vtt": "text/vtt"}
_LANGUAGE = r"^[A-Za-z][A-Za-z0-9 ()-]{1,63}$"


class SubtitlesForm(RequestModel):
    """Transcribe a recording. Send it as multipart form data or as JSON."""

    model_config = example(audio_url="https://example.com/speech.wav")

    audio: FilePart = Field(description="An audio file, or a video whose audio track is used.")
    language: str | None = Field(None, pattern="^[a-z]{2,3}$", description="Language of the speech, such as `en`.")
    translate_to: str | None = Field(
        None,
        pattern=_LANGUAGE,
        description="Language of the subtitles, such as `German` or `de`. Default: no translation.",
    )
    format: SubtitleFormat = Field("srt", description="SubRip (`srt`) or WebVTT (`vtt`), which names speakers.")


class SubtitlesRoutes(Routes, prefix="/v1/subtitles", tags=["subtitles"]):
    """Handlers of /v1/subtitles."""

    def __init__(self, service: JobService, files: FileStore, config: PipelineConfig) -> None:
        self._service = service
        self._receiver = FormReceiver(service, files, config)
        self._files, self._settings = files, config.subtitles
        self._transcriber = Transcriber(config, files, FairQueue("transcription"))

    @route(
        "",
        "POST",
        summary="Transcribe a recording",
        openapi_extra=form_body(SubtitlesForm),
        response_class=PlainTextResponse,
        responses={
            200: {"content": {kind: {"schema": {"type": "string"}} for kind in SUBTITLE_TYPES.values()}},
            **problem_responses(413, 422, 429, 503, 504, 507),
        },
    )
    async def create_subtitles(self, request: Request) -> Response:
        """Return the subtitles of a recording, on request translated, by the servers that the operator configured."""
        self._settings.check(translates=False)
        async with self._receiver.receive(request, SubtitlesForm) as (form, admission_id):
            await self._service.release(admission_id)  # an admission is for a job or an avatar
            cues = await self._subtitles(caller_of(request).owner, form)
        text = await asyncio.to_thread(subtitle_file, cues, form.format)
        return Response(text, media_type=SUBTITLE_TYPES[form.format], headers={"Cache-Control": "no-store"})

    async def _subtitles(self, owner: str | None, form: SubtitlesForm) -> Sequence[Cue]:
        """Return the subtitles that were asked for. The upload is removed, also on failure."""
        upload = form.audio
        try:
            self._settings.check(translates=form.translate_to is not None)
            with client_names(upload):
                cues = await self._transcriber.transcribe(owner, upload_key(upload.key), form.language)
        finally:
            await asyncio.shield(asyncio.to_thread(self._files.drop_uploads, upload))
        return cues if form.translate_to is None else await self._transcriber.translate(cues, form.translate_to)
