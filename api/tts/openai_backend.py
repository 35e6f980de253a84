"""Text-to-speech by a server with OpenAI's `POST /audio/speech`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Final

import httpx

from config import TtsConfig
from errors import OptionError, StageTimeoutError, VoiceError

_PATH: Final = "/audio/speech"
_VOICES_PATH: Final = "/audio/voices"
"""Not part of OpenAI's API; Kokoro-FastAPI, openedai-speech and others have it."""
_LIST_S: Final = 2.0
_CONNECT_S: Final = 10.0
_REFUSED: Final = (400, 404, 413, 422)
"""Statuses that reject the text, voice or model; others mean that the server or its key is at fault."""
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class OpenAIBackend:
    """A client of the server. Its URL is trusted: the operator configured it."""

    def __init__(self, settings: TtsConfig) -> None:
        assert settings.url is not None
        self._settings = settings
        base = settings.url.rstrip("/")
        self._url = base if base.endswith(_PATH) else base + _PATH
        # A proxy from the environment cannot reach this machine's loopback.
        self._trust_env = httpx.URL(self._url).host not in _LOOPBACK

    async def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        """Yield the audio file as it arrives; see `api.tts.service.TtsBackend`."""
        settings = self._settings
        asked = {"model": settings.model, "input": text, "voice": voice, "response_format": settings.response_format}
        timeout = httpx.Timeout(settings.timeout_s, connect=_CONNECT_S)
        try:
            async with (
                asyncio.timeout(settings.timeout_s),
                httpx.AsyncClient(timeout=timeout, trust_env=self._trust_env) as http,
                http.stream("POST", self._url, json=asked, headers=self._headers()) as answer,
            ):
                self._check(answer, voice)
                async for piece in answer.aiter_bytes():
                    yield piece
        except (TimeoutError, httpx.TimeoutException) as error:
            raise StageTimeoutError(f"The voice timed out after {settings.timeout_s:g} s.") from error
        except httpx.HTTPError as error:
            raise VoiceError(f"The voice server cannot be reached ({type(error).__name__}).") from error

    async def voices(self) -> list[str]:
        """Return the server's voices; empty if it cannot list them."""
        url = self._url.removesuffix(_PATH) + _VOICES_PATH
        try:
            async with httpx.AsyncClient(timeout=_LIST_S, trust_env=self._trust_env) as http:
                answer = await http.get(url, headers=self._headers())
                found = answer.json()["voices"] if answer.is_success else []
            names = [each if isinstance(each, str) else each.get("id") or each.get("name") for each in found]
        except (httpx.HTTPError, VoiceError, ValueError, KeyError, TypeError, AttributeError):
            return []
        return [name for name in names if isinstance(name, str)]

    def _headers(self) -> dict[str, str]:
        name = self._settings.api_key_env
        if name is None:
            return {}
        if not (key := os.environ.get(name, "").strip()):
            raise VoiceError(f"The voice server needs an API key, but the environment variable {name} is not set.")
        return {"Authorization": f"Bearer {key}"}

    def _check(self, answer: httpx.Response, voice: str) -> None:
        """Reject responses without audio. Their content is not shown to callers."""
        if answer.status_code in _REFUSED:
            raise OptionError(
                f"text, voice: the voice server rejected this text with voice {voice!r} (status {answer.status_code})."
            )
        if answer.status_code != 200:
            raise VoiceError(f"The voice server returned status {answer.status_code}.")
        if "json" in (kind := answer.headers.get("content-type", "")) or kind.startswith("text/"):
            raise VoiceError("The voice server returned text instead of audio.")
