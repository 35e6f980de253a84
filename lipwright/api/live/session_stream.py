"""One live session: receives speech, requests chunks as they become due, and sends them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple
from zlib import crc32

from lipwright.api.live.audio_timeline import AudioTimeline, ChunkAudio
from lipwright.api.live.chunk_spans import ChunkSpans
from lipwright.api.live.clip_path import ClipPath
from lipwright.api.live.idle_fallback import IdleFallback, IdleFrames
from lipwright.api.live.message_handler import Connection, MessageHandler
from lipwright.api.live.outputs.session_outputs import SessionOutputs
from lipwright.api.live.protocol import SessionOptions, event, fragment_event
from lipwright.api.live.session_clock import SessionClock
from lipwright.api.live.tts_queue import Synthesize
from lipwright.api.live.viewers import Viewers
from lipwright.config import LiveConfig
from lipwright.jobs.messages import ResolvedAvatar
from lipwright.jobs.model.avatar_settings import StillSettings
from lipwright.media.live.encoder import EncodedPictures, LiveFragment, StreamWriter
from lipwright.net.push.destination import Destinations
from lipwright.rendering.live_chunk import LiveChunkRequest, LiveService
from models.avatar.behaviour import TimedBehaviour, still_in_effect


class SessionServices(NamedTuple):
    """What sessions use.

    Attributes:
        renderer: Renders chunks.
        synthesize: Text-to-speech for the caller.
        destinations: Where sessions may be pushed to.
    """

    renderer: LiveService
    synthesize: Synthesize
    destinations: Destinations


class SessionStream:
    """State of one session. `run` sends the stream; call `take_text` and `take_bytes` with received messages.

    Args:
        options: Options of the client.
        shown: The analysed avatar, how it moves, and its background.
        live: Limits.
        services: What the session uses.
        connection: Connection to the client.

    Attributes:
        outputs: The destinations to which the session is pushed.
        viewers: Those who see it beside the client.
    """

    def __init__(
        self,
        options: SessionOptions,
        shown: ResolvedAvatar,
        live: LiveConfig,
        services: SessionServices,
        connection: Connection,
    ) -> None:
        self._options, self._shown = options, shown
        self._connection = connection
        info = shown.avatar.source.info
        fps = info.fps
        self._fps = fps
        self._num = max(1, round(live.chunk_seconds * fps))
        self._max_num = max(self._num, round(live.max_chunk_seconds * fps))
        self._speech = AudioTimeline(fps, options.sample_rate, live.min_buffer_seconds, live.max_buffered_seconds)
        self._writer = StreamWriter(info)
        idle = IdleFrames(info, live.max_kept_bytes)
        self._fallback = IdleFallback(services.renderer, idle, live.fallback_after_s)
        self._clock = SessionClock(live)
        self._num_sent = 0
        self._next_behaviour = shown.behaviour  # from the next chunk on
        self._behaviours: tuple[TimedBehaviour, ...] = (TimedBehaviour(0.0, shown.behaviour),)
        self._is_recovering = False
        self._ended_event_id: str | None = None
        self._head: tuple[str, bytes] | None = None
        self.outputs = SessionOutputs(services.destinations, live, connection.send_text)
        self.viewers = Viewers(live.max_viewers, live.push_buffer_seconds, lambda: self._head)
        self._clips = ClipPath(shown.graph, float(fps), crc32(options.session_id.encode()))
        self._handler = MessageHandler(
            self._speech,
            self._clock,
            connection,
            services.synthesize,
            self.outputs,
            live,
            self._behave,
            options.grant,
            self._clips,
        )
        self.take_text, self.take_bytes = self._handler.take_text, self._handler.take_bytes

    async def run(self) -> None:
        """Send the stream until the session ends.

        Raises:
            SessionEndedError: The session ended.
            LipwrightError: Rendering failed.
        """
        spans = ChunkSpans()
        try:
            with spans.record():
                while True:
                    await self._clock.until_due(self.seconds, self._is_used)
                    kind = "speech" if self._speech.is_speaking else "silence"
                    num = await self._show(self._num_sent)
                    spans.add(kind, num, self._is_recovering)
                    self._num_sent += num
        finally:
            await self._fallback.close()
            await self._handler.close()
            await self.outputs.close()
            self.viewers.close()

    @property
    def seconds(self) -> float:
        """Length of the stream that was sent."""
        return float(self._num_sent / self._fps)

    @property
    def is_recovering(self) -> bool:
        """Whether idle frames are shown because no replica renders in time."""
        return self._is_recovering

    @property
    def progress(self) -> dict[str, object]:
        """What a client that takes over must know to go on: messages received, and the `event_id` of ended speech."""
        return {"num_messages": self._handler.num_messages, "ended_event_id": self._ended_event_id}

    def _is_used(self) -> bool:
        return self._speech.plays_on or self.outputs.are_running

    def _num_frames(self) -> int:
        """Return the length of the next chunk. Longer chunks cost less per frame; the next one reacts later."""
        speech = self._speech
        if speech.begins_within(float(1 / self._fps)):
            return 1  # so that the speech need not wait for a whole chunk
        is_long = not speech.is_speaking or speech.covers(float(self._max_num / self._fps))
        return self._max_num if is_long else self._num

    async def _show(self, frame: int) -> int:
        """Send one chunk and return its number of frames."""
        if self._connection.receives_video and self._connection.needs_head:
            self._fallback.begin_with_key()
        if (pictures := self._fallback.idle()) is not None:
            audio = self._audio(frame, len(pictures.frames))
        else:
            pictures = self._fallback.take_late()
            if self._speech.resume() and pictures is not None:
                # It shows the speech that continues now. Dropping it could repeat until nothing is ever spoken.
                audio = self._audio(frame, len(pictures.frames))
            else:
                num = self._num_frames()
                pictures, audio = await self._rendered(frame, num, self._audio(frame, num))
        if audio.has_begun:
            await self._connection.send_text(event("agent.speak_started", event_id=self._handler.event_id))
        await self._send(frame, pictures, audio)
        for action, seconds in self._clips.take_started():
            fields = {"name": action.name, "event_id": action.event_id, "at_seconds": round(seconds, 3)}
            await self._connection.send_text(event("agent.action_started", **fields))
        if audio.has_ended:
            self._ended_event_id = self._handler.event_id
            await self._connection.send_text(event("agent.speak_ended", event_id=self._handler.event_id))
        return len(pictures.frames)

    def _audio(self, frame: int, num: int) -> ChunkAudio:
        return self._speech.chunk(frame, num, self._writer.num_audio_samples(frame + num))

    async def _rendered(self, frame: int, num: int, audio: ChunkAudio) -> tuple[EncodedPictures, ChunkAudio]:
        """Return the frames to show for `num` frames of speech, and what is heard with them."""
        shown = self._shown
        request = LiveChunkRequest(
            self._options.session_id,
            shown.avatar,
            audio.window,
            frame,
            num,
            None,
            shown.expressiveness,
            self._behaviours_at(float(frame / self._fps)),
            shown.background,
            playback=self._clips.playback(frame, num, self._speech),
        )
        frames = await self._fallback.show(request, is_idle=not self._clips.is_acting)
        if frames.is_fallback:
            audio = self._speech.rollback_chunk(audio)
        if frames.is_fallback != self._is_recovering:
            self._is_recovering = frames.is_fallback
            state = "recovering" if self._is_recovering else "connected"
            await self._connection.send_text(event("session.state_updated", state=state))
        return frames.pictures, audio

    def _behave(self, change: StillSettings) -> None:
        """Change how the avatar behaves, from the next chunk on; OptionError if it is a video."""
        change.check_source(is_still=self._shown.avatar.source.info.is_still)
        sent = {name: getattr(change, name) for name in change.model_fields_set & StillSettings.model_fields.keys()}
        self._next_behaviour = replace(self._next_behaviour, **sent)

    def _behaviours_at(self, seconds: float) -> tuple[TimedBehaviour, ...]:
        if self._behaviours[-1].behaviour != self._next_behaviour:
            self._behaviours += (TimedBehaviour(seconds, self._next_behaviour),)
        self._behaviours = still_in_effect(self._behaviours, seconds)
        return self._behaviours

    async def _send(self, frame: int, pictures: EncodedPictures, audio: ChunkAudio) -> None:
        if self._head is None:
            self._head = self._writer.head(pictures)
        fragment = self._writer.fragment(frame, pictures, audio.sound)
        self.outputs.offer(fragment)
        self.viewers.offer(fragment)
        connection = self._connection
        if not connection.receives_video:
            self._clock.report_playback(fragment.start_seconds)
        elif connection.needs_head and not pictures.is_key:
            return  # the client came while this chunk was rendered
        elif connection.needs_head:
            await connection.send_text(event("session.stream", media_type=self._head[0]))
            await connection.send_bytes(self._head[1])
            connection.needs_head = False
        await connection.send_text(self._about(fragment))
        if connection.receives_video:
            await connection.send_bytes(fragment.mp4)

    def _about(self, fragment: LiveFragment) -> str:
        return fragment_event(
            fragment,
            is_speaking=self._speech.is_speaking,
            buffered_seconds=round(self._speech.waiting_seconds, 3),
            spoken_seconds=round(self._speech.spoken_seconds, 3),
        )
