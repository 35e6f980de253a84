"""Chooses voices for the texts of turns."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.model.turns import Turn
from jobs.speech_messages import VoiceWish
from speech.service import TtsService
from speech.voice_choice import choose_voices


async def with_voices(tts: TtsService, turns: Sequence[Turn], language: str) -> list[Turn]:
    """Return turns whose texts have voices that speak a language, a different one for each speaker without a voice.

    Speakers are told apart by name, or by face if they have none.

    Raises:
        OptionError: There are too few voices.
    """
    spoken = [turn for turn in turns if turn.text is not None]
    wishes = [VoiceWish(repr((turn.speaker, turn.speaker is None and turn.face)), turn.voice) for turn in spoken]
    voices = iter((await choose_voices(tts, wishes, language)).voices)
    return [turn if turn.text is None else turn.model_copy(update={"voice": next(voices)}) for turn in turns]
