"""The encoder of one live session, which continues from chunk to chunk."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from config import PipelineConfig
from media.live.encoder import EncodedPictures, LiveEncoder
from media.output.picture import DrawPicture
from media.yuv_frame import Patch, YuvFrame
from rendering.frame_marks import live_marks
from rendering.live_chunk import LiveChunkRequest


class SessionEncoder:
    """Encodes the chunks of one session, each after the one before it.

    Args:
        request: The first chunk.
        config: Encoder settings and watermarks.

    Attributes:
        reference: Names the last picture, see `LiveChunk.reference`.
    """

    def __init__(self, request: LiveChunkRequest, config: PipelineConfig) -> None:
        info, live = request.avatar.source.info, config.live
        marks = live_marks(info, request.session_id, request.first_frame, config.labels)
        self._encoder = LiveEncoder(info, live.crf, live.preset, marks)
        self._next_frame = request.first_frame
        self.reference = uuid.uuid4().hex

    def fits(self, request: LiveChunkRequest) -> bool:
        """Return whether the requested chunk follows the last one, and may refer to it or begin with a keyframe."""
        return request.first_frame == self._next_frame and request.reference in (None, self.reference)

    def encode(
        self,
        request: LiveChunkRequest,
        frames: Sequence[tuple[YuvFrame, Patch | None]],
        draw: DrawPicture,
    ) -> EncodedPictures:
        """Encode the pictures that `draw` makes of frames and their faces."""
        if request.reference is None:
            self._encoder.begin_with_key()
        for frame, patch in frames:
            self._encoder.write(frame, () if patch is None else (patch,), draw)
        self._next_frame += len(frames)
        self.reference = uuid.uuid4().hex
        return self._encoder.finish()
