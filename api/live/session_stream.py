"""One live session: receives speech, requests chunks as they become due, and sends them."""

from __future__ import annotations

from dataclasses import dataclass

from api.live.audio_timeline import AudioTimeline, ChunkAudio
from api.live.idle_fallback import IdleFallback, IdleFrames, ShownFrames
from api.live.message_handler import Connection, MessageHandler
from api.live.protocol import event
from api.live.session_clock import SessionClock
from api.tts.service import Speaker
from config import LiveConfig
from jobs.messages import AvatarRef
from media.live.stream_writer import StreamWriter
from rendering.live_chunk import LiveChunkRequest, LiveService


@dataclass(frozen=True)
class SessionOptions:
    """Options of a session.

    Attributes:
        session_id: ID of the session.
        sample_rate: Sample rate of the client's audio, in Hz.
        expressiveness: Scale of the mouth movement, 0 to 2.
    """

    session_id: str
    sample_rate: int
    expressiveness: float = 1.0


class SessionStream:
    """State of one session. `run` sends the stream; call `take_text` and `take_bytes` with received messages.

    Args:
        options: Options of the client.
        avatar: The analysed avatar.
        live: Limits.
        service: Renders chunks.
        connection: Connection to the client.
        tts: Text-to-speech for the caller.
    """

    def __init__(
        self,
        options: SessionOptions,
        avatar: AvatarRef,
        live: LiveConfig,
        service: LiveService,
        connection: Connection,
        tts: Speaker,
    ) -> None:
        self._options, self._avatar = options, avatar
        self._connection = connection
        fps = avatar.source.info.fps
        self._fps = fps
        self._num = max(1, round(live.chunk_seconds * fps))
        self._max_num = max(self._num, round(live.max_chunk_seconds * fps))
        self._speech = AudioTimeline(fps, options.sample_rate, live.min_buffer_seconds, live.max_buffered_seconds)
        self._writer = StreamWriter(avatar.source.info)
        self._fallback = IdleFallback(
            service, IdleFrames(avatar.source.info, live.max_kept_bytes), live.fallback_after_s
        )
        self._clock = SessionClock(live)
        self._handler = MessageHandler(self._speech, self._clock, connection, tts, live)
        self.take_text, self.take_bytes = self._handler.take_text, self._handler.take_bytes

    async def run(self) -> None:
        """Send the stream until the session ends.

        Raises:
            SessionEndedError: The session ended.
            LipwrightError: Rendering failed.
        """
        frame = 0
        try:
            while True:
                await self._clock.until_due(float(frame / self._fps), lambda: self._speech.is_speaking)
                num = self._num_frames()
                audio = self._speech.chunk(frame, num, self._writer.num_audio_samples(frame + num))
                frame += await self._show(frame, num, audio)
        finally:
            await self._fallback.close()
            await self._handler.close()

    def _num_frames(self) -> int:
        """Return the length of the next chunk. Longer chunks cost less per frame; the next one reacts later."""
        if self._speech.begins_within(float(1 / self._fps)):
            return 1  # so that the speech need not wait for a whole chunk
        return self._max_num if self._speech.covers(float(self._max_num / self._fps)) else self._num

    async def _show(self, frame: int, num: int, audio: ChunkAudio) -> int:
        """Send one chunk and return its number of frames."""
        was_waiting = self._fallback.is_waiting
        options = self._options
        request = LiveChunkRequest(
            options.session_id, self._avatar, audio.window, frame, num, None, options.expressiveness
        )
        shown = await self._fallback.show(request)
        if shown.is_fallback:
            if not was_waiting:
                audio = self._speech.hold(audio)
                await self._connection.send_text(event("session.state_updated", state="recovering"))
        elif was_waiting:
            self._speech.resume()
            await self._connection.send_text(event("session.state_updated", state="connected"))
        if audio.has_begun:
            await self._connection.send_text(event("agent.speak_started", event_id=self._handler.event_id))
        await self._send(frame, shown, audio)
        if audio.has_ended:
            await self._connection.send_text(event("agent.speak_ended", event_id=self._handler.event_id))
        return len(shown.pictures.frames)

    async def _send(self, frame: int, shown: ShownFrames, audio: ChunkAudio) -> None:
        pictures = shown.pictures
        if frame == 0:
            media_type, head = self._writer.head(pictures)
            await self._connection.send_text(event("session.stream", media_type=media_type))
            await self._connection.send_bytes(head)
        about = event(
            "session.fragment",
            start_seconds=float(frame / self._fps),
            duration_seconds=float(len(pictures.frames) / self._fps),
            is_speaking=self._speech.is_speaking,
            buffered_seconds=round(self._speech.waiting_seconds, 3),
        )
        await self._connection.send_text(about)
        await self._connection.send_bytes(self._writer.fragment(frame, pictures, audio.sound))
