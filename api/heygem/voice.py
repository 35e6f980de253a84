"""HeyGem's voice service: `/v1/preprocess_and_tran` and `/v1/invoke`, by the text-to-speech of this service.

Voices are not cloned: the desktop client's voice training succeeds, and its texts are spoken by the configured voice.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from api.heygem.protocol import MAX_BODY_BYTES
from api.tts.service import TtsService
from errors import InputError, LipwrightError

logger = logging.getLogger("ray.serve")

_FAILED: Final = -1


class HeygemVoiceRoutes:
    """Handlers of the voice service."""

    def __init__(self, tts: TtsService) -> None:
        self._tts = tts

    def router(self) -> APIRouter:
        """Return the router."""
        router = APIRouter(prefix="/v1", tags=["heygem"])
        router.add_api_route(
            "/preprocess_and_tran", self.train, methods=["POST"], summary="Train a voice", operation_id="easy_train"
        )
        router.add_api_route(
            "/invoke",
            self.invoke,
            methods=["POST"],
            summary="Speak a text",
            operation_id="easy_speak",
            response_class=Response,
            responses={200: {"content": {"audio/wav": {"schema": {"type": "string", "format": "binary"}}}}},
        )
        return router

    async def train(self, request: Request) -> Response:
        """Accept a reference recording (`reference_audio`). The configured voice is used instead of it."""
        try:
            reference = str((await _fields(request)).get("reference_audio") or "")
            if not reference:
                raise InputError("reference_audio is required")
            self._tts.check("")
        except LipwrightError as error:
            return JSONResponse({"code": _FAILED, "msg": str(error)})
        return JSONResponse(
            {"code": 0, "msg": "success", "asr_format_audio_url": reference, "reference_audio_text": ""}
        )

    async def invoke(self, request: Request) -> Response:
        """Return `text` as an audio file, spoken by the configured voice."""
        try:
            text = (await _fields(request)).get("text")
            if not isinstance(text, str) or not text.strip():
                raise InputError("text is required")
            audio = b"".join([piece async for piece in self._tts.synthesize(text, None)])
        except LipwrightError as error:
            logger.warning("/v1/invoke: %s", error)
            return JSONResponse({"code": _FAILED, "msg": str(error)}, error.status_code)
        return Response(audio, media_type=self._tts.media_type)


async def _fields(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise InputError(f"expected at most {MAX_BODY_BYTES} bytes of JSON")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise InputError("expected a JSON object")
    return fields
