"""Requests to a server with OpenAI's API, for speech, transcription and translation."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import httpx

from errors import StageTimeoutError, VoiceError

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
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                httpx.AsyncClient(timeout=timeout, trust_env=self._trust_env, verify=self._tls) as http,
                http.stream("POST", self._url + path, headers=self._headers(), **request) as answer,
            ):
                check(answer)
                if (status := answer.status_code) != 200:
                    raise self.failed(f"returned status {status}", is_unreachable=status in _BUSY)
                async for piece in answer.aiter_bytes():
                    yield piece
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
