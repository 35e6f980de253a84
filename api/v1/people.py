"""Response models of /v1/avatars/{id}/people."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from jobs.messages import PeopleScan
from models.people.report import SeenPerson, SpeakerTurn
from storage.records import AvatarRecord


class PersonView(SeenPerson):
    """One person in the source of an avatar."""

    speaking_seconds: float = Field(description="How long the person speaks in the source.")
    thumbnail: str = Field(description="JPEG of the face: a path on this server, or an absolute URL behind a proxy.")


class PeopleView(BaseModel):
    """The people in the source of an avatar, and who speaks when."""

    status: Literal["searching", "ready"] = Field(description="The lists are complete once it is `ready`.")
    progress: float = Field(ge=0, le=1, description="Progress of the search from 0 to 1.")
    people: list[PersonView] = Field(description="The one who is seen largest and longest first.")
    turns: list[SpeakerTurn] = Field(description="Who speaks when; empty if the source has no sound.")
    audio_offset_ms: float | None = Field(
        description="How far the audio lags behind the video (negative: leads); null if unknown."
    )

    @classmethod
    def of(cls, scan: PeopleScan, avatar: AvatarRecord, base_url: str) -> PeopleView:
        """Return the view of a search with links that start with `base_url`."""
        if (report := scan.report) is None:
            return cls(status="searching", progress=scan.progress, people=[], turns=[], audio_offset_ms=None)
        here = f"{base_url}/v1/avatars/{avatar.id}/people"
        people = [
            PersonView(
                **dict(person),
                speaking_seconds=round(report.speaking_seconds(person.number), 3),
                thumbnail=f"{here}/{person.number}/thumbnail",
            )
            for person in report.people
        ]
        return cls(
            status="ready",
            progress=1.0,
            people=people,
            turns=list(report.turns),
            audio_offset_ms=report.audio_offset_ms,
        )
