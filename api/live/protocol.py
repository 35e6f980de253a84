"""Messages of live sessions.

Names follow HeyGen's LiveAvatar LITE where it has a counterpart. Binary messages carry audio to the service and the
stream to the client.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from api.validation_message import describe
from errors import OptionError
from media.live.stream_writer import LiveFragment


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
            return pcm(base64.b64decode(self.audio, validate=True))
        except binascii.Error:
            raise OptionError("audio: not valid base64.") from None


class SpeakText(_Message):
    """Text for the service's text-to-speech."""

    type: Literal["agent.speak_text"]
    text: str = Field(min_length=1, max_length=20_000, description="The text.")
    voice: str | None = Field(None, max_length=128, description="Voice; defaults to the service's.")


class SpeakEnd(_Message):
    """End of an utterance."""

    type: Literal["agent.speak_end"]


class Interrupt(_Message):
    """Stop speaking and drop buffered speech."""

    type: Literal["agent.interrupt"]


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


Incoming = Speak | SpeakText | SpeakEnd | Interrupt | KeepAlive | Playback | StartOutput | StopOutput | ListOutputs
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


def fragment_event(fragment: LiveFragment, **fields: object) -> str:
    """Return the message before a fragment of the stream."""
    times = {"start_seconds": fragment.start_seconds, "duration_seconds": fragment.duration_seconds}
    return event("session.fragment", **times, is_key=fragment.pictures.is_key, **fields)
