"""The routes under /v1/voices."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Path, Request
from pydantic import BaseModel, Field

from lipwright.api.access import caller_of
from lipwright.api.forms.form_receiver import FormReceiver
from lipwright.api.forms.form_schema import form_body
from lipwright.api.problem import problem_responses
from lipwright.api.routing import Routes, route
from lipwright.config import CloningConfig, PipelineConfig
from lipwright.errors import OptionError
from lipwright.jobs.model.base import FilePart, RequestModel, example
from lipwright.jobs.ports import JobService
from lipwright.speech.service import TextToSpeech
from lipwright.speech.voice_recorder import VoiceRecorder
from lipwright.storage.file_store import FileStore
from lipwright.storage.voices import VoiceRecord, VoiceStore

_MAX_TRANSCRIPT_CHARS = 1000


class VoiceForm(RequestModel):
    """Clone a voice. Send it as multipart form data or as JSON."""

    model_config = example(name="anna", audio_url="https://example.com/anna.wav")

    name: str = Field(
        pattern=r"^[^\W_][\w .-]{0,63}$",
        examples=["anna"],
        description="Name for `voice`: letters, digits, spaces and `._-`; the first one is a letter or a digit. It "
        "takes precedence over a voice of the same name that is not cloned.",
    )
    audio: FilePart = Field(
        description="The speaker, alone and without music: an audio file, or a video whose audio track is used."
    )
    transcript: str = Field(
        "",
        max_length=_MAX_TRANSCRIPT_CHARS,
        description="What the recording says, word for word. Some servers require it, most clone better with it.",
    )


class VoiceView(BaseModel):
    """Text-to-speech of this service."""

    is_available: bool = Field(description="Whether the service can synthesize `text`.")
    voices: list[str] = Field(description="Names of all known voices, the default first, with cloned ones.")
    default: str | None = Field(description="Default voice; null if there is none.")
    max_chars: int = Field(description="Maximum length of a text in characters.")
    can_clone: bool = Field(description="Whether voices can be cloned (`POST /v1/voices`).")
    can_translate: bool = Field(description="Whether the service can dub videos without subtitles (`translate_to`).")
    cloned: list[VoiceRecord] = Field(description="The voices that the caller has cloned, by name.")


class VoiceRoutes(Routes, prefix="/v1/voices", tags=["voices"]):
    """Handlers of /v1/voices."""

    def __init__(self, service: JobService, files: FileStore, config: PipelineConfig, speech: TextToSpeech) -> None:
        self._service, self._settings, self._speech = service, config.tts, speech
        self._store = VoiceStore(files.stored)
        self._recorder = VoiceRecorder(config, files)
        servers = config.subtitles.transcription_url, config.subtitles.translation_url
        self._can_translate = None not in servers
        max_bytes = (config.tts.cloning or CloningConfig()).max_bytes
        limits = config.limits.model_copy(update={"max_upload_bytes": min(max_bytes, config.limits.max_upload_bytes)})
        self._receiver = FormReceiver(service, files, config.model_copy(update={"limits": limits}))

    @route("", summary="List voices")
    async def get_voices(self, request: Request) -> VoiceView:
        """List the voices for `text`. A voice server may accept further names."""
        voices, can_clone = await self._speech.voices(), self._settings.cloning is not None
        cloned = await asyncio.to_thread(self._store.list, caller_of(request).owner) if can_clone else []
        return VoiceView(
            is_available=bool(voices),
            voices=list(dict.fromkeys([*voices, *(voice.name for voice in cloned)])),
            default=voices[0] if voices else None,
            max_chars=self._settings.max_chars,
            can_clone=can_clone,
            can_translate=self._can_translate and bool(voices),
            cloned=cloned,
        )

    @route(
        "",
        "POST",
        status_code=201,
        summary="Clone a voice",
        openapi_extra=form_body(VoiceForm),
        responses=problem_responses(409, 413, 422, 429, 503, 504, 507),
    )
    async def create_voice(self, request: Request) -> VoiceRecord:
        """Upload a recording of a speaker, to use its `name` as `voice`. You need the speaker's consent.

        The recording is passed to the speech server with every text in that voice. The voice belongs to the API key.
        """
        if self._settings.cloning is None:
            raise OptionError(
                "This service cannot clone voices. Ask the operator to set tts.url and tts.cloning for a speech server "
                "that takes recordings of speakers; see docs/text-to-speech.md."
            )
        async with self._receiver.receive(request, VoiceForm) as (form, admission_id):
            await self._service.release(admission_id)  # an admission is for a job or an avatar
            return await self._recorder.record(caller_of(request).owner, form.name, form.audio, form.transcript)

    @route(
        "/{name:path}",
        "DELETE",
        status_code=204,
        summary="Delete a cloned voice",
        responses=problem_responses(404),
    )
    async def delete_voice(
        self, name: Annotated[str, Path(max_length=256, description="Name or ID of the voice.")], request: Request
    ) -> None:
        """Delete a cloned voice and its recording. Accepted jobs are not affected: their texts are already spoken."""
        await asyncio.to_thread(self._store.delete, caller_of(request).owner, name)
