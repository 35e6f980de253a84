"""Between a session and who renders it: where moments do not come in time, the avatar is shown as it was."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, NamedTuple

from api.live.kept_pictures import KeptPictures
from media.live.gop_encoder import EncodedGop
from rendering.live_chunk import LiveChunk, LiveChunkRequest, LiveService


class Shown(NamedTuple):
    """What is shown of a moment.

    Attributes:
        pictures: The frames.
        is_stand_in: Whether they are kept ones: nobody speaks in them.
    """

    pictures: EncodedGop
    is_stand_in: bool


class Bridge:
    """Asks for moments, and carries what continues between them.

    A moment that is late is waited for on, but not by the client: until it has come, kept pictures are shown at their
    own pace. What then comes is too old; the next moment is rendered on.

    Args:
        service: Renders moments.
        kept: What stands in.
        patience_s: How late a moment may be.
    """

    def __init__(self, service: LiveService, kept: KeptPictures, patience_s: float) -> None:
        self._service, self._kept, self._patience_s = service, kept, patience_s
        self._state: Any = None
        self._late: asyncio.Task[LiveChunk] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether pictures stand in."""
        return self._late is not None

    async def show(self, request: LiveChunkRequest) -> Shown:
        """Return what is shown of a moment; its own state is not looked at.

        Raises:
            LipwrightError: Why it cannot be rendered.
        """
        if self._late is not None:
            if not self._late.done():
                return self._stand_in()
            self._state, self._late = self._late.result().state, None
        task = asyncio.create_task(self._service.render(replace(request, state=self._state)))
        try:
            await asyncio.wait([task], timeout=self._patience_s)
            if not task.done() and (kept := self._begin(request)) is not None:
                self._late = task
                return kept
            moment = await task
        except BaseException:
            task.cancel()
            raise
        self._state = moment.state
        if request.window.is_silent:
            self._kept.keep(request.first_frame, moment.pictures)
        return Shown(moment.pictures, False)

    async def close(self) -> None:
        """Wait for nothing any more."""
        if self._late is not None:
            self._late.cancel()
            await asyncio.gather(self._late, return_exceptions=True)
            self._late = None

    def _begin(self, request: LiveChunkRequest) -> Shown | None:
        self._kept.begin(request.first_frame)
        pictures = self._kept.take()
        return None if pictures is None else Shown(pictures, True)

    def _stand_in(self) -> Shown:
        pictures = self._kept.take()
        assert pictures is not None
        return Shown(pictures, True)
