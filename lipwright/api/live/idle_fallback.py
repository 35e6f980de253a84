"""Shows idle frames of the avatar when rendered chunks are late."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import replace
from typing import NamedTuple

from lipwright.api.live.tasks import cancel_all
from lipwright.media.live.encoder import EncodedPictures
from lipwright.media.probe import VideoInfo
from lipwright.rendering.live_chunk import LiveChunk, LiveChunkRequest, LiveService

_NEAR_FRAMES = 1  # a jump of one frame is not visible
_STILL_SECONDS = 6.0  # of the idle motion of a still that are shown again: with less, a chunk within a blink may repeat
_KEY_SECONDS = 0.64  # at most, from keyframe to keyframe: viewers join at one, and a lost packet is seen until the next


class IdleFrames:
    """Cache of the latest silent chunks of a session, by position in the ping-pong loop of the source.

    The motion of a still has no loop: its chunks of the last seconds count as one.

    Args:
        info: Properties of the source.
        max_bytes: Size limit; the least recently used chunks are evicted.
    """

    def __init__(self, info: VideoInfo, max_bytes: int) -> None:
        loop = 2 * info.num_frames - 2  # `lipwright.media.playback.Playback`: ping-pong
        self._period = round(_STILL_SECONDS * info.fps) if info.is_still else max(1, loop)
        self._max_bytes = max_bytes
        self._groups: OrderedDict[int, EncodedPictures] = OrderedDict()
        self._num_bytes = 0
        self._next: int | None = None  # position after the last shown chunk

    def keep(self, first_frame: int, pictures: EncodedPictures) -> None:
        """Cache the chunk that starts at a frame of the stream."""
        index = first_frame % self._period
        self._drop(index)
        self._groups[index] = pictures
        self._num_bytes += _size(pictures)
        while self._num_bytes > self._max_bytes:
            self._drop(next(iter(self._groups)))

    def begin(self, first_frame: int) -> None:
        """Continue from a frame of the stream."""
        self._next = first_frame

    def take(self) -> EncodedPictures | None:
        """Return the next chunk to show: the one that continues the last, if it is cached.

        Otherwise jumps to the least recently used chunk, so that no short section repeats. None if the cache is empty.
        """
        if not self._groups:
            return None
        index = self._following()
        pictures = self._groups[index]
        self._groups.move_to_end(index)
        self._next = index + len(pictures.frames)
        return pictures

    def _following(self) -> int:
        if self._next is not None:
            for step in sorted(range(-_NEAR_FRAMES, _NEAR_FRAMES + 1), key=abs):
                if (index := (self._next + step) % self._period) in self._groups:
                    return index
        return next(iter(self._groups))

    def _drop(self, index: int) -> None:
        if (dropped := self._groups.pop(index, None)) is not None:
            self._num_bytes -= _size(dropped)


def _size(pictures: EncodedPictures) -> int:
    return sum(map(len, pictures.frames))


class ShownFrames(NamedTuple):
    """The frames to show for one chunk.

    Attributes:
        pictures: The encoded frames.
        is_fallback: Whether they are cached idle frames.
    """

    pictures: EncodedPictures
    is_fallback: bool


class IdleFallback:
    """Requests chunks one after the other and passes on their state. Silent ones can be decoded on their own.

    While a chunk is late, idle frames are shown at normal speed; call `idle`, and once it returns None, `take_late`.

    Args:
        service: Renders chunks.
        idle: Cached idle frames.
        fallback_after_s: How long to wait for a chunk before showing idle frames.
    """

    def __init__(self, service: LiveService, idle: IdleFrames, fallback_after_s: float) -> None:
        self._service, self._idle, self._fallback_after_s = service, idle, fallback_after_s
        self._state: object = None
        self._reference: str | None = None  # None: the next chunk begins with a keyframe
        self._since_key = 0  # frames
        self._late: asyncio.Task[LiveChunk] | None = None

    def begin_with_key(self) -> None:
        """Have the next chunk begin with a keyframe."""
        self._reference = None

    def idle(self) -> EncodedPictures | None:
        """Return the idle frames to show while a chunk is late; None if none is, or if it has arrived."""
        return None if self._late is None or self._late.done() else self._idle.take()

    def take_late(self) -> EncodedPictures | None:
        """Return the chunk that was late, if its decoding needs no other. The next one begins with a keyframe.

        Raises:
            LipwrightError: It could not be rendered.
        """
        if self._late is None:
            return None
        chunk, self._late = self._late.result(), None
        self._state = chunk.state
        return chunk.pictures if chunk.pictures.is_key else None

    async def show(self, request: LiveChunkRequest, is_idle: bool = True) -> ShownFrames:
        """Return the frames to show for a chunk; state and reference in `request` are ignored.

        With `is_idle`, they may be shown again if nobody speaks in them.

        Raises:
            LipwrightError: The chunk cannot be rendered.
        """
        request = replace(request, state=self._state, reference=self._reference_for(request))
        task = asyncio.create_task(self._service.render(request))
        try:
            await asyncio.wait([task], timeout=self._fallback_after_s)
            if not task.done() and (idle := self._begin(request)) is not None:
                self._late = task
                return idle
            chunk = await task
        except BaseException:
            task.cancel()
            raise
        self._state, self._reference = chunk.state, chunk.reference
        self._since_key = request.num_frames + (0 if chunk.pictures.is_key else self._since_key)
        if request.window.is_silent and is_idle:
            self._idle.keep(_position(request), chunk.pictures)
        return ShownFrames(chunk.pictures, False)

    async def close(self) -> None:
        """Cancel the pending chunk."""
        if self._late is not None:
            await cancel_all([self._late])
            self._late = None

    def _reference_for(self, request: LiveChunkRequest) -> str | None:
        until_key = _KEY_SECONDS * request.avatar.source.info.fps
        is_key = request.window.is_silent or self._since_key + request.num_frames > until_key
        return None if is_key else self._reference

    def _begin(self, request: LiveChunkRequest) -> ShownFrames | None:
        self._reference = None
        self._idle.begin(_position(request))
        pictures = self._idle.take()
        return None if pictures is None else ShownFrames(pictures, True)


def _position(request: LiveChunkRequest) -> int:
    """Return what decides which frames a silent chunk shows: where it is in the loop, or its first source frame."""
    first, playback = request.first_frame, request.playback
    if not playback.path:
        return first
    return int(playback.source_frames(range(first, first + 1), request.avatar.source.info.num_frames)[0])
