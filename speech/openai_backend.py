"""Text-to-speech by a server with OpenAI's `POST /audio/speech`.

OpenAI's API has no field for a recording to clone. Servers that clone take it as a base64 data URL beside OpenAI's
fields (`ref_audio` and `ref_text` of vLLM-Omni) or as a file of a multipart form (Chatterbox TTS API).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import httpx

from config import TtsConfig
from errors import OptionError, VoiceError
from speech.openai_server import OpenAIServer
from storage.voices import VoiceSample

_PATH: Final = "/audio/speech"
_VOICES_PATH: Final = "/audio/voices"
"""Not part of OpenAI's API; Kokoro-FastAPI, openedai-speech and others have it."""
_LIST_S: Final = 2.0
_REFUSED: Final = (400, 404, 413, 422)
"""Statuses that reject the text, voice or model; others mean that the server or its key is at fault."""


class OpenAIBackend:
    """A client of the server. Its URL is trusted: the operator configured it."""

    def __init__(self, settings: TtsConfig) -> None:
        assert settings.url is not None
        self._settings = settings
        self._url = settings.url.rstrip("/").removesuffix(_PATH)
        self._server = OpenAIServer("voice", self._url, settings.api_key_env, settings.timeout_s)

    def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        """Yield the audio file as it arrives; see `speech.service.TtsBackend`."""
        return self._speech(_PATH, {"json": {**self._fields(text), "voice": voice}}, f"voice {voice!r}")

    async def identity(self, voice: str) -> str:
        """Return the voice with the server and its model; see `speech.service.TtsBackend`."""
        return self._identity(voice)

    def identity_of_clone(self, sample: VoiceSample) -> str:
        """Return the recording with the server and its model."""
        cloning = self._settings.cloning
        assert cloning is not None
        sha256 = hashlib.sha256(sample.wav).hexdigest()
        how = cloning.model_dump_json(exclude={"max_seconds", "max_bytes", "max_voices"})
        return self._identity(sha256, sample.record.transcript, how)

    def _identity(self, *parts: str) -> str:
        settings = self._settings
        return json.dumps([self._url + _PATH, settings.model, settings.response_format, *parts])

    def clone(self, text: str, sample: VoiceSample) -> AsyncGenerator[bytes]:
        """Yield the audio file as it arrives, in the voice of a recording; see `speech.service.TtsBackend`."""
        cloning = self._settings.cloning
        assert cloning is not None
        fields = self._fields(text)
        if cloning.voice is not None:
            fields["voice"] = cloning.voice
        if cloning.transcript_field and sample.record.transcript:
            fields[cloning.transcript_field] = sample.record.transcript
        if cloning.body == "json":
            fields[cloning.audio_field] = f"data:audio/wav;base64,{base64.b64encode(sample.wav).decode()}"
            request: dict[str, Any] = {"json": fields}
        else:
            request = {"data": fields, "files": {cloning.audio_field: ("sample.wav", sample.wav, "audio/wav")}}
        hint = "" if sample.record.transcript else ", whose recording has no transcript"
        return self._speech(cloning.path, request, f"cloned voice {sample.record.name!r}{hint}")

    def _fields(self, text: str) -> dict[str, str]:
        settings = self._settings
        return {"model": settings.model, "input": text, "response_format": settings.response_format}

    async def voices_of(self, language: str) -> list[str] | None:
        """Return None: the API does not tell which languages a voice speaks."""
        return None

    def language_of(self, voice: str) -> str | None:
        """Return None, likewise."""
        return None

    async def voices(self) -> list[str]:
        """Return the server's voices; empty if it cannot list them."""
        try:
            found = (await self._server.get(_VOICES_PATH, _LIST_S))["voices"]
            names = [each if isinstance(each, str) else each.get("id") or each.get("name") for each in found]
        except (httpx.HTTPError, VoiceError, ValueError, KeyError, TypeError, AttributeError):
            return []
        return [name for name in names if isinstance(name, str)]

    def _speech(self, path: str, request: Mapping[str, Any], voice: str) -> AsyncGenerator[bytes]:
        def check(answer: httpx.Response) -> None:
            """Reject responses without audio. Their content is not shown to callers."""
            if answer.status_code in _REFUSED:
                raise OptionError(
                    f"text, voice: the voice server rejected this text with {voice} (status {answer.status_code})."
                )
            kind = answer.headers.get("content-type", "")
            if answer.status_code == 200 and ("json" in kind or kind.startswith("text/")):
                raise self._server.failed("returned text instead of audio")

        return self._server.stream(path, request, check)
