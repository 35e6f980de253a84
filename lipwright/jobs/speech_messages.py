"""Messages between the Director and SpeechSynthesis."""

from __future__ import annotations

from dataclasses import dataclass, field

from lipwright.media.dubbing.slots import SpeechSlot
from lipwright.media.phones import Closures
from lipwright.media.subtitles.cues import Cue


@dataclass(frozen=True)
class PlacedCue:
    """A spoken text.

    Attributes:
        key: Key of its file.
        slot: Its time slot.
        name: How errors name it.
    """

    key: str
    slot: SpeechSlot
    name: str


@dataclass(frozen=True)
class RecordedCue:
    """Where a spoken text is in a recording.

    Attributes:
        audio_start: Where it starts, in seconds of the recording.
        seconds: How long it takes there, with the silence that fills its slot.
        speed: How much faster it is played than it was synthesized, 1 or more.
        cut_seconds: How much of it does not fit and is cut off, in seconds of the video.
        closures: Closures of the lips, in seconds of the recording.
    """

    audio_start: float
    seconds: float
    speed: float
    cut_seconds: float
    closures: Closures = ()


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
