"""Handles the messages of a client in a live session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from lipwright.api.live.audio_timeline import AudioTimeline
from lipwright.api.live.clip_path import MAX_WAITING, ClipPath, WaitingAction
from lipwright.api.live.outputs.session_outputs import SessionOutputs
from lipwright.api.live.protocol import (
    GRANTABLE,
    Action,
    AvatarUpdate,
    Incoming,
    Interrupt,
    ListOutputs,
    MessageLimits,
    Playback,
    SessionEndedError,
    Speak,
    SpeakEnd,
    SpeakText,
    StartOutput,
    StopOutput,
    event,
    event_id_of,
    pcm,
    read_message,
)
from lipwright.api.live.session_clock import SessionClock
from lipwright.api.live.tts_queue import Synthesize, TtsQueue
from lipwright.config import LiveConfig
from lipwright.errors import CapacityError, ForbiddenError, LipwrightError, NotFoundError, OptionError, UrlRefusedError
from lipwright.jobs.model.avatar_settings import StillSettings
from lipwright.jobs.model.browser_token import TokenGrant
from lipwright.media.live.mp4_boxes import AUDIO_RATE
from lipwright.media.phones import Closures
from lipwright.media.subtitles.actions import ActedText, read_actions

_POLL_S: Final = 0.05


class Connection(Protocol):
    """The WebSocket of a session.

    Attributes:
        receives_video: Whether it is sent the stream.
        needs_head: Whether it has not received the head of the stream.
    """

    receives_video: bool
    needs_head: bool

    async def send_text(self, data: str) -> None:
        """Send one text message."""

    async def send_bytes(self, data: bytes) -> None:
        """Send one binary message."""


class MessageHandler:
    """Applies client messages to the audio timeline and the session clock.

    Args:
        speech: Receives the audio.
        clock: Clock of the session.
        connection: Connection to the client.
        synthesize: Text-to-speech for the caller.
        outputs: The outputs of the session.
        live: Limits.
        behave: Changes how the avatar behaves; raises OptionError.
        grant: What the client may do; None: everything.
        clips: The clips of the avatar.

    Attributes:
        event_id: ID that the client gave to its latest message about speech with one; that of a text counts when its
            speech is there, so that the end of earlier speech is not taken for its end.
        num_messages: Messages received.
    """

    def __init__(
        self,
        speech: AudioTimeline,
        clock: SessionClock,
        connection: Connection,
        synthesize: Synthesize,
        outputs: SessionOutputs,
        live: LiveConfig,
        behave: Callable[[StillSettings], None],
        grant: TokenGrant | None = None,
        clips: ClipPath | None = None,
    ) -> None:
        self._behave = behave
        self._speech, self._clock, self._connection, self._outputs = speech, clock, connection, outputs
        self._clips = clips or ClipPath(None, 1.0, 0)
        report = self._report_error
        self._tts = TtsQueue(synthesize, self._push_synthesized, speech.end, report, self._place_actions)
        self._limits, self._grant = MessageLimits(live), grant
        self.event_id: str | None = None
        self.num_messages = 0

    async def take_text(self, text: str) -> None:
        """Handle a text message.

        Raises:
            SessionEndedError: The client exceeded a limit.
        """
        self.num_messages += 1
        self._limits.count(len(text))
        await self._reporting_errors(lambda: self._handle(read_message(text)), text)

    async def take_bytes(self, data: bytes) -> None:
        """Handle a binary message: raw PCM.

        Raises:
            SessionEndedError: The client exceeded a limit.
        """
        self.num_messages += 1
        self._limits.count(len(data))
        await self._reporting_errors(lambda: self._handle_pcm(data))

    async def close(self) -> None:
        """Stop the text-to-speech."""
        await self._tts.stop()

    async def _reporting_errors(self, work: Callable[[], Awaitable[None]], text: str = "") -> None:
        """Run `work`, which handles `text`, and report invalid messages to the client; too many end the session."""
        try:
            await work()
        except CapacityError as error:
            raise SessionEndedError(str(error), 1008) from error
        except (OptionError, UrlRefusedError, NotFoundError, ForbiddenError) as error:
            self._limits.count_invalid()
            await self._connection.send_text(
                event("error", code=error.code, message=str(error), event_id=event_id_of(text))
            )

    def _check(self, kind: str) -> None:
        """Raise ForbiddenError if the token of the client does not allow messages of a kind."""
        action = GRANTABLE.get(kind)
        if self._grant is None or (action is None and not kind.startswith("output.")):
            return
        if action not in self._grant.actions:
            raise ForbiddenError(f"The token does not allow {action or 'outputs'}.")

    async def _handle_pcm(self, data: bytes) -> None:
        self._check("agent.speak")
        await self._speak(lambda: pcm(data))

    async def _handle(self, message: Incoming) -> None:
        self._check(message.type)
        if isinstance(message, Speak | SpeakEnd | Interrupt):
            self.event_id = message.event_id or self.event_id
        if isinstance(message, Playback):
            self._clock.report_playback(message.position_seconds)
            return
        self._clock.spoke()
        if isinstance(message, Speak):
            await self._speak(message.samples)
        elif isinstance(message, SpeakText):
            await self._speak_text(message)
        elif isinstance(message, Action):
            await self._start_action(message)
        elif isinstance(message, SpeakEnd):
            self._speech.end()
        elif isinstance(message, Interrupt):
            await self._interrupt()
        elif isinstance(message, AvatarUpdate):
            self._behave(message)
        elif isinstance(message, StartOutput | StopOutput | ListOutputs):
            await self._handle_output(message)

    async def _start_action(self, message: Action) -> None:
        try:
            self._clips.add(message.name, message.event_id, self._speech.num_received if message.after_audio else None)
        except OptionError as error:  # does not count as an invalid message: language models make up names
            await self._report_error(message, error)

    async def _speak_text(self, message: SpeakText) -> None:
        try:
            text = read_actions(message.text, self._clips.names)
            if len(text.actions) > MAX_WAITING:
                raise OptionError(f"text: expected at most {MAX_WAITING} actions, found {len(text.actions)}.")
        except OptionError as error:
            await self._report_error(message, error)
            return
        if text.text.strip() or not text.actions:
            voice = message.voice if self._grant is None else self._grant.voice
            self._tts.add(message.model_copy(update={"voice": voice}), text)
            return
        for action in text.actions:
            self._clips.add(action.name, message.event_id, self._speech.num_received)

    def _place_actions(self, message: SpeakText, text: ActedText) -> Callable[[list[float]], None]:
        start, waiting = self._speech.num_received, list[WaitingAction]()

        def place(seconds: list[float]) -> None:
            with suppress(OptionError):  # actions that do not fit are added later
                for mark in text.actions[len(waiting) :]:
                    waiting.append(self._clips.add(mark.name, message.event_id, start))
            for action, due in zip(waiting, seconds, strict=False):
                action.sample = start + round(due * AUDIO_RATE)

        return place

    async def _handle_output(self, message: StartOutput | StopOutput | ListOutputs) -> None:
        if isinstance(message, StartOutput):
            self._outputs.start(message)
        elif isinstance(message, StopOutput):
            await self._outputs.stop(message.output_id)
        else:
            await self._connection.send_text(self._outputs.describe())

    async def _interrupt(self) -> None:
        await self._tts.stop()
        self._clips.drop_speech()
        if self._speech.interrupt():
            times = {"at_seconds": self._speech.left_seconds, "spoken_seconds": round(self._speech.spoken_seconds, 3)}
            self._clock.interrupted()
            await self._connection.send_text(event("agent.speak_interrupted", event_id=self.event_id, **times))

    async def _speak(self, read: Callable[[], NDArray[np.int16]]) -> None:
        samples = read()
        self._clock.spoke()
        if len(samples):
            self._speech.push(samples)

    async def _push_synthesized(self, samples: NDArray[np.int16], sample_rate: int, closures: Closures) -> None:
        while True:
            if self._speech.has_room(len(samples) / sample_rate):
                break
            await asyncio.sleep(_POLL_S)
        self._clock.spoke()
        self.event_id = self._tts.event_id or self.event_id
        self._speech.push(samples, sample_rate, closures)

    async def _report_error(self, message: SpeakText | Action, error: LipwrightError) -> None:
        await self._connection.send_text(event("error", code=error.code, message=str(error), event_id=message.event_id))
