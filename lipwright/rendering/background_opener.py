"""Opens what is behind the person in a result or a live session, and the matte that cuts the person out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from lipwright.jobs.messages import Background, MatteRef, SegmentRequest, SourceVideo
from lipwright.media.cancel_token import CancelToken
from lipwright.media.frame_source import FrameSource
from lipwright.media.matte import MatteFrames
from lipwright.media.output.backdrop import Backdrop, BlurBackdrop, ColourBackdrop, Cutout, MattedFrames, VideoBackdrop
from lipwright.media.output.backgrounds import BLUR, TRANSPARENT, fit_background
from lipwright.media.playback import AfterEnd, Playback
from lipwright.media.probe import ColourTags, VideoInfo
from lipwright.storage.files import StoredFiles
from models.avatar.avatar import Avatar

OpenSource = Callable[[Path, VideoInfo, Avatar | None], FrameSource]


def cutout(background: Background, tags: ColourTags, backdrop: Backdrop | None = None) -> Cutout:
    """Return what draws people with colours `tags` on a background; `backdrop` draws a background file."""
    if backdrop is None and background.colour not in (None, TRANSPARENT):
        backdrop = BlurBackdrop() if background.colour == BLUR else ColourBackdrop(background.colour, tags)
    return Cutout(backdrop, background.matte.report.screen)


class BackgroundOpener:
    """Opens mattes and background files in decoder processes."""

    def __init__(self, open_source: OpenSource, files: StoredFiles) -> None:
        self._open_source, self._files = open_source, files

    def open_mattes(self, matte: MatteRef, avatar: Avatar | None, held: ExitStack) -> FrameSource:
        """Open the mattes of the frames that `avatar` shows, or of those of the source; blocks.

        The caller closes them. Their file is on this machine until `held` closes.
        """
        mattes = MatteFrames(self.open_video(matte.key, matte.info, held))
        return mattes if avatar is None else avatar.matte_frames(mattes)

    def open_video(self, key: str, info: VideoInfo, held: ExitStack) -> FrameSource:
        """Open a matte or a background file; blocks.

        The caller closes it. Its file is on this machine until `held` closes.
        """
        return self._open_source(held.enter_context(self._files.fetched(key)), info, None)

    def open(
        self, request: SegmentRequest, frames: FrameSource, avatar: Avatar | None, held: ExitStack
    ) -> tuple[FrameSource, Cutout | None]:
        """Return the frames of a segment with their mattes, and what draws its pictures from them; blocks.

        Without another background, these are the unchanged frames, and None.

        Args:
            request: The segment.
            frames: The frames of its source, as `avatar` shows them; the caller closes them.
            avatar: The first face; None if the segment shows none.
            held: Closes everything else.
        """
        if (background := request.background) is None:
            return frames, None
        mattes = self.open_mattes(background.matte, avatar, held)
        held.callback(mattes.close)
        return MattedFrames(frames, mattes), cutout(
            background, request.source.info.colour, self._video(request, background, held)
        )

    def _video(self, request: SegmentRequest, background: Background, held: ExitStack) -> Backdrop | None:
        """Return what draws the background file of a segment; None if there is none."""
        if (file := background.file) is None:
            return None
        assert request.picture is not None
        playback = Playback(background.after_end, float(file.info.fps / request.picture.info.fps))
        frames = range(request.first_frame, request.first_frame + len(request.source_index))
        reader = self.open_video(file.key, file.info, held)
        held.callback(reader.close)
        return VideoBackdrop(reader, file.info, request.source.info.colour, playback, frames)


class BackgroundFitter:
    """Decodes pictures and videos, and writes them as sessions show them; blocks."""

    def __init__(self, files: StoredFiles, open_source: OpenSource, num_threads: int) -> None:
        self._files, self._open_source, self._num_threads = files, open_source, num_threads

    def fit(self, background: SourceVideo, shown: VideoInfo, after_end: AfterEnd, out: str, token: CancelToken) -> str:
        """Write a background for sessions that show `shown` to the key `out`; see `Studio.fit_background`."""
        with (
            self._files.fetched(background.key) as path,
            closing(self._open_source(path, background.info, None)) as reader,
            token.on_cancel(reader.close),
        ):
            made = fit_background(reader, background.info, shown, after_end, self._num_threads)
        self._files.put(out, made)
        return hashlib.sha256(made).hexdigest()
