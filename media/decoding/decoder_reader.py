"""A `media.reader.FrameReader` in a decoder process, and the same reader's face on this side."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from config import DecoderConfig, MediaLimits, PipelineConfig
from errors import CancelledJobError, LipwrightError, MediaError
from media.decoding.answers import failed
from media.decoding.channel import Channel, memory_file
from media.decoding.decoder import Decoder, Decoders, LostDecoderError, lost
from media.decoding.frame_batch import frame_bytes, map_frames, write_frame
from media.decoding.nursery import bound_cpu, check_memory
from media.decoding.wire import Batch, Failed
from media.planes import Planes
from media.probe import VideoInfo
from media.reader import FrameReader

_MAX_FRAMES: Final = 64  # of one request, however small they are


@dataclass(frozen=True)
class FrameSettings:
    """How frames of a file are decoded.

    Attributes:
        cache_bytes: See `media.reader.FrameReader`.
        num_threads: Threads of the decoder.
        limits: Bounds that are enforced again on every frame.
        decoder: Bounds of the process.
        timeout_s: Wall clock for one batch of frames.
    """

    cache_bytes: int
    num_threads: int
    limits: MediaLimits
    decoder: DecoderConfig
    timeout_s: float

    @classmethod
    def of(cls, config: PipelineConfig, num_threads: int, timeout_s: float) -> Self:
        """What `config` says."""
        return cls(config.render.reader_cache_bytes, num_threads, config.limits, config.decoder, timeout_s)


class DecoderReader:
    """Reads frames like `media.reader.FrameReader`, decoded in a process of their own, one batch ahead.

    The process is started by the first `read`; one that was lost, or ended because nobody asked, is replaced.
    One `read` at a time: a new one ends what was left of the one before. `close` may come from any thread.

    Args:
        decoders: Where processes come from.
        path: The file that `info` was probed from.
        info: What `probe_video` returned for it.
        settings: How to decode it.
    """

    def __init__(self, decoders: Decoders, path: Path, info: VideoInfo, settings: FrameSettings) -> None:
        self._decoders = decoders
        self._path = path
        self._info = info
        self._settings = settings
        self._decoder: Decoder | None = None
        self._is_closed = False
        self._asked: deque[list[int]] = deque()
        size = frame_bytes(info.width, info.height)
        self._batch_frames = min(max(settings.decoder.batch_bytes // size, 1), _MAX_FRAMES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, indices: Iterable[int]) -> Iterator[Planes]:
        """Frames in the order of `indices`, decoded a batch at a time.

        Args:
            indices: Frame indices in the half-open range [0, info.num_frames), in any order, repeats allowed.

        Yields:
            Read-only planes, (info.height, info.width) luma. They stay valid while the caller holds them.

        Raises:
            ValueError: An index outside the range.
            MediaError: The file cannot be opened, nothing can be decoded there, or its decoder crashed.
            MediaLimitError: A frame has more pixels than allowed, or decoding it needs too much.
            StageTimeoutError: A batch took too long.
            CancelledJobError: `close` was called meanwhile.
        """
        remaining = iter(indices)
        while self._asked:
            self._next_batch()  # what an unfinished `read` had asked for
        self._ask(remaining)
        while self._asked:
            wanted = self._asked[0]
            frames, error = self._next_batch()
            if error is None:
                self._ask(remaining)
            for index in wanted:
                if index not in frames:
                    assert error is not None
                    raise error
                yield frames[index]

    def close(self) -> None:
        """End the process; planes already handed out stay valid."""
        # In this order, so that a process being started meanwhile is closed by `_start`.
        self._is_closed = True
        if (decoder := self._decoder) is not None:
            decoder.close()

    def _ask(self, indices: Iterator[int]) -> None:
        """Ask for the next batch; an empty one is none."""
        wanted = list(islice(indices, self._batch_frames))
        if not wanted:
            return
        self._asked.append(wanted)
        if self._decoder is not None:
            try:
                self._decoder.ask(_once(wanted))
            except LostDecoderError:
                self._drop()

    def _next_batch(self) -> tuple[dict[int, Planes], Exception | None]:
        """The frames of the oldest batch asked for, and the error that ended it early."""
        num_frames, error, file = self._receive()
        wanted = _once(self._asked.popleft())
        if file is None:
            return {}, error
        return dict(zip(wanted, map_frames(file, num_frames, self._info.width, self._info.height), strict=False)), error

    def _receive(self) -> tuple[int, Exception | None, int | None]:
        try:
            for _ in range(2):
                try:
                    batch, file = self._running().receive(self._settings.timeout_s)
                    return _checked(batch, file, len(_once(self._asked[0])), self._path)
                except LostDecoderError:
                    self._drop()
        except BaseException:
            self._drop()
            self._asked.clear()
            raise
        raise lost(self._path)

    def _running(self) -> Decoder:
        if self._is_closed:
            raise CancelledJobError(f"{self._path.name}: decoding was ended from outside.")
        if self._decoder is None:
            decoder = self._decoders.open(partial(serve_frames, self._path, self._info, self._settings), self._path)
            self._decoder = decoder
            if self._is_closed:  # meanwhile
                self.close()
            for wanted in self._asked:
                decoder.ask(_once(wanted))
        return self._decoder

    def _drop(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
        self._decoder = None


def serve_frames(path: Path, info: VideoInfo, settings: FrameSettings, channel: Channel) -> None:
    """What the decoder process does: for each list of indices received, send its frames."""
    cpu_seconds = settings.timeout_s * settings.decoder.cpu_share
    bound_cpu(cpu_seconds)
    try:
        reader = FrameReader(path, info, settings.cache_bytes, settings.num_threads, settings.limits)
    except MemoryError:
        raise
    except Exception as error:
        channel.send(failed(error))
        return
    with reader, suppress(TimeoutError):  # nobody asks any more
        while True:
            indices = channel.receive(settings.decoder.idle_s).value
            bound_cpu(cpu_seconds)
            _send_batch(channel, reader, indices)


def _checked(batch: object, file: int | None, max_frames: int, path: Path) -> tuple[int, Exception | None, int | None]:
    """(frames, the error that ended them early, where they lie) of a decoder's answer."""
    if (
        isinstance(batch, Batch)
        and 0 <= batch.num_frames <= max_frames
        and (batch.num_frames > 0) == (file is not None)
    ):
        return batch.num_frames, batch.failed.error if batch.failed is not None else None, file
    if file is not None:
        os.close(file)
    raise MediaError(f"{path.name}: expected frames, found that its decoder answers with something else.")


def _send_batch(channel: Channel, reader: FrameReader, indices: list[int]) -> None:
    num_frames, error = 0, None
    file = memory_file()
    try:
        try:
            for planes in reader.read(indices):
                write_frame(file, planes)
                num_frames += 1
        except (LipwrightError, ValueError) as raised:
            error = Failed.of(raised)
        check_memory()
        channel.send(Batch(num_frames, error), file if num_frames else None)
    finally:
        os.close(file)


def _once(indices: list[int]) -> list[int]:
    """The indices without repeats, each where it came first."""
    return list(dict.fromkeys(indices))
