"""The options of a session, as its URL gives them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar, get_args

from starlette.datastructures import QueryParams

from errors import OptionError
from media.output.backgrounds import BLUR, TRANSPARENT, BackgroundOptions, MatteMode, checked_background
from media.playback import AfterEnd
from storage.job_settings import MAX_EXPRESSIVENESS
from storage.records import new_id

C = TypeVar("C")

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
        background: What is behind the person; None: what is in the source.
    """

    session_id: str
    sample_rate: int
    expressiveness: float = 1.0
    motion: float = 1.0
    background: BackgroundOptions | None = None


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


def _background(query: QueryParams) -> BackgroundOptions | None:
    modes: dict[str, MatteMode] = {mode: mode for mode in get_args(MatteMode)}
    matte = _one_of("matte", query.get("matte", "auto"), modes)
    ends: dict[str, AfterEnd] = {end: end for end in get_args(AfterEnd)}
    after_end = _one_of("background_loop", query.get("background_loop", "loop"), ends)
    text, file_id = query.get("background"), query.get("background_id")
    if text is not None and file_id is not None:
        raise OptionError("Expected either background or background_id, found both.")
    if text is not None:
        return BackgroundOptions(_colour(text), matte)
    return None if file_id is None else BackgroundOptions(None, matte, file_id, after_end)


def _one_of(name: str, text: str, choices: Mapping[str, C]) -> C:
    if text not in choices:
        raise OptionError(f"{name}: expected one of {', '.join(choices)}, found {text[:20]!r}.")
    return choices[text]


def _colour(text: str) -> str:
    try:
        colour = checked_background(text)
    except ValueError:
        raise OptionError(
            f"background: expected a colour such as #00b140 or white, or `{BLUR}`, found {text[:40]!r}. "
            "In a URL, # is written %23. Send a picture or video with POST /v1/backgrounds and pass background_id."
        ) from None
    if colour == TRANSPARENT:
        raise OptionError(
            f"background: `{TRANSPARENT}` is not possible in a live session, because H.264 has no transparency. "
            "Use a colour, such as #00b140, and key it out where the stream is shown."
        )
    return colour
