"""The route /v1/voices."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.speech.voice import speaker_of
from config import PipelineConfig


class VoiceView(BaseModel):
    """Text-to-speech of this service."""

    is_available: bool = Field(description="Whether the service can synthesize `text`.")
    default: str | None = Field(description="Default voice; null if there is none.")
    max_chars: int = Field(description="Maximum length of a text in characters.")


class VoiceRoutes:
    """Handlers of /v1/voices."""

    def __init__(self, config: PipelineConfig) -> None:
        self._speaker = speaker_of(config.tts)

    def router(self) -> APIRouter:
        """Return the router."""
        router = APIRouter(prefix="/v1", tags=["voices"])
        router.add_api_route("/voices", self.voices, summary="List voices", operation_id="get_voices")
        return router

    async def voices(self) -> VoiceView:
        """The voice of this service. Other names than the default are up to whoever speaks."""
        speaker = self._speaker
        return VoiceView(
            is_available=speaker.default_voice is not None, default=speaker.default_voice, max_chars=speaker.max_chars
        )
