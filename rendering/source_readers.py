"""Opens sources for reading in decoder processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config import PipelineConfig
from jobs.messages import SourceVideo
from media.cancel_token import CancelToken
from media.decoding.decoder import Decoders
from media.decoding.decoder_reader import DecoderReader, FrameSettings
from media.probe import VideoInfo
from media.yuv_frame import YuvFrame
from rendering.avatar_cache import LruPool
from storage.files import StoredFiles

_MAX_IDLE_READERS = 4


class SourceReaders:
    """Keeps a few readers open between calls that read a source: chunk by chunk, or again after the last chunk."""

    def __init__(self, config: PipelineConfig, files: StoredFiles, decoders: Decoders, num_threads: int) -> None:
        self._config, self._files, self._decoders, self._num_threads = config, files, decoders, num_threads
        self._readers: LruPool[tuple[str, int], DecoderReader] = LruPool(_MAX_IDLE_READERS, DecoderReader.close)

    @contextmanager
    def frames(self, source: SourceVideo, frames: range, token: CancelToken) -> Iterator[Iterator[YuvFrame]]:
        """Read consecutive frames; the call that continues after them uses the same reader.

        After the last frame, a reader that holds all frames is kept for `whole`.
        """
        next_frame = frames.stop % source.info.num_frames
        with self._lend(source, frames.start, next_frame, len(frames), token) as reader:
            yield reader.read(frames)

    @contextmanager
    def whole(self, source: SourceVideo, token: CancelToken, *, is_last: bool = False) -> Iterator[DecoderReader]:
        """Lend a reader of all frames: the one that has read them all, if it holds them. `is_last` closes it."""
        with self._lend(source, 0, None if is_last else 0, source.info.num_frames, token) as reader:
            yield reader

    @contextmanager
    def _lend(
        self, source: SourceVideo, first: int, next_frame: int | None, num_frames: int, token: CancelToken
    ) -> Iterator[DecoderReader]:
        """Lend the reader whose next frame is `first`; keep it for `next_frame`, if any, if that saves decoding."""
        with self._files.fetched(source.key) as path:
            reader = self._readers.take(
                (source.key, first), lambda: self.open(path, source.info, self.timeout_s(num_frames))
            )
            try:
                with token.on_cancel(reader.close):
                    yield reader
            except BaseException:
                reader.close()
                raise
        if next_frame is None or (next_frame == 0 and not reader.holds_all):
            reader.close()
        elif not token.is_cancelled():  # cancelling closes the reader
            self._readers.put((source.key, next_frame), reader)

    def open(self, path: Path, info: VideoInfo, timeout_s: float) -> DecoderReader:
        """Return a reader of a file; `timeout_s` bounds each batch of frames."""
        settings = FrameSettings.of(self._config, self._num_threads, timeout_s)
        return DecoderReader(self._decoders, path, info, settings)

    def timeout_s(self, num_frames: int) -> float:
        """Return the timeout of a call about this number of frames."""
        return self._config.jobs.call_timeout_s(num_frames)
