"""Between a session and who renders it: where moments do not come in time, the avatar is shown as it was."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import replace
from typing import Any, NamedTuple

from media.live.gop_encoder import EncodedGop
from media.probe import VideoInfo
from rendering.live_chunk import LiveChunk, LiveChunkRequest, LiveService

_NEAR_FRAMES = 1  # a head that is a frame early or late is not seen to jump


class IdleFrames:
    """The newest silent moments of one session, by their place in the avatar's way to and fro.

    Args:
        info: Of the avatar's source.
        max_bytes: Of all that is kept; the longest unused goes first.
    """

    def __init__(self, info: VideoInfo, max_bytes: int) -> None:
        self._period = max(1, 2 * info.num_frames - 2)  # `media.playback.source_index`, pingpong
        self._max_bytes = max_bytes
        self._groups: OrderedDict[int, EncodedGop] = OrderedDict()
        self._num_bytes = 0
        self._next: int | None = None  # where what was shown last goes on

    def keep(self, first_frame: int, pictures: EncodedGop) -> None:
        """Keep the moment that begins with a frame of the stream."""
        index = first_frame % self._period
        self._drop(index)
        self._groups[index] = pictures
        self._num_bytes += _size(pictures)
        while self._num_bytes > self._max_bytes:
            self._drop(next(iter(self._groups)))

    def begin(self, first_frame: int) -> None:
        """Go on from a frame of the stream."""
        self._next = first_frame

    def take(self) -> EncodedGop | None:
        """Return what is shown next: what follows on what was shown last, as far as it is there.

        Where it is not, the picture jumps to the longest unused moment, so that no short stretch is seen over and over.
        None: nothing is kept.
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


def _size(pictures: EncodedGop) -> int:
    return sum(map(len, pictures.frames))


class ShownFrames(NamedTuple):
    """What is shown of a moment.

    Attributes:
        pictures: The frames.
        is_fallback: Whether they are kept ones: nobody speaks in them.
    """

    pictures: EncodedGop
    is_fallback: bool


class IdleFallback:
    """Asks for moments, and carries what continues between them.

    A moment that is late is waited for on, but not by the client: until it has come, idle frames are shown at their
    own pace. What then comes is too old; the next moment is rendered on.

    Args:
        service: Renders moments.
        idle: What stands in.
        patience_s: How late a moment may be.
    """

    def __init__(self, service: LiveService, idle: IdleFrames, patience_s: float) -> None:
        self._service, self._idle, self._patience_s = service, idle, patience_s
        self._state: Any = None
        self._late: asyncio.Task[LiveChunk] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether pictures stand in."""
        return self._late is not None

    async def show(self, request: LiveChunkRequest) -> ShownFrames:
        """Return what is shown of a moment; its own state is not looked at.

        Raises:
            LipwrightError: Why it cannot be rendered.
        """
        if self._late is not None:
            if not self._late.done():
                return self._next_idle()
            self._state, self._late = self._late.result().state, None
        task = asyncio.create_task(self._service.render(replace(request, state=self._state)))
        try:
            await asyncio.wait([task], timeout=self._patience_s)
            if not task.done() and (idle := self._begin(request)) is not None:
                self._late = task
                return idle
            moment = await task
        except BaseException:
            task.cancel()
            raise
        self._state = moment.state
        if request.window.is_silent:
            self._idle.keep(request.first_frame, moment.pictures)
        return ShownFrames(moment.pictures, False)

    async def close(self) -> None:
        """Wait for nothing any more."""
        if self._late is not None:
            self._late.cancel()
            await asyncio.gather(self._late, return_exceptions=True)
            self._late = None

    def _begin(self, request: LiveChunkRequest) -> ShownFrames | None:
        self._idle.begin(request.first_frame)
        pictures = self._idle.take()
        return None if pictures is None else ShownFrames(pictures, True)

    def _next_idle(self) -> ShownFrames:
        pictures = self._idle.take()
        assert pictures is not None
        return ShownFrames(pictures, True)
