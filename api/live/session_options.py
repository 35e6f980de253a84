"""The options of a session, as its URL gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import QueryParams

from api.forms.form_schema import validated
from errors import OptionError
from jobs.model.avatar_settings import AvatarOverrides, AvatarSettings, BackgroundSettings
from jobs.model.files import new_id
from media.output.backgrounds import TRANSPARENT

RATES: Final = (8000, 16000, 22050, 24000, 44100, 48000)
_DEFAULT_RATE: Final = 24000  # LiveAvatar's


@dataclass(frozen=True)
class SessionOptions:
    """Options of a session.

    Attributes:
        session_id: ID of the session.
        sample_rate: Sample rate of the client's audio, in Hz.
        settings: Movement and background; what is not set is as the avatar has it.
    """

    session_id: str
    sample_rate: int
    settings: AvatarSettings = field(default_factory=AvatarSettings)


def session_options(query: QueryParams) -> SessionOptions:
    """Return the options of a new session.

    Raises:
        OptionError: One of them is not possible.
    """
    rate = query.get("sample_rate", str(_DEFAULT_RATE))
    if rate not in map(str, RATES):
        raise OptionError(f"sample_rate: expected one of {', '.join(map(str, RATES))}, found {rate[:20]!r}.")
    return SessionOptions(new_id(), int(rate), _settings(query))


def _settings(query: QueryParams) -> AvatarSettings:
    fields = {name: query[name] for name in AvatarSettings.model_fields if name in query}
    try:
        settings = validated(AvatarOverrides, fields).avatar_settings
    except OptionError as error:
        if not fields.keys() & BackgroundSettings.model_fields.keys():
            raise
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
