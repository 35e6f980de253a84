"""Messages between the Director and SpeechSynthesis."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Final, TypeVar

from errors import LipwrightError
from media.dubbing.slots import SpeechSlot
from media.subtitles.cues import Cue

E = TypeVar("E", bound=LipwrightError)

_CUE: Final = re.compile(r"\bcue (\d+): ")


@dataclass(frozen=True)
class PlacedCue:
    """A spoken text, by its key, and its time slot."""

    key: str
    slot: SpeechSlot


@dataclass(frozen=True)
class RecordedCue:
    """Where a spoken text is in a recording.

    Attributes:
        audio_start: Where it starts, in seconds of the recording.
        seconds: How long it takes there, with the silence that fills its slot.
        speed: How much faster it is played than it was synthesized, 1 or more.
        cut_seconds: How much of it does not fit and is cut off, in seconds of the video.
    """

    audio_start: float
    seconds: float
    speed: float
    cut_seconds: float


@dataclass(frozen=True)
class RecordedSpeech:
    """A recording of spoken texts: a mono FLAC file, and its texts in the order in which they were given."""

    sha256: str
    num_bytes: int
    cues: tuple[RecordedCue, ...]


@dataclass(frozen=True)
class VoiceRequest:
    """How a text is to be spoken.

    Attributes:
        speaker: Who speaks: different speakers without a voice get different voices.
        voice: The voice; None to have one chosen.
    """

    speaker: str | None
    voice: str | None


@dataclass(frozen=True)
class ChosenVoices:
    """The voices of texts, in order; None is the default voice. `language` is what all of them speak, if known."""

    voices: tuple[str | None, ...]
    language: str | None


@dataclass(frozen=True)
class TranslatedCue(Cue):
    """What one speaker says in a recording, in another language; `original_text` is what was said."""

    original_text: str = field(kw_only=True)


def of_cue(error: E, number: int) -> E:
    """Return the error with the number of the cue that it is about, from 0."""
    return _with_message(error, f"cue {number}: {error}")


def name_cues(error: E, names: Sequence[str]) -> E:
    """Return an error of `Stages.record_speech` in which a cue is called by its name, by number, as in `turns[7]`."""
    return _with_message(error, _CUE.sub(lambda match: f"{names[int(match[1])]}: ", str(error)))


def _with_message(error: E, message: str) -> E:
    """Return a copy of an error with another message and the same attributes."""
    named = copy(error)
    named.args = (message, *error.args[1:])
    return named
