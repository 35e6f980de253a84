from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import Packet
from av.video.stream import VideoStream

from lipwright.errors import ConfigError, MediaError
from lipwright.media.labels.watermark import FrameMark
from lipwright.media.output.formats import MP4, QUALITIES, Quality
from lipwright.media.probe import ColourTags, probe_video
from lipwright.media.self_test import (
    check_encoder,
    compare_pictures,
    missing_decoders,
    try_round_trip,
    unreadable_samples,
)
from lipwright.media.writer import SegmentWriter
from lipwright.media.yuv_frame import Patch, YuvFrame, cut, frame_planes, paste_back
from tests.unit.media.clips import LIMITS, info_of, number_of, planes_of, read_frames, write_segment


def _segment(path: Path, numbers: range, threads: int = 1, quality: Quality = "balanced", **changes: object) -> Path:
    info = info_of(192, 128, **changes)  # type: ignore[arg-type]
    return write_segment(path, numbers, SegmentWriter(info, 20, "veryfast", threads, quality=quality))


def _headers(path: Path) -> bytes | None:
    with av.open(path) as container:
        return container.streams.video[0].codec_context.extradata


def test_segment_writer_frames_read_back(tmp_path: Path) -> None:
    path = _segment(tmp_path / "s.mp4", range(30), fps=Fraction(30000, 1001))
    info = probe_video(path, LIMITS)
    assert (info.num_frames, info.fps, info.pixel_format) == (30, Fraction(30000, 1001), "yuv420p")
    assert [number_of(planes) for planes in read_frames(path)] == list(range(30))


@pytest.mark.parametrize("quality", QUALITIES)
def test_segment_headers_depend_on_settings_only(tmp_path: Path, quality: Quality) -> None:
    headers = {_headers(_segment(tmp_path / f"{n}.mp4", range(n, 2 * n), 1 + n % 2, quality)) for n in (1, 2, 40)}
    assert len(headers) == 1 and None not in headers
    assert _headers(_segment(tmp_path / "c.mp4", range(1), quality=quality, fps=Fraction(50))) not in headers


def test_segment_writer_qualities_differ_in_size_and_detail(tmp_path: Path) -> None:
    made: dict[Quality, tuple[int, float]] = {}
    pictures = [_grainy(number) for number in range(24)]
    for quality in QUALITIES:
        writer = SegmentWriter(info_of(192, 128), 20, "superfast", quality=quality)
        for picture in pictures:
            writer.write(picture)
        path = tmp_path / "s.mp4"
        path.write_bytes(writer.finish())
        errors = [np.mean((a.y.astype(float) - b.y) ** 2) for a, b in zip(read_frames(path), pictures, strict=True)]
        made[quality] = path.stat().st_size, float(np.mean(errors))
    assert made["best"][1] < 0.6 * made["balanced"][1] and made["best"][0] > made["balanced"][0]
    assert made["fast"][1] < 1.6 * made["balanced"][1] and made["fast"][0] < 1.6 * made["balanced"][0]


def _grainy(number: int) -> YuvFrame:
    planes, grain = planes_of(number, 192, 128), np.random.default_rng(number).normal(0, 3, (128, 192))
    return planes._replace(y=np.clip(planes.y + grain, 0, 255).astype(np.uint8))


def test_segment_starts_with_a_keyframe_and_has_b_frames(tmp_path: Path) -> None:
    packets = _packets(_segment(tmp_path / "s.mp4", range(40)))
    assert packets[0].is_keyframe and packets[0].pts == 0
    assert any((a.pts or 0) > (b.pts or 0) for a, b in zip(packets, packets[1:], strict=False))


def test_segment_max_gop_frames_limits_distance_of_keyframes(tmp_path: Path) -> None:
    writer = SegmentWriter(info_of(192, 128), 20, "veryfast", max_gop_frames=12)
    path = write_segment(tmp_path / "segment.mp4", range(60), writer)
    assert [number for number, packet in enumerate(_packets(path)) if packet.is_keyframe] == [0, 12, 24, 36, 48]
    assert b"cabac=0" in path.read_bytes(), "decoding is fast"


def _packets(path: Path) -> list[Packet[VideoStream]]:
    with av.open(path) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def test_segment_keeps_colour_tags_and_pixel_aspect(tmp_path: Path) -> None:
    colour = ColourTags(matrix=9, full_range=True, primaries=9, transfer=16)
    path = _segment(tmp_path / "s.mp4", range(3), colour=colour, sample_aspect_ratio=Fraction(16, 11))
    info = probe_video(path, LIMITS)
    assert info.colour == colour and info.sample_aspect_ratio == Fraction(16, 11)


def test_segment_writer_changes_nothing_outside_the_patch() -> None:
    seen: list[YuvFrame] = []

    class Spy(SegmentWriter):
        """Keeps what stands in the encoder's frame after each write."""

        def write(self, planes: YuvFrame, patches: Sequence[Patch] = (), marks: Iterable[FrameMark] = ()) -> None:
            super().write(planes, patches, marks)
            seen.append(YuvFrame(*(plane.copy() for plane in frame_planes(self._frame._frame))))

    writer = Spy(info_of(192, 128), 20, "ultrafast")
    source = planes_of(3, 192, 128)
    for plane in source:
        plane.flags.writeable = False
    patch = Patch(150, -10, YuvFrame(*(255 - plane for plane in cut(source, 150, -10, 64))))
    expected = YuvFrame(*(plane.copy() for plane in source))
    paste_back(expected, patch)
    writer.write(source, [patch])
    writer.write(source)
    assert all(np.array_equal(a, b) for a, b in zip(seen[0], expected, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(seen[1], source, strict=True))
    assert not np.array_equal(seen[0].y, source.y)


def test_segment_writer_wrong_shape_or_no_frame_is_refused() -> None:
    writer = SegmentWriter(info_of(192, 128), 20, "veryfast")
    with pytest.raises(ValueError, match=r"\(128, 192\)"):
        writer.write(planes_of(0, 128, 128))
    with pytest.raises(ValueError, match="at least one frame"):
        writer.finish()


def test_segment_writer_rotated_planes_are_upright(tmp_path: Path) -> None:
    writer, path = SegmentWriter(info_of(128, 192, rotation=90), 20, "veryfast"), tmp_path / "s.mp4"
    writer.write(YuvFrame(*(np.rot90(plane) for plane in planes_of(4, 192, 128))))
    path.write_bytes(writer.finish())
    found = probe_video(path, LIMITS)
    assert (found.width, found.height, found.rotation) == (128, 192, 0)


def test_self_test_passes_on_this_machine(tmp_path: Path) -> None:
    assert missing_decoders() == []
    assert missing_decoders("mov,no_such_format", ("h264", "no_such_codec")) == ["no_such_format", "no_such_codec"]
    assert unreadable_samples(tmp_path) == []
    assert {"sample.webm", "sample.ogg", "sample.mp3"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.needs_cuda
def test_check_encoder_nvenc_passes_on_a_gpu() -> None:
    import torch

    if any(name in torch.cuda.get_device_name() for name in ("A100", "H100", "H200")):
        pytest.skip("this GPU has no NVENC")
    check_encoder("nvenc")


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine may have NVENC")
def test_check_encoder_missing_nvenc_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"render\.encoder: nvenc does not work .* to x264"):
        check_encoder("nvenc")
    check_encoder("x264")


def test_check_encoder_unknown_encoder_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lipwright.media.self_test.MP4", replace(MP4, video_encoder="no_such_encoder"))
    with pytest.raises(ConfigError, match=r"nvenc does not work .*no_such_encoder"):
        check_encoder("nvenc")


def test_compare_pictures_other_frames_are_refused(tmp_path: Path) -> None:
    try_round_trip(tmp_path)
    out = tmp_path / "out.mp4"
    shown = read_frames(out)
    compare_pictures(out, shown)
    with pytest.raises(MediaError, match="Expected 5 frames, found 6"):
        compare_pictures(out, shown[:5])
    with pytest.raises(MediaError, match="Frame 0"):
        compare_pictures(out, shown[::-1])
    with pytest.raises(MediaError, match="audio"):
        compare_pictures(tmp_path / "segment.mp4", shown)
