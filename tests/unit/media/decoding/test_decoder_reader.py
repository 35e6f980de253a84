"""Frames from another process: the same frames, read-only, in bounded memory, whatever happens to that process."""

from __future__ import annotations

import gc
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from lipwright.config import DecoderConfig, PipelineConfig
from lipwright.errors import CancelledJobError, MediaError, MediaLimitError, StageTimeoutError, StoredFileError
from lipwright.media.decoding.channel import Channel
from lipwright.media.decoding.decoder import Decoders
from lipwright.media.decoding.decoder_reader import DecoderReader, FrameSettings
from lipwright.media.decoding.reply_codec import FrameBatch
from lipwright.media.probe import probe_video
from tests.unit.media.clips import LIMITS, number_of, read_frames, write_still, write_video
from tests.unit.media.test_reader import FORMATS
from tests.waiting import wait_until

FRAME_BYTES = 192 * 128 * 3 // 2
SETTINGS = replace(
    FrameSettings.of(PipelineConfig(), num_threads=2, timeout_s=30),
    cache_bytes=6 * FRAME_BYTES,
    decoder=DecoderConfig(batch_bytes=5 * FRAME_BYTES),
)


def test_frame_settings_cache_is_a_share_of_decoder_memory() -> None:
    config = PipelineConfig(decoder=DecoderConfig(max_shared_memory_bytes=2**30))
    assert config.render.reader_cache_bytes > 2**25
    assert FrameSettings.of(config, num_threads=1, timeout_s=1.0).cache_bytes == 2**25


def _children() -> list[psutil.Process]:
    """The decoders of this process's forkservers."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # some end meanwhile
            found += child.children() if "lipwright.media.decoding.forkserver" in " ".join(child.cmdline()) else []
    return found


FREEZER = Path("/sys/fs/cgroup/freezer")


@pytest.mark.skipif(not os.access(FREEZER, os.W_OK), reason="freezing a process needs root and cgroups v1")
def test_decoder_reader_close_of_a_frozen_decoder_uses_no_cpu(decoders: Decoders, h264: Path) -> None:
    reader = _open(decoders, h264)
    before = set(_children())
    next(iter(reader.read([0])))
    (decoder,) = set(_children()) - before
    group = FREEZER / f"lipwright-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "tasks").write_text(str(decoder.pid))
        (group / "freezer.state").write_text("FROZEN")
        wait_until(lambda: (group / "freezer.state").read_text() == "FROZEN\n")
        reader.close()
        fork_server = decoder.parents()[0]
        used_s = sum(fork_server.cpu_times()[:2])
        time.sleep(1.0)
        assert sum(fork_server.cpu_times()[:2]) - used_s < 0.1
    finally:
        (group / "freezer.state").write_text("THAWED")
        wait_until(lambda: not decoder.is_running())
        group.rmdir()


def _open(decoders: Decoders, path: Path, settings: FrameSettings = SETTINGS, of: Path | None = None) -> DecoderReader:
    return DecoderReader(decoders, path, probe_video(of or path, LIMITS), settings)


def _order(num_frames: int) -> list[int]:
    shuffled = random.Random(3).sample(range(num_frames), num_frames)
    return [*range(num_frames), *range(num_frames - 1, -1, -1), *shuffled, 7, 7, 7, 7, 7, 7, 7]


@pytest.mark.parametrize(
    "name", ["vp9-odd", "422-10-bit", "rotated-90", "full-range", "avi-b-frames", "variable", "still"]
)
def test_decoder_reader_frames_equal_frame_reader(
    decoders: Decoders, tmp_path: Path, variable: Path, name: str
) -> None:
    if name in FORMATS:
        suffix, options = FORMATS[name]
        path = write_video(tmp_path / f"v.{suffix}", 24, **options)
    else:
        path = variable if name == "variable" else write_still(tmp_path / "still.png", "png", "rgb24")
    order = _order(probe_video(path, LIMITS).num_frames) if name != "still" else [0, 0, 0]
    with _open(decoders, path) as reader:
        held = list(reader.read(order))  # frames outlive the reader
    for planes, expected in zip(held, read_frames(path, order), strict=True):
        assert all(np.array_equal(*pair) for pair in zip(planes, expected, strict=True))
        assert not any(plane.flags.writeable for plane in planes)


def test_decoder_reader_reads_on_after_a_failed_read(decoders: Decoders, h264: Path) -> None:
    with _open(decoders, h264) as reader:
        frames = reader.read([0, 1, 60, 2])
        assert [number_of(next(frames)) for _ in range(2)] == [0, 1]
        with pytest.raises(ValueError, match="index = 60"):
            next(frames)
        assert number_of(next(reader.read(range(3, 60)))) == 3, "the rest of it is dropped"
        assert [number_of(planes) for planes in reader.read(range(30, 50))] == list(range(30, 50))


def test_decoder_reader_errors_name_the_file(decoders: Decoders, h264: Path, tmp_path: Path) -> None:
    path = tmp_path / "note.mp4"
    with _open(decoders, path, of=h264) as reader, pytest.raises(StoredFileError):
        next(reader.read([0]))
    small = replace(SETTINGS, limits=LIMITS.model_copy(update={"max_upload_bytes": 100}))
    with _open(decoders, h264, small) as reader, pytest.raises(MediaLimitError, match=r"h264\.mp4"):
        next(reader.read([0]))
    path.write_text("no video")
    for waits_s in (0.0, 0.5):  # the file is rejected meanwhile
        with _open(decoders, path, of=h264) as reader, pytest.raises(MediaError, match=r"note\.mp4"):
            reader._start_decoder()
            time.sleep(waits_s)
            next(reader.read([0]))


def test_decoder_reader_killed_process_is_replaced(h264: Path) -> None:
    others = psutil.Process().children()
    with Decoders(DecoderConfig()) as decoders, _open(decoders, h264) as reader:
        numbers = []
        for planes in reader.read(range(60)):
            numbers.append(number_of(planes))
            if len(numbers) in (20, 40):
                (forkserver,) = [child for child in psutil.Process().children() if child not in others]
                wait_until(lambda forkserver=forkserver: bool(forkserver.children()))  # type: ignore[misc]  # it starts first
                doomed = [forkserver, *forkserver.children()] if len(numbers) == 20 else forkserver.children()
                doomed[0].kill()
                # A forkserver takes its decoders with it.
                wait_until(lambda doomed=doomed: not any(map(_is_alive, doomed)))  # type: ignore[misc]
        assert numbers == list(range(60))


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_decoder_reader_idle_decoder_ends_and_is_replaced(h264: Path) -> None:
    settings = replace(SETTINGS, decoder=DecoderConfig(idle_s=0.2))
    with Decoders(DecoderConfig()) as decoders, _open(decoders, h264, settings) as reader:
        assert [number_of(planes) for planes in reader.read([3, 4])] == [3, 4]
        wait_until(lambda: not _children())
        assert [number_of(planes) for planes in reader.read([5, 6])] == [5, 6]


def test_decoder_reader_slow_batch_times_out(decoders: Decoders, h264: Path) -> None:
    with _open(decoders, h264, replace(SETTINGS, timeout_s=0.0005)) as reader, pytest.raises(StageTimeoutError):
        list(reader.read(range(60)))


def test_decoder_reader_close_from_a_thread_cancels_the_read(decoders: Decoders, tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mp4", 120, size=(640, 360), gop=120, options={"preset": "ultrafast"})
    reader = _open(decoders, path)

    def close() -> None:
        time.sleep(0.1)
        reader.close()

    with ThreadPoolExecutor(1) as pool, pytest.raises(CancelledJobError):
        pool.submit(close)
        for _ in range(2000):  # takes minutes if it is not cancelled
            list(reader.read([119, 0]))
    with pytest.raises(CancelledJobError):
        next(reader.read([0]))


def test_decoder_reader_forty_leave_no_files(decoders: Decoders, h264: Path) -> None:
    with _open(decoders, h264) as reader:
        list(reader.read([0]))
        wait_until(lambda: len(_children()) == 1)  # those of other readers end
    before = os.listdir("/proc/self/fd")
    for number in range(40):
        with _open(decoders, h264) as reader:
            frames = reader.read(range(60))
            next(frames)
            if number % 2:
                del frames  # in the middle
    del reader
    gc.collect()
    wait_until(lambda: not _children())
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= len(before))


def test_decoder_reader_reuses_memory_of_freed_frames(decoders: Decoders, h264: Path) -> None:
    """And not before: frames that are held stay what they were."""

    def inodes() -> set[int]:
        return {inode for path, inode in _open_files() if "lipwright-frames" in path}

    with _open(decoders, h264) as reader:
        before = inodes()
        first = list(reader.read(range(10)))
        two = inodes() - before
        assert len(two) == 2, "ten frames are two batches"
        later = list(reader.read(range(10, 20)))
        assert len(inodes() - before) == 4, "nothing was free"
        del first
        again = list(reader.read(range(20, 30)))
        assert len(inodes() - before) == 4, "the first two were"
        assert [number_of(planes) for planes in (*later, *again)] == list(range(10, 30))


def _serve_too_many(channel: Channel) -> None:
    """What a decoder that was taken over may do: claim frames that nobody asked for, and send a file along."""
    channel.receive(60)
    with open("/dev/urandom", "rb") as file:
        channel.send(FrameBatch(65), file.fileno())


def test_decoder_reader_too_many_frames_raises(decoders: Decoders, h264: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Decoders.open
    monkeypatch.setattr(Decoders, "open", lambda of, run, path: opened(of, _serve_too_many, path))
    before = [path for path, _ in _open_files()].count("/dev/urandom")
    with _open(decoders, h264) as reader, pytest.raises(MediaError, match=r"h264\.mp4: .* invalid reply"):
        list(reader.read(range(3)))
    assert [path for path, _ in _open_files()].count("/dev/urandom") == before


def _open_files() -> list[tuple[str, int]]:
    """Target and inode of each file that this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # a file that is closed meanwhile
            path = f"/proc/self/fd/{name}"
            found.append((os.readlink(path), os.stat(path).st_ino))
    return found


def test_decoder_reader_memory_does_not_grow(decoders: Decoders, tmp_path: Path) -> None:
    path = write_video(tmp_path / "many.mp4", 100, size=(640, 480), options={"preset": "ultrafast"})
    settings = replace(SETTINGS, decoder=DecoderConfig(batch_bytes=2 * 1024**2))
    process = psutil.Process()
    with _open(decoders, path, settings) as reader:
        before, largest = process.memory_info().rss, 0
        for _ in reader.read(range(100)):  # 45 MB
            largest = max(largest, process.memory_info().rss)
    assert largest - before < 16 * 1024**2
