"""Messages of live sessions, their limits (rate, size, invalid messages), and the options in a session's URL.

Names follow HeyGen's LiveAvatar LITE where it has a counterpart. Binary messages carry audio to the service and the
stream to the client.
"""

from __future__ import annotations

import base64
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.datastructures import QueryParams

from lipwright.api.forms.form_schema import validated
from lipwright.api.validation_message import describe
from lipwright.config import LiveConfig
from lipwright.errors import ForbiddenError, LipwrightError, OptionError
from lipwright.jobs.model.avatar_settings import AvatarOverrides, AvatarSettings, BackgroundSettings, StillSettings
from lipwright.jobs.model.base import new_id
from lipwright.jobs.model.browser_token import TokenGrant
from lipwright.media.live.encoder import LiveFragment
from lipwright.media.output.backgrounds import TRANSPARENT


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    event_id: str | None = Field(None, max_length=128, description="Returned in the events caused by this message.")


class Speak(_Message):
    """Speech to animate."""

    type: Literal["agent.speak"]
    audio: str = Field(description="16-bit little-endian mono PCM at the session's rate, as base64.")

    def samples(self) -> NDArray[np.int16]:
        """Return (N,) samples.

        Raises:
            OptionError: The data is invalid.
        """
        try:
            data = base64.b64decode(self.audio, validate=True)
        except ValueError:
            raise OptionError("audio: not valid base64.") from None
        return pcm(data)


class SpeakText(_Message):
    """Text for the service's text-to-speech."""

    type: Literal["agent.speak_text"]
    text: str = Field(
        min_length=1, max_length=20_000, description="The text, with `[actions]` of an avatar with clips."
    )
    voice: str | None = Field(None, max_length=128, description="Voice; defaults to the service's.")


class Action(_Message):
    """Show an action of an avatar with clips."""

    type: Literal["agent.action"]
    name: str = Field(max_length=64, description="Name of the action.")
    after_audio: bool = Field(False, description="Start when the audio that was sent before is spoken, not at once.")


class SpeakEnd(_Message):
    """End of an utterance."""

    type: Literal["agent.speak_end"]


class Interrupt(_Message):
    """Stop speaking and drop buffered speech."""

    type: Literal["agent.interrupt"]


class AvatarUpdate(_Message, StillSettings):
    """Change how a still picture behaves; what is not sent stays as it is."""

    type: Literal["avatar.update"]


class KeepAlive(_Message):
    """Prevent the idle timeout."""

    type: Literal["session.keep_alive"]


class Playback(_Message):
    """Playback position of the client; the service stays only a few seconds ahead."""

    type: Literal["session.playback"]
    position_seconds: float = Field(ge=0, le=1e7, allow_inf_nan=False, description="Stream time currently shown.")


class StartOutput(_Message):
    """Push the session to a destination."""

    type: Literal["output.start"]
    url: str = Field(min_length=1, max_length=4096, repr=False, description="rtmp, rtmps, srt, or https for WHIP.")
    token: str | None = Field(None, max_length=4096, repr=False, description="Bearer token, for WHIP.")


class StopOutput(_Message):
    """Stop pushing to a destination."""

    type: Literal["output.stop"]
    output_id: str = Field(max_length=40, description="ID from `output.state_updated`.")


class ListOutputs(_Message):
    """Ask for the state of all outputs."""

    type: Literal["output.list"]


GRANTABLE: Final = {"agent.speak": "audio", "agent.speak_text": "text"}
"""What a browser token must allow for a message. Messages about outputs are never allowed, other ones always."""
_OfOutput = StartOutput | StopOutput | ListOutputs
Incoming = Speak | SpeakText | Action | SpeakEnd | Interrupt | AvatarUpdate | KeepAlive | Playback | _OfOutput
_ADAPTER: Final[TypeAdapter[Incoming]] = TypeAdapter(Annotated[Incoming, Field(discriminator="type")])


def read_message(text: str) -> Incoming:
    """Parse a text message.

    Raises:
        OptionError: The message is invalid.
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise OptionError(f"message: {describe(error.errors()[:1])}"[:300]) from None


def event_id_of(text: str) -> str | None:
    """Return the `event_id` of a text message, even of an invalid one."""
    with suppress(ValidationError):
        return _Message.model_validate_json(text).event_id
    return None


def pcm(data: bytes) -> NDArray[np.int16]:
    """Return (N,) int16 samples of 16-bit little-endian PCM.

    Raises:
        OptionError: The number of bytes is odd.
    """
    if len(data) % 2:
        raise OptionError(f"Expected 16-bit PCM, found an odd number of bytes ({len(data)}).")
    return np.frombuffer(data, "<i2")


def event(kind: str, **fields: object) -> str:
    """Encode a text message to the client; fields that are None are omitted."""
    return json.dumps({"type": kind, **{name: value for name, value in fields.items() if value is not None}})


def error_event(error: LipwrightError) -> str:
    """Return the message that tells a client why it gets no session."""
    wait_s = error.retry_after_s
    return event("error", code=error.code, message=str(error), retryable=error.retryable, retry_after_s=wait_s)


def fragment_event(fragment: LiveFragment, **fields: object) -> str:
    """Return the message before a fragment of the stream."""
    times = {"start_seconds": fragment.start_seconds, "duration_seconds": fragment.duration_seconds}
    return event("session.fragment", **times, is_key=fragment.pictures.is_key, **fields)


_MAX_INVALID: Final = 16


class SessionEndedError(LipwrightError, code="session_ended", status_code=409):
    """The session has ended; `close_code` is the WebSocket close code (RFC 6455, 7.4)."""

    def __init__(self, reason: str, close_code: int) -> None:
        super().__init__(reason, close_code)
        self.close_code = close_code


class MessageLimits:
    """Counts the messages of one client. Exceeding a limit ends the session."""

    def __init__(self, live: LiveConfig) -> None:
        self._live = live
        self._left, self._at = 2 * live.max_messages_per_s, time.monotonic()
        self._num_invalid = 0

    def count(self, num_bytes: int) -> None:
        """Count one message.

        Raises:
            SessionEndedError: The client sends too many messages, or the message is too large.
        """
        now, rate = time.monotonic(), self._live.max_messages_per_s
        self._left = min(2 * rate, self._left + (now - self._at) * rate) - 1
        self._at = now
        if self._left < 0:
            raise SessionEndedError(f"Too many messages: the limit is {rate:g} per second.", 1008)
        if num_bytes > self._live.max_message_bytes:
            raise SessionEndedError(
                f"The message has {num_bytes} bytes; the limit is {self._live.max_message_bytes}.", 1009
            )

    def count_invalid(self) -> None:
        """Count an invalid message.

        Raises:
            SessionEndedError: There were too many.
        """
        self._num_invalid += 1
        if self._num_invalid > _MAX_INVALID:
            raise SessionEndedError("Too many invalid messages.", 1008)


RATES: Final = (8000, 16000, 22050, 24000, 44100, 48000)
_DEFAULT_RATE: Final = 24000  # LiveAvatar's


@dataclass(frozen=True)
class SessionOptions:
    """Options of a session.

    Attributes:
        session_id: ID of the session.
        sample_rate: Sample rate of the client's audio, in Hz.
        settings: Movement and background; what is not set is as the avatar has it.
        grant: What the client may do; None: everything.
    """

    session_id: str
    sample_rate: int
    settings: AvatarSettings = field(default_factory=AvatarSettings)
    grant: TokenGrant | None = None


_GRANTED: Final = {"avatar_id", "sample_rate", "receive_video"}


def session_options(query: QueryParams, grant: TokenGrant | None = None) -> SessionOptions:
    """Return the options of a new session.

    Raises:
        OptionError: One of them is not possible.
        ForbiddenError: The browser token of the client does not allow one of them.
    """
    if grant is not None and query.get("avatar_id") != grant.avatar_id:
        raise ForbiddenError("The token is for another avatar.")
    if grant is not None and (more := query.keys() - _GRANTED):
        raise ForbiddenError(f"{min(more)[:40]}: tokens allow only {', '.join(sorted(_GRANTED))}.")
    rate = query.get("sample_rate", str(_DEFAULT_RATE))
    if rate not in map(str, RATES):
        raise OptionError(f"sample_rate: expected one of {', '.join(map(str, RATES))}, found {rate[:20]!r}.")
    return SessionOptions(new_id(), int(rate), _settings(query), grant)


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
