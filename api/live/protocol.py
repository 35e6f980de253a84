"""What is said over the socket of a live session.

Names of messages and events after HeyGen's LiveAvatar LITE, where it has one; binary messages carry sound to the
service and the stream to the client.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from errors import OptionError


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    event_id: str | None = Field(None, max_length=128, description="Given back in the events that this causes.")


class Speak(_Message):
    """More sound to be spoken."""

    type: Literal["agent.speak"]
    audio: str = Field(description="16 bit little-endian mono PCM at the session's rate, base64.")

    def samples(self) -> NDArray[np.int16]:
        """The sound.

        Raises:
            OptionError: It is no such PCM.
        """
        try:
            return pcm(base64.b64decode(self.audio, validate=True))
        except binascii.Error:
            raise OptionError("audio: expected base64, found something else.") from None


class SpeakText(_Message):
    """A text to be spoken by the service's voice, where it has one."""

    type: Literal["agent.speak_text"]
    text: str = Field(min_length=1, max_length=20_000, description="What is said.")
    voice: str | None = Field(None, max_length=128, description="The voice that says it; the service's without it.")


class SpeakEnd(_Message):
    """The end of what was being said: nothing more is waited for."""

    type: Literal["agent.speak_end"]


class Interrupt(_Message):
    """Silence at once; what waits to be spoken is forgotten."""

    type: Literal["agent.interrupt"]


class KeepAlive(_Message):
    """Somebody is still there, though nobody speaks."""

    type: Literal["session.keep_alive"]


class Playback(_Message):
    """What the client shows: the service stays only a few seconds ahead of it."""

    type: Literal["session.playback"]
    position_seconds: float = Field(ge=0, le=1e7, allow_inf_nan=False, description="Time of the stream that is shown.")


Incoming = Speak | SpeakText | SpeakEnd | Interrupt | KeepAlive | Playback
_ADAPTER: Final[TypeAdapter[Incoming]] = TypeAdapter(Annotated[Incoming, Field(discriminator="type")])


def read_message(text: str) -> Incoming:
    """Read one text message.

    Raises:
        OptionError: It is none of the above.
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "message"
        raise OptionError(f"{place}: {first['msg']}"[:300]) from None


def pcm(data: bytes) -> NDArray[np.int16]:
    """(N,) samples of 16 bit little-endian PCM.

    Raises:
        OptionError: It has half a sample.
    """
    if len(data) % 2:
        raise OptionError(f"Expected 16 bit PCM, found {len(data)} bytes.")
    return np.frombuffer(data, "<i2")


def event(kind: str, **fields: Any) -> str:
    """One text message to the client; fields that are None are left out."""
    return json.dumps({"type": kind, **{name: value for name, value in fields.items() if value is not None}})
