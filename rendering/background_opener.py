"""Opens what is behind the person in a segment, and the matte that cuts the person out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from jobs.messages import Background, SegmentRequest
from media.frame_source import FrameSource
from media.matte.matte_video import MatteFrames
from media.output.backdrop import Backdrop, BlurBackdrop, ColourBackdrop, VideoBackdrop
from media.output.backgrounds import BLUR, TRANSPARENT
from media.output.cutout import Cutout, MattedFrames
from media.playback import Playback
from media.probe import VideoInfo
from models.avatar.avatar import Avatar
from storage.files import StoredFiles

OpenSource = Callable[[Path, VideoInfo, Avatar | None], FrameSource]


class BackgroundOpener:
    """Opens mattes and background files in decoder processes, each for one segment."""

    def __init__(self, open_source: OpenSource, files: StoredFiles) -> None:
        self._open_source, self._files = open_source, files

    def open(
        self, request: SegmentRequest, frames: FrameSource, avatar: Avatar | None, held: ExitStack
    ) -> tuple[FrameSource, Cutout | None]:
        """Return the frames of a segment with their mattes, and what draws its pictures from them; blocks.

        Without another background, these are the frames as they are, and None.

        Args:
            request: The segment.
            frames: The frames of its source, as `avatar` shows them; the caller closes them.
            avatar: The first face; None if the segment shows none.
            held: Closes everything else.
        """
        if (background := request.background) is None:
            return frames, None
        mattes: FrameSource = MatteFrames(self._open(background.matte.key, background.matte.info, held))
        mattes = mattes if avatar is None else avatar.frames(mattes)
        screen = background.matte.report.screen
        return MattedFrames(frames, mattes), Cutout(self._backdrop(request, background, held), screen)

    def _backdrop(self, request: SegmentRequest, background: Background, held: ExitStack) -> Backdrop | None:
        source, file, colour = request.source.info, background.file, background.colour
        if file is not None:
            assert request.picture is not None
            playback = Playback(background.after_end, float(file.info.fps / request.picture.info.fps))
            frames = range(request.first_frame, request.first_frame + len(request.source_index))
            return VideoBackdrop(self._open(file.key, file.info, held), file.info, source.colour, playback, frames)
        if colour is None or colour == TRANSPARENT:
            return None
        return BlurBackdrop() if colour == BLUR else ColourBackdrop(colour, source.colour)

    def _open(self, key: str, info: VideoInfo, held: ExitStack) -> FrameSource:
        path = held.enter_context(self._files.fetched(key))
        reader = self._open_source(path, info, None)
        held.callback(reader.close)
        return reader
