"""The operator's own service with OpenAI's `POST /audio/speech`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Final

import httpx

from config import TtsConfig
from errors import OptionError, StageTimeoutError, VoiceError

_PATH: Final = "/audio/speech"
_CONNECT_S: Final = 10.0
_REFUSED: Final = (400, 404, 413, 422)
"""Statuses that blame the text, the voice or the model; the others blame the service or its key."""
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class EndpointVoice:
    """Asks for one sound file at a time. Addresses are not guarded: the operator wrote them down."""

    def __init__(self, settings: TtsConfig) -> None:
        assert settings.url is not None
        self._settings = settings
        base = settings.url.rstrip("/")
        self._url = base if base.endswith(_PATH) else base + _PATH

    async def speak(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        """Pieces of the sound file as they come; see `api.speech.voice.Voice`."""
        settings = self._settings
        asked = {"model": settings.model, "input": text, "voice": voice, "response_format": settings.response_format}
        timeout = httpx.Timeout(settings.timeout_s, connect=_CONNECT_S)
        # A proxy from the environment cannot reach this machine's loopback.
        uses_proxies = httpx.URL(self._url).host not in _LOOPBACK
        try:
            async with (
                asyncio.timeout(settings.timeout_s),
                httpx.AsyncClient(timeout=timeout, trust_env=uses_proxies) as http,
                http.stream("POST", self._url, json=asked, headers=self._headers()) as answer,
            ):
                self._check(answer, voice)
                async for piece in answer.aiter_bytes():
                    yield piece
        except (TimeoutError, httpx.TimeoutException) as error:
            raise StageTimeoutError(f"The voice did not speak within {settings.timeout_s:.0f} s.") from error
        except httpx.HTTPError as error:
            raise VoiceError(f"The voice cannot be reached ({type(error).__name__}).") from error

    def _headers(self) -> dict[str, str]:
        name = self._settings.api_key_env
        if name is None:
            return {}
        if not (key := os.environ.get(name, "").strip()):
            raise VoiceError(f"The voice: expected its key in the environment variable {name}, found none.")
        return {"Authorization": f"Bearer {key}"}

    def _check(self, answer: httpx.Response, voice: str) -> None:
        """Refuse an answer that is no sound; nothing of it is shown but its status."""
        if answer.status_code in _REFUSED:
            raise OptionError(
                f"text, voice: the service's voice takes no such text in the voice {voice!r} "
                f"(status {answer.status_code})."
            )
        if answer.status_code != 200:
            raise VoiceError(f"The voice: expected status 200, found {answer.status_code}.")
        if "json" in (kind := answer.headers.get("content-type", "")) or kind.startswith("text/"):
            raise VoiceError("The voice: expected a sound file, found text.")
