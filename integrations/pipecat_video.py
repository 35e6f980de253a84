"""Video service for Pipecat: the voice of a bot goes in, the talking face and its voice come out.

    pipeline = Pipeline([transport.input(), stt, llm, tts, LipwrightVideoService(avatar_id="..."), transport.output()])

It stands between the text-to-speech service and the output, like Pipecat's own avatar services.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pipecat.audio.utils import create_stream_resampler
from pipecat.frames.frames import (
    CancelFrame,
    DataFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings

from integrations.stream_frames import SOUND_RATE, StreamFrames
from lipwright_client import AsyncLipwright, AsyncLiveSession, ClientError, LiveEvent

SPEECH_RATE: Final = 24_000


@dataclass
class LipwrightActionFrame(DataFrame):
    """Shows an action of an avatar with clips, once the audio before this frame is spoken."""

    action: str = ""


class LipwrightVideoService(AIService):
    """Shows the bot as an avatar of a Lipwright service.

    Takes `TTSAudioRawFrame`, at any rate, and `LipwrightActionFrame`. Pushes `OutputImageRawFrame` (RGB) all the time,
    and while the bot speaks `TTSAudioRawFrame` (48 kHz, mono), in time with the pictures. `TTSStoppedFrame` follows the
    last of them. An `InterruptionFrame` closes the mouth at once. Errors of the session are pushed upstream as
    `ErrorFrame`.

    Args:
        avatar_id: ID of the avatar.
        server: URL of the Lipwright service. Default: LIPWRIGHT_URL, or http://127.0.0.1:8000. The API key is
            LIPWRIGHT_API_KEY.
        expressiveness: Scale of the mouth movement, 0 to 2. Default: the avatar's.
        options: Passed to `AIService`.
    """

    def __init__(
        self, *, avatar_id: str, server: str | None = None, expressiveness: float | None = None, **options: Any
    ) -> None:
        super().__init__(settings=ServiceSettings(model=None), **options)
        self._avatar_id, self._server, self._expressiveness = avatar_id, server, expressiveness
        self._resampler = create_stream_resampler()
        self._showing: asyncio.Task[None] | None = None
        self._connected: asyncio.Future[AsyncLiveSession] | None = None
        self._is_speaking = False
        self._stopped: list[TTSStoppedFrame] = []  # pushed when what was said before has been spoken

    async def start(self, frame: StartFrame) -> None:
        """Start the live session; it is ready some time later."""
        await super().start(frame)
        self._connected = asyncio.get_running_loop().create_future()
        self._showing = self.create_task(self._show(self._connected))

    async def stop(self, frame: EndFrame) -> None:
        """End the session."""
        await super().stop(frame)
        await self._end()

    async def cancel(self, frame: CancelFrame) -> None:
        """End the session."""
        await super().cancel(frame)
        await self._end()

    async def cleanup(self) -> None:
        """End the session if the pipeline did not."""
        await super().cleanup()
        await self._end()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Send the bot's voice to the session; pass everything else on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            await self._speak(frame)
        elif isinstance(frame, TTSStoppedFrame) and (session := await self._session()) is not None:
            self._stopped.append(frame)
            await self._send(session.speak_end())
        elif isinstance(frame, LipwrightActionFrame):
            if (session := await self._session()) is not None:
                await self._send(session.action(frame.action, after_audio=True))
        else:
            if isinstance(frame, InterruptionFrame):
                await self._interrupt()
            await self.push_frame(frame, direction)

    async def _speak(self, frame: TTSAudioRawFrame) -> None:
        sound = frame.audio
        if frame.num_channels > 1:
            sound = np.frombuffer(sound, "<i2").reshape(-1, frame.num_channels).mean(1).astype("<i2").tobytes()
        sound = await self._resampler.resample(sound, frame.sample_rate, SPEECH_RATE)
        if sound and (session := await self._session()) is not None:
            await self._send(session.speak(sound))

    async def _interrupt(self) -> None:
        self._is_speaking, self._stopped = False, []
        self._resampler = create_stream_resampler()
        connected = self._connected
        if connected is not None and connected.done() and (session := await self._session()) is not None:
            await self._send(session.interrupt())

    async def _session(self) -> AsyncLiveSession | None:
        """Wait for the session; None if there is none, which `_show` has reported."""
        if self._connected is None:
            return None
        try:
            return await asyncio.shield(self._connected)
        except (ClientError, asyncio.CancelledError):
            if self._connected.done():
                return None
            raise

    async def _send(self, sending: Any) -> None:
        try:
            await sending
        except ClientError as error:
            await self.push_error(f"Lipwright: {error}", error)

    async def _show(self, connected: asyncio.Future[AsyncLiveSession]) -> None:
        """Run the session and push what it shows."""
        try:
            async with AsyncExitStack() as opened:
                client = await opened.enter_async_context(AsyncLipwright(self._server))
                live = client.live(self._avatar_id, SPEECH_RATE, expressiveness=self._expressiveness)
                session = await opened.enter_async_context(live)
                connected.set_result(session)
                await self._push_stream(session)
            await self.push_error("Lipwright: the live session has ended.")
        except ClientError as error:
            await self.push_error(f"Lipwright: {error}", error)
            if not connected.done():
                connected.set_exception(error)
                connected.exception()  # or asyncio logs that it was never retrieved

    async def _push_stream(self, session: AsyncLiveSession) -> None:
        frames: StreamFrames | None = None
        async for event in session:
            if event.type == "session.stream":
                frames = StreamFrames(event.media, "rgb24")
            elif event.type == "agent.speak_started":
                self._is_speaking = True
            elif event.type == "agent.speak_ended":
                self._is_speaking = False
                while self._stopped:
                    await self.push_frame(self._stopped.pop(0))
            elif event.type == "agent.speak_interrupted":
                self._is_speaking = False
            elif event.type == "error":
                await self.push_error(f"Lipwright: {event.raw.get('message')}")
            elif event.type == "session.fragment" and frames is not None:
                await self._push_fragment(frames, event)

    async def _push_fragment(self, frames: StreamFrames, event: LiveEvent) -> None:
        pictures, sound = await asyncio.to_thread(frames.decode, event.media)
        if self._is_speaking and len(sound):
            await self.push_frame(TTSAudioRawFrame(sound.tobytes(), SOUND_RATE, 1))
        for picture in pictures:
            await self.push_frame(OutputImageRawFrame(picture.pixels, (picture.width, picture.height), "RGB"))

    async def _end(self) -> None:
        if self._showing is not None:
            showing, self._showing = self._showing, None
            await self.cancel_task(showing)
        if self._connected is not None and not self._connected.done():
            self._connected.cancel()
