"""The route /v1/voices."""

from __future__ import annotations

from pydantic import BaseModel, Field

from api.routing import Routes, route
from api.tts.service import tts_service
from config import PipelineConfig


class VoiceView(BaseModel):
    """Text-to-speech of this service."""

    is_available: bool = Field(description="Whether the service can synthesize `text`.")
    voices: list[str] = Field(description="Names of all known voices, the default first.")
    default: str | None = Field(description="Default voice; null if there is none.")
    max_chars: int = Field(description="Maximum length of a text in characters.")


class VoiceRoutes(Routes, prefix="/v1", tags=["voices"]):
    """Handlers of /v1/voices."""

    def __init__(self, config: PipelineConfig) -> None:
        self._tts = tts_service(config.tts)

    @route("/voices", summary="List voices")
    async def get_voices(self) -> VoiceView:
        """List the voices for `text`. A voice server may accept further names."""
        tts = self._tts
        return VoiceView(
            is_available=tts.default_voice is not None,
            voices=await tts.voices(),
            default=tts.default_voice,
            max_chars=tts.max_chars,
        )
