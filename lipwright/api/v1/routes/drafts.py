"""The routes of jobs in review (their turns, edits and approval), and of revisions of finished jobs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import Header, Path, Request, Response
from pydantic import BaseModel, Field

from lipwright.api.access import caller_of
from lipwright.api.base_url import base_url
from lipwright.api.file_responses import inert_file_response
from lipwright.api.forms.form_schema import MAX_OBJECT_BYTES
from lipwright.api.forms.json_request import json_request, receive_json
from lipwright.api.openapi import RANGED, headers_of
from lipwright.api.problem import problem_responses
from lipwright.api.routing import Routes, route
from lipwright.api.v1.protocol import JobView
from lipwright.api.v1.waiting import NO_STORE, accepted
from lipwright.errors import NotFoundError, OptionError
from lipwright.jobs.model.avatar_settings import Expression
from lipwright.jobs.model.base import new_id
from lipwright.jobs.model.edits import NewTurn, Revision, TurnChange, TurnEdit, TurnRemoval, TurnSplit
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.ports import JobService
from lipwright.storage.file_keys import job_cues_folder
from lipwright.storage.file_store import FileStore
from lipwright.storage.protocols import MAX_INTEGER


class TurnView(BaseModel):
    """One turn of a job, as it is planned."""

    number: int = Field(description="Number of the turn, from 0 in order of time; edits change the numbers.")
    face: str | None = Field(description="Who speaks; null for the face of the job.")
    speaker: str | None = Field(description="Name of the speaker.")
    start: float = Field(description="When it starts, in seconds of the video.")
    end: float | None = Field(description="When it should end; null if it may take as long as it needs.")
    text: str | None = Field(description="What is said, with `[actions]`; null if the speech is a file.")
    original_text: str | None = Field(description="What is said in the source, if it was sent.")
    voice: str | None = Field(description="Voice for the text; null for the default one.")
    gain_db: float
    action: str | None = Field(description="Action that is shown when it starts.")
    expression: Expression | None = Field(description="Expression of a still picture; null for the job's.")
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
                **turn.model_dump(include=set(own)) | {"text": turn.marked_text},
                audio=None if turn.cue is None else f"{here}/{number}/audio",
            )
            for number, turn in enumerate(job.plan.turns)
        ]
        return cls(version=job.version, status=job.status, turns=turns)


_EDITED: Final = problem_responses(404, 409, 413, 422, 503, 504, 507)
_Number = Annotated[int, Path(ge=0, le=MAX_INTEGER, description="Number of the turn, from 0.")]
_IfMatch = Annotated[
    str | None, Header(description="`ETag` of the turns that the edit is for; 409 if they have changed since.")
]


class DraftRoutes(Routes, prefix="/v1/jobs/{job_id}", tags=["jobs"]):
    """Handlers of the turns of jobs."""

    def __init__(self, service: JobService, files: FileStore) -> None:
        self._service, self._files = service, files
        # Thousands of turns take 40 ms to write. One thread at a time competes with the event loop for the interpreter.
        self._writing = asyncio.Semaphore(1)

    @route("/turns", summary="List the turns", response_model=TurnsView, responses=problem_responses(404))
    async def list_turns(self, job_id: str, request: Request) -> Response:
        """Return the turns of a job: who says what when, how long it takes, and what is cut."""
        return await self._turns(await self._job(job_id, request), request)

    @route(
        "/turns",
        "POST",
        summary="Add a turn",
        response_model=TurnsView,
        openapi_extra=json_request(NewTurn),
        responses=_EDITED,
    )
    async def add_turn(self, job_id: str, request: Request, if_match: _IfMatch = None) -> Response:
        """Add a turn with a text to a job in review, and speak it. Returns all turns, also after other edits."""
        return await self._edit(job_id, request, if_match, 0, await receive_json(request, NewTurn))

    @route(
        "/turns/{number}",
        "PATCH",
        summary="Change a turn",
        response_model=TurnsView,
        openapi_extra=json_request(TurnChange),
        responses=_EDITED,
    )
    async def change_turn(self, job_id: str, number: _Number, request: Request, if_match: _IfMatch = None) -> Response:
        """Change text, voice, face, times or gain of a turn of a job in review. Only this turn is spoken again."""
        return await self._edit(job_id, request, if_match, number, await receive_json(request, TurnChange))

    @route("/turns/{number}", "DELETE", summary="Remove a turn", response_model=TurnsView, responses=_EDITED)
    async def remove_turn(self, job_id: str, number: _Number, request: Request, if_match: _IfMatch = None) -> Response:
        """Remove a turn of a job in review."""
        return await self._edit(job_id, request, if_match, number, TurnRemoval())

    @route(
        "/turns/{number}/split",
        "POST",
        summary="Split a turn",
        response_model=TurnsView,
        openapi_extra=json_request(TurnSplit),
        responses=_EDITED,
    )
    async def split_turn(self, job_id: str, number: _Number, request: Request, if_match: _IfMatch = None) -> Response:
        """Make two turns of one of a job in review, and speak both."""
        return await self._edit(job_id, request, if_match, number, await receive_json(request, TurnSplit))

    @route(
        "/turns/{number}/audio",
        summary="Listen to a turn",
        response_class=Response,
        responses={**RANGED, **problem_responses(404, 416)},
    )
    async def get_turn_audio(self, job_id: str, number: _Number, request: Request) -> Response:
        """Return the spoken text of a turn at its own speed. Supports range requests."""
        job = await self._job(job_id, request)
        cue = job.plan.turns[number].cue if number < len(job.plan.turns) else None
        missing = f"Job {job.id} has no spoken text of turn {number}."
        if cue is None:
            raise NotFoundError(missing)
        key = f"{job_cues_folder(job.id)}/{cue}"
        return await inert_file_response(request, self._files.stored, key, missing)

    @route(
        "/approve",
        "POST",
        status_code=202,
        response_model=JobView,
        summary="Approve a job",
        responses={202: {"headers": headers_of("Location")}, **problem_responses(404, 409, 429, 507)},
    )
    async def approve_job(self, job_id: str, request: Request) -> Response:
        """Render a job in review with the turns as they are now. Approving it again has no effect."""
        return accepted(await self._service.approve_job(job_id, caller_of(request).owner), request)

    @route(
        "/revisions",
        "POST",
        status_code=202,
        response_model=JobView,
        summary="Revise a finished job",
        openapi_extra=json_request(Revision),
        responses={202: {"headers": headers_of("Location")}, **problem_responses(404, 409, 413, 422, 429, 507)},
    )
    async def revise_job(self, job_id: str, request: Request) -> Response:
        """Make a new job of one that has succeeded, with changed turns or options. The finished job remains.

        Texts that stay the same are not spoken again, and parts of the video that stay the same are not rendered again.
        """
        revision = await receive_json(request, Revision, MAX_OBJECT_BYTES)
        job = await self._service.revise_job(job_id, new_id(), revision, caller_of(request).owner)
        return accepted(job, request)

    async def _job(self, job_id: str, request: Request) -> JobRecord:
        return await self._service.get_job(job_id, caller_of(request).owner)

    async def _edit(
        self,
        job_id: str,
        request: Request,
        if_match: str | None,
        number: int,
        edit: TurnChange | NewTurn | TurnSplit | TurnRemoval,
    ) -> Response:
        version = (await self._job(job_id, request)).version if if_match is None else _version(if_match)
        changed = TurnEdit(number=number, version=version, edit=edit)
        return await self._turns(await self._service.edit_turns(job_id, changed, caller_of(request).owner), request)

    async def _turns(self, job: JobRecord, request: Request) -> Response:
        async with self._writing:
            view = await asyncio.to_thread(_json, job, base_url(request))
        return Response(view, headers={**NO_STORE, "ETag": f'"{job.version}"'}, media_type="application/json")


def _version(if_match: str) -> int:
    text = if_match.removeprefix("W/").strip('"')
    if not text.isdecimal() or len(text) > 18:
        raise OptionError('If-Match: expected the ETag of the turns, such as "7".')
    return int(text)


def _json(job: JobRecord, base_url: str) -> str:
    return TurnsView.of(job, base_url).model_dump_json()
