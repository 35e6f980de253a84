"""Who is in a source, and who speaks when. Stored beside the avatar and returned by the API."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

PEOPLE_VERSION: Final = "3"
"""Increment it to invalidate reports of older versions."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TimeRange(_Record):
    """A half-open time range of the source."""

    start: float = Field(description="Seconds from the start of the source.")
    end: float = Field(description="Seconds from the start of the source, exclusive.")


class SeenPerson(_Record):
    """One person in a source."""

    number: int = Field(description="Number N of the face choice `person:N`; 0 is seen largest and longest.")
    seen: tuple[TimeRange, ...] = Field(description="When the face is seen.")
    face_pixels: float = Field(description="Median of the longer side of the face, brows to chin, in pixels.")
    frontal_share: float = Field(
        description="Share of these frames in which the head is turned by at most 30 degrees, 0 to 1."
    )


class SpeakerTurn(TimeRange):
    """A stretch of speech in the source, and who speaks."""

    person: int | None = Field(description="Number of the person; null: nobody whose face is seen.")
    confidence: float = Field(ge=0, le=1, description="Probability of that, 0 to 1.")


class PeopleReport(_Record):
    """The people in a source, and its turns of speech in order."""

    version: str = PEOPLE_VERSION
    people: tuple[SeenPerson, ...]
    turns: tuple[SpeakerTurn, ...] = Field((), description="Empty if the source has no sound.")
    audio_offset_ms: float | None = Field(
        None, description="How far the audio lags behind the video (negative: leads); null if unknown."
    )

    def speaking_seconds(self, number: int) -> float:
        """Return how long a person speaks."""
        return sum(turn.end - turn.start for turn in self.turns if turn.person == number)

    def main_speaker(self) -> int | None:
        """Return the number of the person who speaks most; None if nobody who is seen speaks."""
        number = max((each.number for each in self.people), key=self.speaking_seconds, default=None)
        return number if number is not None and self.speaking_seconds(number) else None
