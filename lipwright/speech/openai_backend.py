"""Text-to-speech, transcription and chat by a server with OpenAI's API.

OpenAI's API has no field for a recording to clone. Servers that clone take it as a base64 data URL beside OpenAI's
fields (`ref_audio` and `ref_text` of vLLM-Omni) or as a file of a multipart form (Chatterbox TTS API).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import httpx

from lipwright.config import TtsConfig
from lipwright.errors import OptionError, StageTimeoutError, VoiceError
from lipwright.storage.voices import VoiceSample

_CONNECT_S: Final = 10.0
_MAX_BYTES: Final = 32 << 20
_BUSY: Final = (429, 502, 503, 504)
"""Statuses of a server that starts, is overloaded, or cannot be reached by a proxy."""
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class OpenAIServer:
    """A client of one server. Its URL is trusted: the operator configured it. Redirects are not followed.

    Args:
        what: What it does, for errors.
        url: Base URL.
        key_env: Environment variable that holds the API key, if it needs one.
        timeout_s: Timeout of one request.
    """

    def __init__(self, what: str, url: str, key_env: str | None, timeout_s: float) -> None:
        self._what, self._url = what, url.rstrip("/")
        self._key_env, self._timeout_s = key_env, timeout_s
        # A proxy from the environment cannot reach this machine's loopback.
        self._trust_env = httpx.URL(self._url).host not in _LOOPBACK

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The trusted certificates. httpx would load them for every request, which takes 6 ms."""
        return httpx.create_ssl_context(trust_env=self._trust_env)

    async def transcribe(self, audio: Path, model: str, language: str | None) -> Any:
        """Return the JSON response to a WAV file, with segments; `language` is that of the speech, if known."""
        fields = {"model": model, "response_format": "verbose_json", "timestamp_granularities[]": "segment"}
        if language is not None:
            fields["language"] = language
        with audio.open("rb") as file:
            files = {"file": ("speech.wav", file, "audio/wav")}
            return await self._post("/audio/transcriptions", {"data": fields, "files": files})

    async def chat(self, model: str, instruction: str, message: str) -> str:
        """Return the text of the answer to a message."""
        messages = [{"role": "system", "content": instruction}, {"role": "user", "content": message}]
        answer = await self._post("/chat/completions", {"json": {"model": model, "messages": messages}})
        try:
            return str(answer["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError) as error:
            raise self.failed("returned no answer") from error

    def failed(self, problem: str, *, is_unreachable: bool = False) -> VoiceError:
        """Return the error for an answer that cannot be used. Its content is not shown to callers."""
        return VoiceError(f"The {self._what} server {problem}.", is_unreachable=is_unreachable)

    async def stream(
        self, path: str, request: Mapping[str, Any], check: Callable[[httpx.Response], None] = lambda answer: None
    ) -> AsyncGenerator[bytes]:
        """Yield the answer to a POST request as it arrives.

        Args:
            path: Path below the base URL.
            request: Content of the request, as arguments of httpx.
            check: May refuse the answer by its status or headers.

        Raises:
            VoiceError: The server cannot be reached, its key is missing, or its status is not 200.
            StageTimeoutError: It timed out.
        """
        timeout = httpx.Timeout(self._timeout_s, connect=_CONNECT_S)
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        try:
            async with httpx.AsyncClient(timeout=timeout, trust_env=self._trust_env, verify=self._tls) as http:
                asked = http.build_request("POST", self._url + path, headers=self._headers(), **request)
                async with asyncio.timeout_at(deadline):
                    answer = await http.send(asked, stream=True)
                async with aclosing(answer):
                    check(answer)
                    if (status := answer.status_code) != 200:
                        raise self.failed(f"returned status {status}", is_unreachable=status in _BUSY)
                    pieces = answer.aiter_bytes()
                    while True:
                        async with asyncio.timeout_at(deadline):  # not around `yield`: it would cancel the caller
                            piece = await anext(pieces, b"")
                        if not piece:
                            return
                        yield piece
        except httpx.ConnectTimeout as error:
            raise self.failed(f"cannot be reached within {_CONNECT_S:g} s", is_unreachable=True) from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise StageTimeoutError(f"The {self._what} server timed out after {self._timeout_s:g} s.") from error
        except httpx.HTTPError as error:
            raise self.failed(f"cannot be reached ({type(error).__name__})", is_unreachable=True) from error

    async def get(self, path: str, timeout_s: float) -> Any:
        """Return the JSON answer to a GET request; httpx.HTTPError, ValueError or VoiceError without one."""
        async with httpx.AsyncClient(timeout=timeout_s, trust_env=self._trust_env, verify=self._tls) as http:
            answer = await http.get(self._url + path, headers=self._headers())
            return answer.raise_for_status().json()

    async def _post(self, path: str, request: Mapping[str, Any]) -> Any:
        content = bytearray()
        async with aclosing(self.stream(path, request)) as pieces:
            async for piece in pieces:
                content += piece
                if len(content) > _MAX_BYTES:
                    raise self.failed(f"returned more than {_MAX_BYTES} bytes")
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self.failed("returned no JSON") from error

    def _headers(self) -> dict[str, str]:
        if self._key_env is None:
            return {}
        if not (key := os.environ.get(self._key_env, "").strip()):
            raise self.failed(f"needs an API key, but the environment variable {self._key_env} is not set")
        return {"Authorization": f"Bearer {key}"}


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
        """Yield the audio file as it arrives; see `TtsBackend`."""
        return self._speech(_PATH, {"json": {**self._fields(text), "voice": voice}}, f"voice {voice!r}")

    async def identity(self, voice: str) -> str:
        """Return the voice with the server and its model; see `TtsBackend`."""
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
        """Yield the audio file as it arrives, in the voice of a recording; see `TtsBackend`."""
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

    async def check_voice(self, voice: str) -> None:
        """Accept every voice: servers take more than they list; see `lipwright.speech.service.TtsBackend`."""

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
