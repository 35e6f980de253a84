"""One live session: takes speech in, has the moments rendered that are due, and sends them while they are fresh."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from api.live.bridge import Bridge, Shown
from api.live.budget import Budget, SessionEndError
from api.live.kept_pictures import KeptPictures
from api.live.messages import Incoming, Interrupt, Playback, Speak, SpeakEnd, SpeakText, event, pcm, read_message
from api.live.pace import Pace
from api.live.reader_aloud import ReaderAloud
from api.live.speech_line import Heard, SpeechLine
from api.speech.voice import Speaker
from config import LiveConfig
from errors import CapacityError, LipwrightError, OptionError
from jobs.messages import PresenterRef
from media.live.stream_writer import StreamWriter
from rendering.moment import LiveService, MomentRequest

_LOOK_S: Final = 0.05


class Line(Protocol):
    """Where messages go and come from: a WebSocket."""

    async def send_text(self, data: str) -> None:
        """Send one text message."""

    async def send_bytes(self, data: bytes) -> None:
        """Send one binary message."""


@dataclass(frozen=True)
class SessionOptions:
    """What a client asks for.

    Attributes:
        session_id: Of the session.
        sample_rate: Of the sound that it sends.
    """

    session_id: str
    sample_rate: int


class LiveSession:
    """The state of one session. `run` sends; `take_text` and `take_bytes` are called with what arrives.

    Args:
        options: What the client asked for.
        presenter: Who speaks; analysed.
        live: The service's bounds.
        service: Renders moments.
        line: To the client.
        speaker: The service's voice, for texts.
    """

    def __init__(
        self,
        options: SessionOptions,
        presenter: PresenterRef,
        live: LiveConfig,
        service: LiveService,
        line: Line,
        speaker: Speaker,
    ) -> None:
        self._options, self._presenter, self._live = options, presenter, live
        self._line = line
        fps = presenter.source.info.fps
        self._fps = fps
        self._num = max(1, round(live.moment_seconds * fps))
        self._speech = SpeechLine(fps, options.sample_rate, live.lead_seconds, live.max_buffered_seconds)
        self._writer = StreamWriter(presenter.source.info)
        self._bridge = Bridge(service, KeptPictures(presenter.source.info, live.max_kept_bytes), live.stand_in_after_s)
        self._reader = ReaderAloud(speaker, self._push_read, self._speech.end, self._not_read)
        self._pace: Pace | None = None
        self._budget = Budget(live)
        self._spoke_at = time.monotonic()
        self._event_id: str | None = None
        self._was_interrupted = asyncio.Event()

    async def take_text(self, text: str) -> None:
        """Do what one text message says.

        Raises:
            SessionEndError: The client passed a bound.
        """
        self._budget.count(len(text))
        await self._tried(lambda: self._do(read_message(text)))

    async def take_bytes(self, data: bytes) -> None:
        """Take sound as it is.

        Raises:
            SessionEndError: The client passed a bound.
        """
        self._budget.count(len(data))
        await self._tried(lambda: self._speak(Speak(type="agent.speak", audio=""), data))

    async def run(self) -> None:
        """Send the stream until the session is over.

        Raises:
            SessionEndError: Why it is.
            LipwrightError: The presenter cannot be shown any more.
        """
        begun, frame = time.monotonic(), 0
        self._pace = Pace(self._live.max_ahead_seconds, speed=self._live.max_speed)
        try:
            while True:
                await self._wait(frame, begun)
                # One frame where speech could begin within it: it waits for no whole moment then.
                num = 1 if self._speech.begins_within(float(1 / self._fps)) else self._num
                heard = self._speech.moment(frame, num, self._writer.num_sound_samples(frame + num))
                frame += await self._show(frame, num, heard)
        finally:
            await self._bridge.close()
            await self._reader.stop()

    async def _show(self, frame: int, num: int, heard: Heard) -> int:
        """Send one moment, and return its number of frames."""
        was_waiting = self._bridge.is_waiting
        request = MomentRequest(self._options.session_id, self._presenter, heard.window, frame, num, None)
        shown = await self._bridge.show(request)
        if shown.is_stand_in:
            if not was_waiting:
                heard = self._speech.hold(heard)
                await self._line.send_text(event("session.state_updated", state="recovering"))
        elif was_waiting:
            self._speech.go_on()
            await self._line.send_text(event("session.state_updated", state="connected"))
        if heard.has_begun:
            await self._line.send_text(event("agent.speak_started", event_id=self._event_id))
        await self._send(frame, shown, heard)
        if heard.has_ended:
            await self._line.send_text(event("agent.speak_ended", event_id=self._event_id))
        return len(shown.pictures.frames)

    async def _send(self, frame: int, shown: Shown, heard: Heard) -> None:
        pictures = shown.pictures
        if frame == 0:
            media_type, head = self._writer.head(pictures)
            await self._line.send_text(event("session.stream", media_type=media_type))
            await self._line.send_bytes(head)
        about = event(
            "session.fragment",
            start_seconds=float(frame / self._fps),
            duration_seconds=float(len(pictures.frames) / self._fps),
            is_speaking=self._speech.is_speaking,
            buffered_seconds=round(self._speech.waiting_seconds, 3),
        )
        await self._line.send_text(about)
        await self._line.send_bytes(self._writer.fragment(frame, pictures, heard.sound))

    async def _wait(self, frame: int, begun: float) -> None:
        """Wait until a moment is due; bounds of the session are looked at meanwhile."""
        assert self._pace is not None
        while True:
            now = time.monotonic()
            if now - begun > self._live.max_session_s:
                raise SessionEndError(f"A session lasts {self._live.max_session_s:g} s at most.", 1000)
            if now - self._spoke_at > self._live.idle_timeout_s and not self._speech.is_speaking:
                raise SessionEndError(f"Nobody spoke for {self._live.idle_timeout_s:g} s.", 1000)
            if self._pace.stalled_s() > self._live.max_stall_s + self._live.max_ahead_seconds:
                raise SessionEndError("The client has not shown what it was sent; is its line too slow?", 1008)
            wait_s = self._pace.wait_s(float(frame / self._fps))
            if wait_s == 0 or (wait_s is not None and self._was_interrupted.is_set()):
                if self._was_interrupted.is_set():  # a shut mouth is shown as soon as it can be
                    self._was_interrupted.clear()
                    self._pace.hurry(float(frame / self._fps))
                return
            if wait_s is None:
                await asyncio.sleep(_LOOK_S)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._was_interrupted.wait(), min(wait_s, 1.0))

    async def _tried(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it, or say what was wrong with it; too much wrong ends the session."""
        try:
            await work()
        except CapacityError as error:
            raise SessionEndError(str(error), 1008) from error
        except OptionError as error:
            self._budget.mistake()
            await self._line.send_text(event("error", code=error.code, message=str(error)))

    async def _do(self, message: Incoming) -> None:
        self._event_id = message.event_id or self._event_id
        if isinstance(message, Playback):
            if self._pace is not None:
                self._pace.showed(message.position_seconds)
            return
        self._spoke_at = time.monotonic()
        if isinstance(message, Speak):
            await self._speak(message, None)
        elif isinstance(message, SpeakText):
            self._reader.add(message)
        elif isinstance(message, SpeakEnd):
            self._speech.end()
        elif isinstance(message, Interrupt):
            await self._interrupt()

    async def _interrupt(self) -> None:
        await self._reader.stop()
        if self._speech.interrupt():
            at = self._speech.left_seconds
            self._was_interrupted.set()
            await self._line.send_text(event("agent.speak_interrupted", event_id=self._event_id, at_seconds=at))

    async def _speak(self, message: Speak, data: bytes | None) -> None:
        samples = message.samples() if data is None else pcm(data)
        self._spoke_at = time.monotonic()
        if len(samples):
            self._speech.push(samples)

    async def _push_read(self, samples: NDArray[np.int16], sample_rate: int) -> None:
        while True:
            if self._speech.has_room(len(samples) / sample_rate):
                break
            await asyncio.sleep(_LOOK_S)
        self._spoke_at = time.monotonic()
        self._speech.push(samples, sample_rate)

    async def _not_read(self, message: SpeakText, error: LipwrightError) -> None:
        await self._line.send_text(event("error", code=error.code, message=str(error), event_id=message.event_id))
