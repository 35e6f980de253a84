"""Chooses voices for texts that name none, and finds the language of what is spoken."""

from __future__ import annotations

from collections.abc import Sequence

from lipwright.errors import OptionError
from lipwright.jobs.speech_messages import ChosenVoices, VoiceRequest
from lipwright.media.language import language_name
from lipwright.speech.service import TtsService


async def choose_voices(tts: TtsService, requests: Sequence[VoiceRequest], language: str | None) -> ChosenVoices:
    """Return the voices of texts: the requested ones, and a different one for each other speaker.

    Args:
        tts: The voices.
        requests: How each text is to be spoken.
        language: What chosen voices speak; None for the default voice.

    Raises:
        OptionError: A requested voice does not exist, or there are too few voices.
    """
    voices = [request.voice for request in requests]
    for voice in {voice for voice in voices if voice is not None}:
        await tts.check_voice(voice)
    if language is not None:
        chosen = await _chosen(tts, requests, language)
        voices = [chosen.get(request.speaker) if request.voice is None else request.voice for request in requests]
    languages = {tts.language_of(voice) for voice in voices}
    return ChosenVoices(tuple(voices), language or (languages.pop() if len(languages) == 1 else None))


async def _chosen(tts: TtsService, requests: Sequence[VoiceRequest], language: str) -> dict[str | None, str]:
    """Return the voice of each speaker without one; of none if the languages of voices are not known."""
    voices = await tts.voices_of(language)
    speakers = dict.fromkeys(request.speaker for request in requests if request.voice is None)
    if voices is None or not speakers:
        return {}
    taken = {request.voice for request in requests}
    free = [voice for voice in voices if voice not in taken]
    if len(free) < len(speakers):
        named = ", ".join(voices) or f"none. Voices of other languages: {', '.join((await tts.voices())[:40])}"
        raise OptionError(
            f"language: {len(speakers) + len(voices) - len(free)} speakers need as many voices of "
            f"{language_name(language)}; there are: {named}. Choose one with `voice`, or for each speaker with "
            "`speakers` or `turns`."
        )
    return dict(zip(speakers, free, strict=False))
