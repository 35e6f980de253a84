"""The options of a session, as its URL gives them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import QueryParams

from api.forms.background_fields import WholeBackgroundFields
from api.forms.form_schema import validated
from errors import OptionError
from media.output.backgrounds import TRANSPARENT
from storage.background_settings import BackgroundSettings
from storage.job_settings import MAX_EXPRESSIVENESS
from storage.records import new_id

RATES: Final = (8000, 16000, 22050, 24000, 44100, 48000)
_DEFAULT_RATE: Final = 24000  # LiveAvatar's


@dataclass(frozen=True)
class SessionOptions:
    """Options of a session.

    Attributes:
        session_id: ID of the session.
        sample_rate: Sample rate of the client's audio, in Hz.
        expressiveness: Scale of the mouth movement, 0 to 2.
        motion: How far a still moves, 0 to 1.
        background: What is behind the person; if it names nothing, the background of the avatar.
    """

    session_id: str
    sample_rate: int
    expressiveness: float = 1.0
    motion: float = 1.0
    background: BackgroundSettings = field(default_factory=BackgroundSettings)


def session_options(query: QueryParams) -> SessionOptions:
    """Return the options of a new session.

    Raises:
        OptionError: One of them is not possible.
    """
    rate = query.get("sample_rate", str(_DEFAULT_RATE))
    if rate not in map(str, RATES):
        raise OptionError(f"sample_rate: expected one of {', '.join(map(str, RATES))}, found {rate[:20]!r}.")
    expressiveness = _number(query, "expressiveness", MAX_EXPRESSIVENESS)
    return SessionOptions(new_id(), int(rate), expressiveness, _number(query, "motion", 1), _background(query))


def _number(query: QueryParams, name: str, most: int) -> float:
    text = query.get(name, "1")
    with suppress(ValueError):
        if 0 <= (value := float(text)) <= most:
            return value
    raise OptionError(f"{name}: expected a number from 0 to {most}, found {text[:20]!r}.")


def _background(query: QueryParams) -> BackgroundSettings:
    fields = {name: query[name] for name in BackgroundSettings.model_fields if name in query}
    try:
        settings = validated(WholeBackgroundFields, fields).background_settings
    except OptionError as error:
        raise OptionError(
            f"{str(error).rstrip('.')}. In a URL, # is written %23. Send files with POST /v1/backgrounds and pass "
            "background_id."
        ) from error
    if settings.background == TRANSPARENT:
        raise OptionError(
            f"background: `{TRANSPARENT}` is not possible in a live session, because H.264 has no transparency. "
            "Use a colour, such as #00b140, and key it out where the stream is shown."
        )
    return settings
