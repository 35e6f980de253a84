"""Reads frames through a `lipwright.media.reader.FrameReader` that runs in a decoder process."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, Self

from lipwright.config import DecoderConfig, MediaLimits, PipelineConfig
from lipwright.errors import CancelledJobError, LipwrightError, MediaError
from lipwright.media.decoding.channel import Channel, FrameBuffer, FrameBufferPool, frame_bytes, write_frame
from lipwright.media.decoding.decoder import Decoder, Decoders, LostDecoderError, decoder_lost_error
from lipwright.media.decoding.forkserver import bound_cpu, check_memory, error_reply
from lipwright.media.decoding.memory_budget import budget_bytes
from lipwright.media.decoding.reply_codec import ErrorReply, FrameBatch
from lipwright.media.probe import VideoInfo
from lipwright.media.reader import FrameReader
from lipwright.media.yuv_frame import YuvFrame

_MAX_FRAMES: Final = 64  # of one request, however small they are
_NUM_READERS: Final = 32  # that a busy machine keeps open


@dataclass(frozen=True)
class FrameSettings:
    """How the frames of a file are decoded; `timeout_s` bounds one batch, and `limits` are enforced on every frame."""

    cache_bytes: int
    num_threads: int
    limits: MediaLimits
    decoder: DecoderConfig
    timeout_s: float

    @classmethod
    def of(cls, config: PipelineConfig, num_threads: int, timeout_s: float) -> Self:
        """Return the settings of `config`; `_NUM_READERS` full caches fit the decoders' memory budget."""
        share = budget_bytes(config.decoder.max_shared_memory_bytes) // _NUM_READERS
        cache_bytes = min(config.render.reader_cache_bytes, share)
        return cls(cache_bytes, num_threads, config.limits, config.decoder, timeout_s)

    def holds_all(self, info: VideoInfo) -> bool:
        """Whether all frames fit the cache."""
        return info.num_frames * frame_bytes(info.width, info.height) <= self.cache_bytes


class _Asked(NamedTuple):
    """A requested batch.

    Attributes:
        indices: Frame indices in the requested order, with repeats.
        file: The memory file for its frames.
    """

    indices: list[int]
    file: FrameBuffer

    @property
    def once(self) -> list[int]:
        """The indices without repeats, in order of their first occurrence."""
        return list(dict.fromkeys(self.indices))

    def send(self, decoder: Decoder) -> None:
        """Send the request."""
        decoder.ask(self.once, self.file.number)


class DecoderReader:
    """Reads frames like `lipwright.media.reader.FrameReader`, decoded in a separate process, one batch ahead.

    The first `read` starts the process; one that was killed, or exited while idle, is replaced. Only one `read` can be
    active: a new one discards the rest of the previous one. `close` may be called from any thread.
    """

    def __init__(self, decoders: Decoders, path: Path, info: VideoInfo, settings: FrameSettings) -> None:
        self._decoders = decoders
        self._path = path
        self._info = info
        self._settings = settings
        self._decoder: Decoder | None = None
        self._is_closed = False
        self._asked: deque[_Asked] = deque()
        size = frame_bytes(info.width, info.height)
        self._batch_frames = min(max(settings.decoder.batch_bytes // size, 1), _MAX_FRAMES)
        self._files = FrameBufferPool(self._batch_frames, info.width, info.height)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        """Yield frames in the order of `indices`, decoded in batches; see `FrameReader.read`.

        Raises:
            ValueError: An index outside the range.
            MediaError: The file cannot be opened, nothing can be decoded there, or its decoder crashed.
            MediaLimitError: A frame has more pixels than allowed, or needs too much memory or CPU time.
            StageTimeoutError: A batch took too long.
            CancelledJobError: `close` was called meanwhile.
        """
        remaining = iter(indices)
        while self._asked:
            self._next_batch()  # requested by an unfinished `read`
        self._ask(remaining)
        while self._asked:
            wanted = self._asked[0].indices
            frames, error = self._next_batch()
            if error is None:
                self._ask(remaining)
            for index in wanted:
                if index not in frames:
                    assert error is not None
                    raise error
                yield frames[index]

    def close(self) -> None:
        """Kill the process; frames already returned stay valid."""
        # In this order, so that `_start_decoder` closes a process that is being started meanwhile.
        self._is_closed = True
        if (decoder := self._decoder) is not None:
            decoder.close()

    def _ask(self, indices: Iterator[int]) -> None:
        """Request the next batch, unless it is empty."""
        wanted = list(islice(indices, self._batch_frames))
        if not wanted:
            return
        asked = _Asked(wanted, self._files.take())
        self._asked.append(asked)
        if self._decoder is not None:
            try:
                asked.send(self._decoder)
            except LostDecoderError:
                self._drop()

    def _next_batch(self) -> tuple[dict[int, YuvFrame], Exception | None]:
        """Return the frames of the oldest requested batch, and the error that ended it early."""
        num_frames, error = self._receive()
        asked = self._asked.popleft()
        return dict(zip(asked.once, self._files.frames(asked.file, num_frames), strict=False)), error

    def _receive(self) -> tuple[int, Exception | None]:
        try:
            for _ in range(2):
                try:
                    batch, file = self._start_decoder().receive(self._settings.timeout_s)
                    return _check_reply(batch, file, len(self._asked[0].once), self._path)
                except LostDecoderError:
                    self._drop()
        except BaseException:
            self._drop()
            self._asked.clear()
            raise
        raise decoder_lost_error(self._path)

    def _start_decoder(self) -> Decoder:
        if self._is_closed:
            raise CancelledJobError(f"{self._path.name}: decoding was cancelled.")
        if self._decoder is None:
            decoder = self._decoders.open(partial(serve_frames, self._path, self._info, self._settings), self._path)
            self._decoder = decoder
            if self._is_closed:  # meanwhile
                self.close()
            for asked in self._asked:
                asked.send(decoder)
        return self._decoder

    def _drop(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
            # It may still be writing.
            self._asked = deque(asked._replace(file=self._files.new()) for asked in self._asked)
        self._decoder = None


def serve_frames(path: Path, info: VideoInfo, settings: FrameSettings, channel: Channel) -> None:
    """Main loop of the decoder: writes the frames of each received list of indices into the file sent with it."""
    cpu_seconds = settings.timeout_s * settings.decoder.cpu_share
    bound_cpu(cpu_seconds)
    try:
        reader = FrameReader(path, info, settings.cache_bytes, settings.num_threads, settings.limits)
    except MemoryError:
        raise
    except Exception as error:
        with suppress(TimeoutError):
            channel.receive(settings.decoder.idle_s)  # a request to a process that has ended would fail
            channel.send(error_reply(error))
        return
    with reader, suppress(TimeoutError):  # idle
        while True:
            indices, file = channel.receive(settings.decoder.idle_s)
            assert file is not None
            try:
                bound_cpu(cpu_seconds)
                channel.send(_fill(file, reader, indices))
            finally:
                os.close(file)


def _check_reply(batch: object, file: int | None, max_frames: int, path: Path) -> tuple[int, Exception | None]:
    """Return (number of frames, the error that ended them early) of a decoder's reply."""
    if file is not None:
        os.close(file)  # unexpected
    if isinstance(batch, FrameBatch) and 0 <= batch.num_frames <= max_frames:
        return batch.num_frames, batch.failed.error if batch.failed is not None else None
    raise MediaError(f"{path.name}: the file cannot be decoded: its decoder sent an invalid reply.")


def _fill(file: int, reader: FrameReader, indices: list[int]) -> FrameBatch:
    """Write the frames to the start of the file."""
    num_frames, error = 0, None
    os.lseek(file, 0, os.SEEK_SET)
    try:
        for planes in reader.read(indices):
            write_frame(file, planes)
            num_frames += 1
    except (LipwrightError, ValueError) as raised:
        error = ErrorReply.of(raised)
    check_memory()
    return FrameBatch(num_frames, error)
