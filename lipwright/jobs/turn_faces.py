"""Gives the turns of one person one face, however the person is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from lipwright.errors import FaceNotFoundError, OptionError
from lipwright.jobs.model.turns import PlannedTurn
from lipwright.jobs.sources.people import People
from models.face.choice import OFF_SCREEN, FaceChoice, is_reference

_LARGEST: Final = FaceChoice()
_ALSO_LARGEST: Final = FaceChoice("index", (0.0,))


class JobSource(NamedTuple):
    """What decides the people of a job: the hash of its source, its face as it is recorded, and the caller."""

    sha256: str
    face: str
    owner: str | None


async def with_one_face_per_person(
    turns: Sequence[PlannedTurn], source: JobSource, people: People
) -> tuple[PlannedTurn, ...]:
    """Return turns with one face for each person, as far as the people in the source are known.

    Args:
        turns: The turns; those without a face have that of the job.
        source: The source of the job.
        people: The people in it.

    Raises:
        OptionError: A face is none, or there is no such person; names the turn.
    """
    names: dict[int | FaceChoice, str | None] = {}
    found: dict[str | None, str | None] = {None: None, OFF_SCREEN: OFF_SCREEN}
    if not is_reference(source.face) and any(turn.face is None for turn in turns):
        names[await _person(FaceChoice.of_record(source.face), source, people)] = None
    for number, turn in enumerate(turns):
        if turn.face is not None and turn.face not in found:
            try:
                person = await _person(FaceChoice.parse(turn.face), source, people)
            except (OptionError, FaceNotFoundError) as error:
                raise OptionError(f"turns[{number}].face: {str(error).removeprefix('face: ')}") from error
            found[turn.face] = names.setdefault(person, turn.face)
    return tuple(turn.model_copy(update={"face": found[turn.face]}) for turn in turns)


async def _person(choice: FaceChoice, source: JobSource, people: People) -> int | FaceChoice:
    person = await people.resolve(source.sha256, source.owner, choice)
    if person is not None:
        return person
    return _LARGEST if choice == _ALSO_LARGEST else choice
