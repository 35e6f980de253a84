"""Avatar worker for LiveKit Agents: sends the agent's voice to Lipwright and publishes the talking face in the room.

Uses the avatar protocol of livekit-agents (`voice.avatar`): the agent streams its voice to this participant, which
publishes video and audio and reports playback.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import (
    AudioSegmentEnd,
    AvatarOptions,
    AvatarRunner,
    DataStreamAudioReceiver,
    VideoGenerator,
)

from integrations.stream_frames import SOUND_RATE, Picture, StreamFrames
from lipwright_client import AsyncLipwright, AsyncLiveSession, LiveEvent

SPEECH_RATE: Final = 24_000
ACTION_METHOD: Final = "lipwright.action"
"""RPC method of the avatar's participant: shows the action that its payload names."""


class LipwrightFace(VideoGenerator):
    """Adapts a live session to LiveKit's `VideoGenerator`.

    Video never stops. Audio is passed on only while the agent speaks, so that LiveKit's playback position matches the
    speech.

    Args:
        session: A started session with audio at `SPEECH_RATE`.
    """

    def __init__(self, session: AsyncLiveSession) -> None:
        self._session = session
        self._frames: StreamFrames | None = None
        self._resampler: tuple[int, rtc.AudioResampler] | None = None
        self._is_speaking = False

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Send audio of the agent."""
        if isinstance(frame, AudioSegmentEnd):
            if self._resampler is not None:
                await self._speak(self._resampler[1].flush())
                self._resampler = None
            await self._session.speak_end()
            return
        mono = _mono(frame)
        if mono.sample_rate == SPEECH_RATE:
            await self._speak([mono])
            return
        if self._resampler is None or self._resampler[0] != mono.sample_rate:
            self._resampler = mono.sample_rate, rtc.AudioResampler(mono.sample_rate, SPEECH_RATE)
        await self._speak(self._resampler[1].push(mono))

    async def act(self, name: str) -> None:
        """Show an action of an avatar with clips, once what the agent has said before is spoken."""
        await self._session.action(name, after_audio=True)

    async def clear_buffer(self) -> None:
        """Stop speaking at once."""
        self._is_speaking, self._resampler = False, None
        await self._session.interrupt()

    async def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        """Yield video and audio frames for the room."""
        async for event in self._session:
            if event.type == "session.stream":
                self._frames = StreamFrames(event.media)
            elif event.type == "agent.speak_started":
                self._is_speaking = True
            elif event.type == "agent.speak_interrupted":
                self._is_speaking = False
            elif event.type == "session.fragment":
                for frame in await self._decode_media(event):
                    yield frame
            elif event.type == "agent.speak_ended" and self._is_speaking:
                self._is_speaking = False
                yield AudioSegmentEnd()

    async def _decode_media(self, event: LiveEvent) -> list[rtc.VideoFrame | rtc.AudioFrame]:
        assert self._frames is not None
        pictures, sound = await asyncio.to_thread(self._frames.decode, event.media)
        shown: list[Any] = [_video_frame(picture) for picture in pictures]
        if self._is_speaking and len(sound):
            shown.insert(0, rtc.AudioFrame(sound.tobytes(), SOUND_RATE, 1, len(sound)))
        return shown

    async def _speak(self, frames: list[rtc.AudioFrame]) -> None:
        for frame in frames:
            await self._session.speak(bytes(frame.data))


async def show_in(room: rtc.Room, server: str | None, avatar_id: str, receiver: Any | None = None) -> None:
    """Act as the avatar in a connected room until the room or the live session ends.

    Args:
        room: The room with the agent.
        server: URL of the Lipwright service. Default: LIPWRIGHT_URL, or http://127.0.0.1:8000.
        avatar_id: ID of the avatar.
        receiver: Source of the agent's audio. Default: LiveKit's data stream.

    Raises:
        ClientError: All sessions are in use, or the avatar does not exist.
    """
    left = asyncio.Event()
    room.on("disconnected", lambda *_: left.set())
    async with AsyncLipwright(server) as client, client.live(avatar_id, SPEECH_RATE) as session:
        face = LipwrightFace(session)

        async def act(data: rtc.RpcInvocationData) -> str:
            await face.act(data.payload)
            return ""

        room.local_participant.register_rpc_method(ACTION_METHOD, act)
        runner = AvatarRunner(
            room,
            audio_recv=receiver or DataStreamAudioReceiver(room),
            video_gen=face,
            options=AvatarOptions(*_size(session), audio_sample_rate=SOUND_RATE, audio_channels=1),
        )
        await runner.start()
        waits = [asyncio.create_task(left.wait()), asyncio.create_task(runner.wait_for_complete())]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in waits:
                task.cancel()
            await runner.aclose()


async def run(livekit: str, token: str, server: str | None, avatar_id: str) -> None:
    """Join a room and act as its avatar.

    Args:
        livekit: URL of the LiveKit server (`wss://...`).
        token: Access token of this participant.
        server: As for `show_in`.
        avatar_id: As for `show_in`.
    """
    room = rtc.Room()
    await room.connect(livekit, token)
    try:
        await show_in(room, server, avatar_id)
    finally:
        await room.disconnect()


def _size(session: AsyncLiveSession) -> tuple[int, int, float]:
    """Return width, height and frame rate."""
    connected = session.connected
    return int(connected["width"]), int(connected["height"]), float(connected["fps"])


def _video_frame(picture: Picture) -> rtc.VideoFrame:
    return rtc.VideoFrame(picture.width, picture.height, rtc.VideoBufferType.I420, picture.pixels)


def _mono(frame: rtc.AudioFrame) -> rtc.AudioFrame:
    if frame.num_channels == 1:
        return frame
    samples = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels).mean(1).astype(np.int16)
    return rtc.AudioFrame(samples.tobytes(), frame.sample_rate, 1, len(samples))
