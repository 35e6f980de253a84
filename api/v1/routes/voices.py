"""The route /v1/voices."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.tts.service import tts_service
from config import PipelineConfig


class VoiceView(BaseModel):
    """Text-to-speech of this service."""

    is_available: bool = Field(description="Whether the service can synthesize `text`.")
    voices: list[str] = Field(description="Names of all known voices, the default first.")
    default: str | None = Field(description="Default voice; null if there is none.")
    max_chars: int = Field(description="Maximum length of a text in characters.")


class VoiceRoutes:
    """Handlers of /v1/voices."""

    def __init__(self, config: PipelineConfig) -> None:
        self._tts = tts_service(config.tts)

    def router(self) -> APIRouter:
        """Return the router."""
        router = APIRouter(prefix="/v1", tags=["voices"])
        router.add_api_route("/voices", self.voices, summary="List voices", operation_id="get_voices")
        return router

    async def voices(self) -> VoiceView:
        """List the voices for `text`. A voice server may accept further names."""
        tts = self._tts
        return VoiceView(
            is_available=tts.default_voice is not None,
            voices=await tts.voices(),
            default=tts.default_voice,
            max_chars=tts.max_chars,
        )
