"""HeyGem's voice service: `/v1/preprocess_and_tran` and `/v1/invoke`, by the text-to-speech of this service.

Training clones the voice of the recording if `heygem.voice_root` and `tts.cloning` are configured. Otherwise it
succeeds as well, and texts are spoken by the configured voice.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from pathlib import PurePosixPath
from typing import Final

from fastapi import Request, Response
from starlette.responses import JSONResponse

from lipwright.api.access import caller_of
from lipwright.api.forms.json_request import receive_fields
from lipwright.api.heygem.data_root import DataRoot
from lipwright.api.routing import Routes, route
from lipwright.config import PipelineConfig
from lipwright.errors import InputError, LipwrightError, MediaLimitError
from lipwright.jobs.model.base import UploadedFile
from lipwright.speech.limits import check_texts
from lipwright.speech.service import TextToSpeech
from lipwright.speech.voice_recorder import VoiceRecorder
from lipwright.storage.file_store import FileStore
from lipwright.storage.key_ring import KeyRing
from lipwright.storage.voices import VoiceStore

logger = logging.getLogger("ray.serve")

_FAILED: Final = -1
_VOICE_PREFIX: Final = "heygem:"
"""Start of the names of the cloned voices; the rest is the client's name of the recording."""
_MEDIA_TYPES: Final = {"mp3": "audio/mpeg", "opus": "audio/ogg"}


class HeygemVoiceRoutes(Routes, prefix="/v1", tags=["heygem"]):
    """Handlers of the voice service."""

    def __init__(self, files: FileStore, config: PipelineConfig, keys: KeyRing, speech: TextToSpeech) -> None:
        root = config.heygem.voice_root
        self._files, self._settings, self._speech = files, config.tts, speech
        self._recorder, self._voices = VoiceRecorder(config, files), VoiceStore(files.stored)
        self._cloning = config.tts.cloning
        self._root = None if root is None else DataRoot(root, lambda: len(keys.list()), base="")

    @route("/preprocess_and_tran", "POST", summary="Train a voice")
    async def easy_train(self, request: Request) -> Response:
        """Clone the voice of a recording (`reference_audio`), if cloning is configured."""
        try:
            reference = str((await receive_fields(request)).get("reference_audio") or "")
            if not reference:
                raise InputError("reference_audio is required")
            check_texts(self._settings, ())
            if self._cloning is not None and self._root is not None:
                upload = await asyncio.to_thread(self._upload, self._root, reference, self._cloning.max_bytes)
                name, owner = _VOICE_PREFIX + reference, caller_of(request).owner
                await self._recorder.record(owner, name, upload, replaces=True)
        except LipwrightError as error:
            return JSONResponse({"code": _FAILED, "msg": str(error)})
        return JSONResponse(
            {"code": 0, "msg": "success", "asr_format_audio_url": reference, "reference_audio_text": ""}
        )

    @route(
        "/invoke",
        "POST",
        summary="Speak a text",
        response_class=Response,
        responses={200: {"content": {"audio/wav": {"schema": {"type": "string", "format": "binary"}}}}},
    )
    async def easy_speak(self, request: Request) -> Response:
        """Return `text` as an audio file, in the voice cloned from `reference_audio`, else in the configured one."""
        try:
            fields = await receive_fields(request)
            text, owner = fields.get("text"), caller_of(request).owner
            if not isinstance(text, str) or not text.strip():
                raise InputError("text is required")
            name = f"{_VOICE_PREFIX}{fields.get('reference_audio')}"
            is_cloned = self._cloning is not None and await asyncio.to_thread(self._voices.has, owner, name)
            speech = self._speech.synthesize(text, name if is_cloned else None, owner, "requests")
            async with aclosing(speech) as pieces:
                audio = b"".join([piece async for piece in pieces])
        except LipwrightError as error:
            logger.warning("/v1/invoke: %s", error)
            return JSONResponse({"code": _FAILED, "msg": str(error)}, error.status_code)
        kind = "wav" if self._settings.url is None else self._settings.response_format
        return Response(audio, media_type=_MEDIA_TYPES.get(kind, f"audio/{kind}"))

    def _upload(self, root: DataRoot, reference: str, max_bytes: int) -> UploadedFile:
        with root.open(reference) as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise MediaLimitError(f"reference_audio: expected at most {max_bytes} bytes, found more.")
        with self._files.new_upload(PurePosixPath(reference).name) as writer:
            writer.write(content)
            return writer.finish()
