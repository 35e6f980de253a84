from __future__ import annotations

import random
import subprocess
import weakref
from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

from lipwright.config import MediaLimits
from lipwright.errors import MediaLimitError
from lipwright.media.audio import extract_speech
from lipwright.media.forward_decoder import ForwardDecoder
from lipwright.media.frame_table import frame_table
from lipwright.media.probe import probe_video
from lipwright.media.reader import FrameReader
from tests.unit.media.clips import LIMITS, decode_all, number_of, picture, read_frames, write_still, write_video

FRAME_BYTES = 192 * 128 * 3 // 2
X265, VP9 = {"x265-params": "log-level=none:pools=1"}, {"deadline": "realtime", "cpu-used": "8"}
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "hevc": ("mp4", {"codec": "libx265", "options": X265}),
    "hevc-10-bit": ("mp4", {"codec": "libx265", "pixel_format": "yuv420p10le", "options": X265}),
    "vp9-odd": ("webm", {"codec": "libvpx-vp9", "size": (255, 133), "options": VP9}),
    "444-odd": ("mp4", {"pixel_format": "yuv444p", "size": (255, 133)}),
    "422-10-bit": ("mkv", {"pixel_format": "yuv422p10le"}),
    "av1": ("mp4", {"codec": "libsvtav1", "options": {"preset": "10", "svtav1-params": "lp=1"}}),
    "rotated-90": ("mp4", {"rotation": 90}),
    "rotated-180": ("mp4", {"rotation": 180}),
    "rotated-270": ("mp4", {"rotation": -90}),
    "full-range": ("mp4", {"tags": {"color_range": 2}}),
    "transport-stream": ("ts", {}),
    "avi-b-frames": ("avi", {}),
    "mjpeg": ("avi", {"codec": "mjpeg", "pixel_format": "yuvj420p", "options": {"qmin": "2", "qmax": "2"}}),
    "prores": ("mov", {"codec": "prores_ks", "pixel_format": "yuv422p10le"}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_reader_any_order_gives_the_upright_frames(tmp_path: Path, name: str) -> None:
    suffix, options = FORMATS[name]
    path = write_video(tmp_path / f"v.{suffix}", 24, **options)
    info = probe_video(path, LIMITS)
    size = options.get("size", (192, 128))
    assert (info.width, info.height) == (size[0] & ~1, size[1] & ~1)
    order = [*range(24), *range(23, -1, -1), *random.Random(3).sample(range(24), 24), 7, 7]
    with FrameReader(path, info, 6 * info.width * info.height) as reader:
        for index, planes in zip(order, reader.read(order), strict=True):
            assert number_of(planes) == index
            # Neither range, matrix nor sampling may shift the picture: Cb 100, Cr 150 went in.
            expected = picture(index, *size)[: info.height, : info.width]
            if not name.startswith("mjpeg"):
                assert abs(float(planes.y.mean()) - float(expected.mean())) < 1.5
                assert abs(float(planes.u.mean()) - 100) < 1.5 and abs(float(planes.v.mean()) - 150) < 1.5
            assert np.abs(planes.y.astype(int) - expected).mean() < 8


@pytest.mark.parametrize(("codec", "pixel_format"), [("gif", "rgb8"), ("apng", "rgb24")])
def test_reader_animated_picture_has_all_frames(tmp_path: Path, codec: str, pixel_format: str) -> None:
    options: dict[str, Any] = {"pixel_format": pixel_format, "fps": Fraction(10), "container_format": codec}
    path = write_video(tmp_path / "a.png", 12, codec=codec, **options)
    info = probe_video(path, LIMITS)
    assert (info.num_frames, info.fps, info.is_still) == (12, Fraction(10), False)
    order = [*range(12), *random.Random(3).sample(range(12), 12)]
    assert [number_of(planes) for planes in read_frames(path, order)] == order


def test_reader_frames_equal_a_plain_decode(long_gop: Path) -> None:
    info = probe_video(long_gop, LIMITS)
    plain = [flat for _, flat in decode_all(long_gop)]
    order = [*range(0, 120, 9), *range(119, -1, -1), *random.Random(5).sample(range(120), 40)]
    for num_threads in (1, 3):
        with FrameReader(long_gop, info, 20 * FRAME_BYTES, num_threads) as reader:
            for index, planes in zip(order, reader.read(order), strict=True):
                assert np.array_equal(planes.y, plain[index][:128])
                assert not planes.y.flags.owndata and not planes.y.flags.writeable


def _watch(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """The frames that are sought (`seek`) or decoded (`step`) from now on."""
    seen: list[int] = []
    plain = getattr(ForwardDecoder, name)

    def watched(decoder: ForwardDecoder, *frames: int, **options: int) -> Any:
        made = plain(decoder, *frames, **options)
        seen.extend(frames[:1] if name == "seek" else made[:1] if made else ())
        return made

    monkeypatch.setattr(ForwardDecoder, name, watched)
    return seen


def test_reader_ascending_reads_do_not_seek(h264: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = probe_video(h264, LIMITS)
    with FrameReader(h264, info, 0) as reader:
        seeks = _watch(monkeypatch, "seek")
        for start in range(0, 60, 10):
            part = range(start, start + 10)
            assert [number_of(planes) for planes in reader.read(part)] == list(part)
        assert seeks == []
        assert number_of(next(reader.read([3]))) == 3
        assert seeks == [3]
        assert number_of(next(reader.read([50]))) == 50
        assert seeks == [3, 50]


def test_reader_clips_of_a_long_video_are_decoded_once(long_gop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, decoded = probe_video(long_gop, LIMITS), _watch(monkeypatch, "step")
    clips = [*range(5, 25), *range(60, 80), *range(100, 110)]
    with FrameReader(long_gop, info, 50 * FRAME_BYTES) as reader:
        for number in range(6):
            assert [number_of(planes) for planes in reader.read(clips)] == clips
            assert len(reader._kept) <= 50
            if number == 1:
                decoded.clear()
        assert decoded == [], "what both clips show is kept"
        assert [number_of(planes) for planes in reader.read(range(120))] == list(range(120))
        assert len(reader._kept) <= 50


def test_reader_video_that_fits_is_decoded_once(h264: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any order: forward and backward, in a loop, and from the middle."""
    info, decoded = probe_video(h264, LIMITS), _watch(monkeypatch, "step")
    order = [*range(60), *range(58, 0, -1), *range(60), *random.Random(7).sample(range(60), 60)]
    for num_kept in (60, 59):
        decoded.clear()
        with FrameReader(h264, info, num_kept * FRAME_BYTES) as reader:
            assert [number_of(planes) for planes in reader.read(order)] == order
        assert decoded == list(range(60)) if num_kept == 60 else len(decoded) > 120


def test_reader_descending_decodes_a_group_once(long_gop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, seeks, order = probe_video(long_gop, LIMITS), _watch(monkeypatch, "seek"), [*range(119, -1, -1)]
    for num_kept, num_seeks in ((119, 1), (30, 4)):
        seeks.clear()
        with FrameReader(long_gop, info, num_kept * FRAME_BYTES) as reader:
            assert [number_of(planes) for planes in reader.read(order)] == order
            assert len(reader._kept) <= num_kept
        assert num_seeks <= len(seeks) <= num_seeks + 1


def test_reader_descending_frees_passed_frames(long_gop: Path) -> None:
    info = probe_video(long_gop, LIMITS)
    with FrameReader(long_gop, info, 119 * FRAME_BYTES) as reader:
        seen = [weakref.ref(planes.y) for planes in reader.read(range(60, 50, -1))]
        assert [view() is not None for view in seen] == [False] * 9 + [True]


def test_reader_variable_rate_reads_the_nearest_frame(variable: Path) -> None:
    info = probe_video(variable, LIMITS)
    assert (info.is_variable_rate, info.fps, info.num_frames) == (True, Fraction(50, 3), 40)
    times = np.array([40 * k for k in range(20)] + [800 + 80 * k for k in range(20)]) / 1000
    for index, planes in enumerate(read_frames(variable)):
        target = float(index / info.fps)
        assert abs(times[number_of(planes)] - target) == pytest.approx(np.abs(times - target).min(), abs=1e-6)


@pytest.mark.parametrize("start_seconds", [0, 5])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_reader_late_picture_stays_with_its_sound(tmp_path: Path, suffix: str, start_seconds: int) -> None:
    late = write_video(tmp_path / "late.mp4", 24, pts=range(13, 37), audio_seconds=1.5)
    path = tmp_path / f"v.{suffix}"
    options = ("-i", late, "-c", "copy", "-output_ts_offset", str(start_seconds), path)
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *options], check=True)
    assert [number_of(planes) for planes in read_frames(path)] == [*[0] * 13, *range(24)]
    assert extract_speech(path, tmp_path / "s.npy", LIMITS).duration_seconds == pytest.approx(1.5, abs=0.05)


def test_reader_still_repeats_its_frame(tmp_path: Path) -> None:
    first, second = read_frames(write_still(tmp_path / "a.png", "png", "rgb24"), [0, 0])
    assert number_of(first) == number_of(second) == 7
    # BT.709, limited range: the picture's own Cb and Cr came through BT.601 on their way to RGB.
    assert abs(float(first.y.mean()) - float(picture(7, 192, 128).mean())) < 3


def test_reader_change_of_size_is_scaled_within_the_limit(tmp_path: Path) -> None:
    def joined(large: int) -> Path:
        parts = [write_video(tmp_path / f"{n}.ts", 12, size=(96 * n, 64 * n)) for n in (2, large)]
        (tmp_path / "both.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
        return tmp_path / "both.ts"

    frames = read_frames(joined(4))
    assert {planes.y.shape for planes in frames} == {(128, 192)}
    assert [number_of(planes) for planes in frames] == [*range(12), *range(12)]
    limits = MediaLimits(max_pixels=500_000)
    info = probe_video(both := joined(16), limits)
    with FrameReader(both, info, 0, limits=limits) as reader, pytest.raises(MediaLimitError, match=r"both\.ts"):
        list(reader.read(range(info.num_frames)))


def test_reader_damaged_video_keeps_frame_numbers(long_gop: Path, tmp_path: Path) -> None:
    content = bytearray(long_gop.read_bytes())
    middle = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 3
    content[middle : middle + 400] = bytes(400)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    frames = read_frames(path, [0, 1, 2, 119, 60, 118])
    assert [number_of(planes) for planes in frames[:3]] == [0, 1, 2]
    assert len(frames) == 6


def test_reader_truncated_video_ends_with_its_last_frame(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", 48, gop=250).read_bytes()
    # The sample table, at the end, still lists all frames; the bytes of the last third are zeros.
    cut_at, moov, path = len(whole) * 2 // 3, whole.index(b"moov"), tmp_path / "cut.mp4"
    path.write_bytes(whole[:cut_at] + bytes(moov - cut_at) + whole[moov:])
    assert [number_of(planes) for planes in read_frames(path)[:20]] == list(range(20))


def test_frame_table_is_cached(h264: Path) -> None:
    table = frame_table(h264, LIMITS)
    assert table is frame_table(h264, LIMITS)
    assert table.keys.tolist() == [0, 12, 24, 36, 48]
    assert table.fps == Fraction(25) and table.timed
