"""Keeps what a live session has not spoken, to send it again when the connection breaks."""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lipwright_client.live_protocol import SAMPLE_BYTES, LiveEvent, encode_message

_PIECE_SECONDS: Final = 1.0  # of audio that is sent again: the service limits the messages per second
_SPEECH: Final = ("agent.speak_text", "agent.speak_end", "agent.interrupt")
_LASTING: Final = ("output.start", "avatar.update")
_MAX_UPDATES: Final = 8  # older ones are accepted: if they were refused, that is known by then


@dataclass(eq=False)
class _Message:
    """One message; `number` is its position in the session, 0 if it has not been sent there."""

    content: str | bytes
    event_id: str
    kind: str
    number: int = 0


class Unspoken:
    """The messages whose speech has not been received, in order, and which of them the service has.

    One thread may add messages while another one handles events.

    Args:
        sample_rate: Sample rate of the audio, in Hz.

    Attributes:
        max_seconds: Audio that is kept while the connection is broken.
        dropped_seconds: Audio before that, which was given up.
    """

    def __init__(self, sample_rate: int) -> None:
        self.max_seconds, self.dropped_seconds = 30.0, 0.0
        self._rate = SAMPLE_BYTES * sample_rate  # bytes per second
        self._lock = threading.Lock()
        self._messages: deque[_Message] = deque()
        self._lasting: dict[str, _Message] = {}  # what a new session is told first
        self._num_ids = self._num_sent = 0
        self._spoken = 0.0  # seconds of this session
        self._is_open = True

    def add(self, content: bytes | str) -> str | bytes | None:
        """Keep a message. Return what to send now, or None while the connection is broken."""
        with self._lock:
            message = self._label(content)
            interrupts = message.kind == "agent.interrupt"
            if (message.kind in _SPEECH and not (interrupts and not self._messages)) or message.kind == "agent.speak":
                if interrupts:
                    self._messages.clear()
                self._messages.append(message)
            if not self._is_open:
                self._drop_oldest()
                return None
            self._num_sent += 1
            message.number = self._num_sent
            return message.content

    def handle(self, event: LiveEvent) -> None:
        """Forget what an event says was spoken."""
        raw = event.raw
        with self._lock:
            if event.type == "session.fragment":
                self._forget_spoken(float(raw.get("spoken_seconds", self._spoken)))
            elif event.type == "agent.speak_ended":
                self._forget_until(raw.get("event_id"))
            elif event.type == "agent.speak_interrupted":
                self._spoken = float(raw.get("spoken_seconds", self._spoken))
                self._forget_until(raw.get("event_id"))
            elif event.type == "output.state_updated" and raw.get("state") == "ended":
                self._lasting.pop(str(raw.get("event_id")), None)
            elif event.type == "error" and (failed := raw.get("event_id")) is not None:
                self._lasting.pop(failed, None)
                self._messages = deque(message for message in self._messages if message.event_id != failed)

    @property
    def has_outputs(self) -> bool:
        """Whether outputs were started."""
        return any(message.kind == "output.start" for message in self._lasting.values())

    def pause(self) -> None:
        """Keep new messages without sending them."""
        with self._lock:
            self._is_open = False

    def resume(self, connected: Mapping[str, Any]) -> str | None:
        """Begin with a new connection: send what `next_unsent` returns until that is None.

        Args:
            connected: The service's `connected` event; with `num_messages` if the session goes on.

        Returns:
            The ID of speech that ended while there was no connection.
        """
        with self._lock:
            self._num_sent = int(connected.get("num_messages", 0))
            if "num_messages" in connected:
                ended = self._forget_until(connected.get("ended_event_id"))
            else:
                self._spoken = 0.0
                ends = [message.event_id for message in self._messages if message.kind == "agent.speak_end"]
                is_spoken = not any(message.kind in ("agent.speak", "agent.speak_text") for message in self._messages)
                ended = self._forget_until(ends[-1]) if ends and is_spoken else None
            for message in (*self._messages, *self._lasting.values()):
                if "num_messages" not in connected or message.number > self._num_sent:
                    message.number = 0
            return ended

    def next_unsent(self) -> str | bytes | None:
        """Return the next message that the service does not have; None when it has all, and new ones go out at once."""
        with self._lock:
            kept = (*self._lasting.values(), *self._messages)
            waiting = [message for message in kept if not message.number]
            if not waiting:
                self._is_open = True
                return None
            first = waiting[0]
            for message in waiting[1:]:  # fewer messages
                if not (isinstance(first.content, bytes) and isinstance(message.content, bytes)):
                    break
                if len(first.content) + len(message.content) > _PIECE_SECONDS * self._rate:
                    break
                first.content += message.content
                self._messages.remove(message)
            self._num_sent += 1
            first.number = self._num_sent
            return first.content

    def _label(self, content: bytes | str) -> _Message:
        """Return the message, with an ID by which events refer to it."""
        if isinstance(content, bytes):
            return _Message(content, "", "agent.speak")
        fields = json.loads(content)
        kind = str(fields.pop("type"))
        if kind not in (*_SPEECH, *_LASTING):
            return _Message(content, "", kind)
        self._num_ids += 1
        event_id = f"client-{self._num_ids}"
        message = _Message(encode_message(kind, **fields, event_id=event_id), event_id, kind)
        if kind in _LASTING:
            self._lasting[event_id] = message
            self._merge_updates()
        return message

    def _merge_updates(self) -> None:
        updates = [message for message in self._lasting.values() if message.kind == "avatar.update"]
        if len(updates) > _MAX_UPDATES:
            first, second = updates[:2]
            second.content = json.dumps({**json.loads(first.content), **json.loads(second.content)})
            del self._lasting[first.event_id]

    def _forget_spoken(self, spoken: float) -> None:
        """Forget the audio up to a position of the session, and before the next text or interruption.

        How long a text is, only its end tells; and what is spoken until an interruption is other audio.
        """
        num_bytes = round(max(0.0, spoken - self._spoken) * self._rate / SAMPLE_BYTES) * SAMPLE_BYTES
        self._spoken = max(spoken, self._spoken)
        while self._messages and num_bytes and self._messages[0].kind not in ("agent.speak_text", "agent.interrupt"):
            first = self._messages[0]
            if isinstance(first.content, bytes) and len(first.content) > num_bytes:
                first.content = first.content[num_bytes:]
                return
            num_bytes -= len(first.content) if isinstance(first.content, bytes) else 0
            self._messages.popleft()

    def _forget_until(self, event_id: object) -> str | None:
        """Forget the messages up to the one with this ID. Return the ID; None if there is none."""
        if event_id is None or all(message.event_id != event_id for message in self._messages):
            return None
        while self._messages.popleft().event_id != event_id:
            pass
        return str(event_id)

    def _drop_oldest(self) -> None:
        audio = [message for message in self._messages if isinstance(message.content, bytes)]
        excess = sum(len(message.content) for message in audio) - self.max_seconds * self._rate
        for message in audio:
            if excess <= 0:
                return
            dropped = min(len(message.content), math.ceil(excess / SAMPLE_BYTES) * SAMPLE_BYTES)
            message.content = message.content[dropped:]
            if not message.content:
                self._messages.remove(message)
            excess -= dropped
            self.dropped_seconds += dropped / self._rate
