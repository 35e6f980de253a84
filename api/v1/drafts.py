"""Response models of /v1/jobs/{id}/turns."""

from __future__ import annotations

from pydantic import BaseModel, Field

from jobs.model.record import JobRecord, JobStatus


class TurnView(BaseModel):
    """One turn of a job, as it is planned."""

    number: int = Field(description="Number of the turn, from 0 in order of time; edits change the numbers.")
    face: str | None = Field(description="Who speaks; null for the face of the job.")
    speaker: str | None = Field(description="Name of the speaker.")
    start: float = Field(description="When it starts, in seconds of the video.")
    end: float | None = Field(description="When it should end; null if it may take as long as it needs.")
    text: str | None = Field(description="What is said; null if the speech is a file.")
    original_text: str | None = Field(description="What is said in the source, if it was sent.")
    voice: str | None = Field(description="Voice for the text; null for the default one.")
    gain_db: float
    natural_seconds: float | None = Field(description="Length of the text as the voice speaks it.")
    speed: float | None = Field(description="How much faster it is played, to end in time; null: not faster.")
    cut_seconds: float | None = Field(description="What does not fit and is cut; null: nothing.")
    audio: str | None = Field(description="The spoken text: path or URL; null if it is not spoken, or a file.")


class TurnsView(BaseModel):
    """The turns of a job."""

    version: int = Field(description="Version of the job, also as `ETag`: send it as `If-Match` with an edit.")
    status: JobStatus = Field(description="Turns can be changed while it is `review`.")
    turns: list[TurnView] = Field(description="In order of time.")

    @classmethod
    def of(cls, job: JobRecord, base_url: str) -> TurnsView:
        """Return the view of a job's turns with links that start with `base_url`."""
        here = f"{base_url}/v1/jobs/{job.id}/turns"
        own = TurnView.model_fields.keys() - {"number", "audio"}
        turns = [
            TurnView(
                number=number,
                **turn.model_dump(include=set(own)),
                audio=None if turn.cue is None else f"{here}/{number}/audio",
            )
            for number, turn in enumerate(job.plan.turns)
        ]
        return cls(version=job.version, status=job.status, turns=turns)
