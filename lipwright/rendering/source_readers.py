"""Opens sources for reading in decoder processes, and copies parts of them into segments without decoding."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from lipwright.config import PipelineConfig
from lipwright.errors import MediaError
from lipwright.jobs.messages import SourceVideo
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.decoder import Decoders
from lipwright.media.decoding.decoder_reader import DecoderReader, FrameSettings
from lipwright.media.probe import VideoInfo
from lipwright.media.result.stream_copy import copy_segment, copyable_keys
from lipwright.media.yuv_frame import YuvFrame
from lipwright.rendering.lru_pool import LruPool
from lipwright.storage.files import StoredFiles


class SourceCopier:
    """Finds what can be copied of a source, and copies it; all its work blocks."""

    def __init__(self, config: PipelineConfig, files: StoredFiles, decoders: Decoders) -> None:
        self._config, self._files, self._decoders = config, files, decoders

    def keys(self, source: SourceVideo, token: CancelToken) -> list[int]:
        """Return the frames before which a copy may start or end, see `copyable_keys`."""
        info = source.info
        with self._files.fetched(source.key) as path:
            work = partial(copyable_keys, path, info, self._config.limits)
            reply = self._decoders.run(
                work, file=path, timeout_s=self._config.jobs.call_timeout_s(info.num_frames), token=token
            )
        keys: list[int] = np.frombuffer(reply, np.int64).tolist()
        if any(not 0 <= before < after <= info.num_frames for before, after in pairwise(keys)):
            raise MediaError(f"{source.key}: expected ascending frame numbers from the decoder.")
        return keys

    def copy(self, source: SourceVideo, start: int, stop: int, token: CancelToken) -> bytes:
        """Return frames [start, stop) as an MP4 file.

        Raises:
            MediaError: The source does not have these frames.
        """
        with self._files.fetched(source.key) as path, tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "segment.mp4"
            work = partial(copy_segment, path, out, source.info, start, stop, self._config.limits)
            timeout_s = self._config.jobs.call_timeout_s(stop - start)
            self._decoders.run(work, file=path, timeout_s=timeout_s, token=token, writes=out.parent)
            return out.read_bytes()


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
        if next_frame is None or (next_frame == 0 and not self.holds_all(source.info)):
            reader.close()
        elif not token.is_cancelled():  # cancelling closes the reader
            self._readers.put((source.key, next_frame), reader)

    def holds_all(self, info: VideoInfo) -> bool:
        """Whether a reader holds all frames of a source, so that each is decoded once, however often it is read."""
        return FrameSettings.of(self._config, self._num_threads, 0.0).holds_all(info)

    def open(self, path: Path, info: VideoInfo, timeout_s: float) -> DecoderReader:
        """Return a reader of a file; `timeout_s` bounds each batch of frames."""
        settings = FrameSettings.of(self._config, self._num_threads, timeout_s)
        return DecoderReader(self._decoders, path, info, settings)

    def timeout_s(self, num_frames: int) -> float:
        """Return the timeout of a call about this number of frames."""
        return self._config.jobs.call_timeout_s(num_frames)
