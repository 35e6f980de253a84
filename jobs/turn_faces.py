"""Gives the turns of one person one face, however the person is named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from errors import FaceNotFoundError, OptionError
from jobs.model.turns import PlannedTurn
from models.face.choice import OFF_SCREEN, FaceChoice, is_reference

_LARGEST: Final = FaceChoice()
_ALSO_LARGEST: Final = FaceChoice("index", (0.0,))

ResolveFace = Callable[[FaceChoice], Awaitable[int | None]]
"""Returns the number of the person whom a choice selects; None if that is not known."""


async def same_faces(turns: Sequence[PlannedTurn], face: str, resolve: ResolveFace) -> tuple[str | None, ...]:
    """Return the face of each turn, with one name for each person as far as the people in the source are known.

    Args:
        turns: The turns; those without a face have that of the job.
        face: The face of the job as it is recorded.
        resolve: Finds the person of a choice.

    Raises:
        OptionError: A face is none, or there is no such person; names the turn.
    """
    names: dict[int | FaceChoice, str | None] = {}
    found: dict[str | None, str | None] = {None: None, OFF_SCREEN: OFF_SCREEN}
    if not is_reference(face) and any(turn.face is None for turn in turns):
        names[await _person(face, resolve)] = None
    for number, turn in enumerate(turns):
        if turn.face is not None and turn.face not in found:
            try:
                person = await _person(turn.face, resolve)
            except (OptionError, FaceNotFoundError) as error:
                raise OptionError(f"turns[{number}].face: {str(error).removeprefix('face: ')}") from error
            found[turn.face] = names.setdefault(person, turn.face)
    return tuple(found[turn.face] for turn in turns)


def with_faces_of(turns: Sequence[PlannedTurn], faces: Sequence[str | None]) -> tuple[PlannedTurn, ...]:
    """Return turns with these faces."""
    return tuple(turn.model_copy(update={"face": face}) for turn, face in zip(turns, faces, strict=True))


async def _person(face: str, resolve: ResolveFace) -> int | FaceChoice:
    choice = FaceChoice.parse(face)
    person = await resolve(choice)
    if person is not None:
        return person
    return _LARGEST if choice == _ALSO_LARGEST else choice
