"""What a voice is, and which one this service has."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache
from importlib.util import find_spec
from typing import Protocol

from api.speech.endpoint import EndpointVoice
from api.speech.packaged import PACKAGED_VOICE, PackagedVoice
from config import TtsConfig
from errors import BusyError, OptionError, VoiceError

_RETRY_AFTER_S = 5.0


class Voice(Protocol):
    """Speaks one text at a time; made new for each."""

    def speak(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        """Pieces of a sound file.

        Raises:
            OptionError: There is no such voice, or it takes no such text.
            VoiceError: It failed.
            StageTimeoutError: It took too long.
        """
        ...


class Speaker:
    """The voice of one process of the API, with a bound on how much it does at a time.

    Attributes:
        default_voice: What a job without a voice gets; None where there is none.
    """

    def __init__(self, settings: TtsConfig, voice: Voice | None, default_voice: str | None) -> None:
        self._settings = settings
        self._voice = voice
        self.default_voice = default_voice
        self._num_speaking = 0

    @property
    def max_chars(self) -> int:
        """Characters of the longest text."""
        return self._settings.max_chars

    def check(self, text: str) -> None:
        """Refuse what cannot be spoken here, before anything is done for it.

        Raises:
            OptionError: There is no voice here, or the text is too long.
        """
        if self._voice is None:
            raise OptionError(
                "text: this service has no voice. Whoever runs it sets speech.url, or installs the extra [tts]; a "
                "sound file (audio) works without."
            )
        if len(text) > self.max_chars:
            raise OptionError(f"text: expected at most {self.max_chars} characters, found {len(text)}.")

    async def speak(self, text: str, voice: str | None) -> AsyncGenerator[bytes]:
        """Pieces of the sound file.

        Raises:
            OptionError: This text or voice cannot be spoken here.
            BusyError: Too much is spoken already.
            VoiceError: The voice failed, or its sound is too large.
            StageTimeoutError: It took too long.
        """
        self.check(text)
        assert self._voice is not None
        limits = self._settings
        if self._num_speaking >= limits.max_concurrent:
            raise BusyError(f"Expected at most {limits.max_concurrent} texts spoken at a time.", _RETRY_AFTER_S)
        self._num_speaking += 1
        try:
            num_bytes = 0
            async with aclosing(self._voice.speak(text, voice or self.default_voice or "")) as pieces:
                async for piece in pieces:
                    num_bytes += len(piece)
                    if num_bytes > limits.max_bytes:
                        raise VoiceError(f"The voice: expected at most {limits.max_bytes} bytes of sound, found more.")
                    yield piece
            if not num_bytes:
                raise VoiceError("The voice: expected a sound file, found nothing.")
        finally:
            self._num_speaking -= 1


@cache
def speaker_of(settings: TtsConfig) -> Speaker:
    """The voice of this process: the operator's endpoint, else that of the extra, else none."""
    if settings.url is not None:
        return Speaker(settings, EndpointVoice(settings), settings.voice)
    if settings.use_builtin and find_spec("hibari") is not None:
        return Speaker(settings, PackagedVoice(settings), PACKAGED_VOICE)
    return Speaker(settings, None, None)
