"""Chooses the voices of turns."""

from __future__ import annotations

from collections.abc import Sequence

from lipwright.jobs.model.turns import PlannedTurn
from lipwright.jobs.ports import Stages
from lipwright.jobs.speech_messages import VoiceRequest
from lipwright.telemetry.log_context import CallContext


async def with_voices(
    stages: Stages, context: CallContext, turns: Sequence[PlannedTurn], language: str | None
) -> tuple[list[PlannedTurn], str | None]:
    """Return turns whose texts have voices, and the language of all these voices, if it is known.

    Speakers are told apart by name, or by face if they have none.

    Raises:
        OptionError: There are too few voices of the language.
    """
    spoken = [number for number, turn in enumerate(turns) if turn.text is not None]
    requests = [VoiceRequest(_speaker(turns[number]), turns[number].voice) for number in spoken]
    chosen = await stages.choose_voices(context, requests, language)
    found = list(turns)
    for number, voice in zip(spoken, chosen.voices, strict=True):
        found[number] = turns[number].model_copy(update={"voice": voice})
    return found, chosen.language


def _speaker(turn: PlannedTurn) -> str:
    return f"face {turn.face}" if turn.speaker is None else f"speaker {turn.speaker}"
