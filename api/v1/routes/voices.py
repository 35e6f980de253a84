"""The route under /v1/voices: whether texts are spoken here."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.speech.voice import speaker_of
from config import PipelineConfig


class VoiceView(BaseModel):
    """What speaks a `text` that comes in place of `audio`."""

    is_available: bool = Field(description="Whether texts are spoken here.")
    default: str | None = Field(description="The voice of a job that names none; null without one.")
    max_chars: int = Field(description="Characters of the longest text.")


class VoiceRoutes:
    """Says what the settings came to."""

    def __init__(self, config: PipelineConfig) -> None:
        self._speaker = speaker_of(config.tts)

    def router(self) -> APIRouter:
        """The route with what OpenAPI says of it."""
        router = APIRouter(prefix="/v1", tags=["voices"])
        router.add_api_route("/voices", self.voices, summary="Can texts be spoken?", operation_id="get_voices")
        return router

    async def voices(self) -> VoiceView:
        """The voice of this service. Other names than the default are up to whoever speaks."""
        speaker = self._speaker
        return VoiceView(
            is_available=speaker.default_voice is not None, default=speaker.default_voice, max_chars=speaker.max_chars
        )
