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
    """Keeps a few readers open between calls that read a source chunk by chunk."""

    def __init__(self, config: PipelineConfig, files: StoredFiles, decoders: Decoders, num_threads: int) -> None:
        self._config, self._files, self._decoders, self._num_threads = config, files, decoders, num_threads
        self._readers: LruPool[tuple[str, int], DecoderReader] = LruPool(_MAX_IDLE_READERS, DecoderReader.close)

    @contextmanager
    def frames(self, source: SourceVideo, frames: range, token: CancelToken) -> Iterator[Iterator[YuvFrame]]:
        """Read consecutive frames; the call that continues after them uses the same reader."""
        with self._files.fetched(source.key) as path:
            reader = self._readers.take(
                (source.key, frames.start), lambda: self.open(path, source.info, self.timeout_s(len(frames)))
            )
            try:
                with token.on_cancel(reader.close):
                    yield reader.read(frames)
            except BaseException:
                reader.close()
                raise
        if frames.stop >= source.info.num_frames:
            reader.close()
        elif not token.is_cancelled():  # cancelling closes the reader
            self._readers.put((source.key, frames.stop), reader)

    def open(self, path: Path, info: VideoInfo, timeout_s: float) -> DecoderReader:
        """Return a reader of a file; `timeout_s` bounds each batch of frames."""
        settings = FrameSettings.of(self._config, self._num_threads, timeout_s)
        return DecoderReader(self._decoders, path, info, settings)

    def timeout_s(self, num_frames: int) -> float:
        """Return the timeout of a call about this number of frames."""
        return self._config.jobs.call_timeout_s(num_frames)
