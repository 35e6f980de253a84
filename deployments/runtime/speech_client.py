"""The voices of SpeechSynthesis, for live sessions and requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any, Final

from ray.serve.handle import DeploymentHandle

from deployments.runtime.calls import CallOutcome, classify, to_lipwright_error, unwrap
from lipwright.config import TtsConfig
from lipwright.errors import ReplicaLostError
from lipwright.speech.service import Purpose

logger = logging.getLogger(__name__)

_START_S: Final = 60.0
"""Time for a replica to start after the only one has died."""
_ANSWER_S: Final = 30.0


class SpeechClient:
    """Implements `lipwright.speech.service.TextToSpeech` with the handle of SpeechSynthesis.

    Serve passes pieces on as they are made and keeps those that were not taken yet, at most `tts.max_bytes` per text.
    """

    def __init__(self, speech_synthesis: DeploymentHandle[Any], settings: TtsConfig) -> None:
        self._handle, self._streaming = speech_synthesis, speech_synthesis.options(stream=True)
        self._timeout_s = _START_S + settings.max_wait_s + settings.timeout_s

    async def voices(self) -> list[str]:
        voices: list[str] = await _answer(self._handle.voices.remote())
        return voices

    async def check_voice(self, voice: str) -> None:
        await _answer(self._handle.check_voice.remote(voice))

    async def synthesize(
        self, text: str, voice: str | None, owner: str | None, purpose: Purpose
    ) -> AsyncGenerator[bytes]:
        """See `TextToSpeech`. A text whose replica dies is not repeated: its beginning may have been heard."""
        response: Any = self._streaming.synthesize.remote(text, voice, owner, purpose)
        try:
            while True:
                async with asyncio.timeout(self._timeout_s):
                    piece: bytes = await anext(response)
                yield piece
        except StopAsyncIteration:
            return
        except Exception as error:
            raise _translate(error, self._timeout_s) from None
        finally:
            response.cancel()


async def _answer(response: Any) -> Any:
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await response
    except Exception as error:
        raise _translate(error, _ANSWER_S) from None
    finally:
        response.cancel()


def _translate(error: Exception, timeout_s: float) -> BaseException:
    cause, outcome = unwrap(error), classify(error)
    if outcome is CallOutcome.LOST:
        logger.warning("SpeechSynthesis: a call was lost: %r", cause)
        return ReplicaLostError("The replica with the voices ended before it had answered. Try again.")
    return to_lipwright_error(cause, outcome, timeout_s)
