"""Chooses voices for texts that name none, and finds the language of what is spoken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from api.tts.service import TtsService
from errors import OptionError
from jobs.model.turns import Turn
from media.language import language_name


async def choose_voice(tts: TtsService, language: str) -> str | None:
    """Return a voice that speaks a language; None for the default voice, if the languages of voices are not known.

    Raises:
        OptionError: No voice speaks it.
    """
    voices = await tts.voices_of(language)
    if voices is None:
        return None
    await _check(tts, voices, 1, language)
    return voices[0]


async def with_voices(tts: TtsService, turns: Sequence[Turn], language: str) -> list[Turn]:
    """Return turns whose texts have voices that speak a language, a different one for each speaker without a voice.

    Speakers are told apart by name, or by face if they have none.

    Raises:
        OptionError: There are too few voices.
    """
    voices = await tts.voices_of(language)
    silent = dict.fromkeys(_speaker(turn) for turn in turns if turn.text is not None and turn.voice is None)
    if voices is None or not silent:
        return list(turns)
    taken = {turn.voice for turn in turns}
    free = [voice for voice in voices if voice not in taken]
    if len(free) < len(silent):
        await _check(tts, voices, len(silent) + len(voices) - len(free), language)
    chosen = dict(zip(silent, free, strict=False))
    return [
        turn.model_copy(update={"voice": chosen[_speaker(turn)]})
        if turn.text is not None and turn.voice is None
        else turn
        for turn in turns
    ]


def spoken_language(tts: TtsService, voices: Iterable[str | None]) -> str | None:
    """Return the language that all of these voices speak; None if it is not known, or they differ."""
    languages = {tts.language_of(voice) for voice in voices}
    return languages.pop() if len(languages) == 1 else None


def _speaker(turn: Turn) -> tuple[str | None, str | None]:
    return (turn.speaker, None) if turn.speaker is not None else (None, turn.face)


async def _check(tts: TtsService, voices: Sequence[str], num_needed: int, language: str) -> None:
    if len(voices) < num_needed:
        named = ", ".join(voices) or f"none. Voices of other languages: {', '.join((await tts.voices())[:40])}"
        raise OptionError(
            f"language: {num_needed} speakers need as many voices of {language_name(language)}; there are: {named}. "
            "Choose one with `voice`, or for each speaker with `speakers` or `turns`."
        )
