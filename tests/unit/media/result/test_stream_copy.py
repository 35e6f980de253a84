"""Parts of a source that are copied into a result, between parts that are encoded."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from config import MediaLimits
from errors import MediaError
from media.audio import extract_speech
from media.audio_parts import AudioPart
from media.output.formats import Quality
from media.preview import LivePreview, finished_preview
from media.probe import VideoInfo, probe_video
from media.result.concat import concat_segments
from media.result.sound_mix import ResultSound
from media.result.stream_copy import IN_BAND_TAG, copied_ranges, copy_segment, copyable_keys
from media.writer import SegmentWriter
from media.yuv_frame import plane_rows
from tests.unit.media.clips import noise, planes_of, write_audio

LIMITS = MediaLimits()
GROUP, NUM_FRAMES = 12, 60
FPS = Fraction(25)


def _source(path: Path, params: str = "", **options: str) -> Path:
    """A moving picture with B-frames, in closed groups of 12 frames unless `params` say otherwise."""
    with av.open(str(path), "w") as out:
        every = f"keyint={GROUP}:min-keyint={GROUP}:scenecut=0:open-gop=0:bframes=3{params}"
        stream = out.add_stream("libx264", rate=FPS, options={"x264-params": every, "crf": "12", **options})
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        for number in range(NUM_FRAMES):
            planes = planes_of(number, 192, 128)
            frame = av.VideoFrame(192, 128, "yuv420p")
            for plane, values in zip(frame.planes, planes, strict=True):
                plane_rows(plane)[:, : plane.width] = values
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _frames(path: Path, start_seconds: float = 0.0) -> NDArray[np.uint8]:
    with av.open(str(path)) as container:
        if start_seconds:
            container.seek(round(start_seconds * av.time_base))
        return np.stack([frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)])


def _packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]


@pytest.fixture(params=["mp4", "mkv"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return _source(tmp_path / f"source.{request.param}")


def _encoded(path: Path, info: VideoInfo, start: int, stop: int, quality: Quality = "balanced") -> Path:
    writer = SegmentWriter(info, 20, "superfast", quality=quality, in_band_headers=True)
    for number in range(start, stop):
        writer.write(planes_of(255 - number, 192, 128))
    path.write_bytes(writer.finish())
    return path


def _preview(folder: Path, segments: list[Path], sound: Path) -> Path:
    extract_speech(sound, folder / "speech.npy", LIMITS)
    preview, path = LivePreview(segments[0], folder / "speech.npy"), folder / "preview.mp4"
    pieces = [piece for segment in segments for piece in preview.add_segment(segment)]
    path.write_bytes(b"".join([*pieces, *preview.end()]))
    return path


def _finished_preview(folder: Path, result: Path) -> Path:
    path = folder / "finished.mp4"
    path.write_bytes(b"".join(piece for _, piece in finished_preview(result)))
    return path


def test_copyable_keys_are_those_of_closed_groups(source: Path) -> None:
    info = probe_video(source, LIMITS)
    assert copyable_keys(source, info, LIMITS) == [0, 12, 24, 36, 48, 60]


def test_copy_segment_packets_equal_the_source(source: Path, tmp_path: Path) -> None:
    info, out = probe_video(source, LIMITS), tmp_path / "copy.mp4"
    copy_segment(source, out, info, 12, 36, LIMITS)
    mine, theirs = _packets(out), _packets(source)[12:36]
    assert mine[0].endswith(theirs[0]) and len(mine[0]) > len(theirs[0]), "the parameter sets come first"
    assert mine[1:] == theirs[1:]
    np.testing.assert_array_equal(_frames(out), _frames(source)[12:36])


@pytest.mark.parametrize(
    ("order", "quality"),
    [("encoded first", "balanced"), ("copy first", "balanced"), ("encoded first", "fast"), ("copy first", "best")],
)
def test_concat_copied_and_encoded_segments_plays(source: Path, order: str, quality: Quality, tmp_path: Path) -> None:
    info = probe_video(source, LIMITS)
    copies = [(12, 24), (24, 48)] if order == "encoded first" else [(0, 24), (36, 60)]
    edges = sorted({0, NUM_FRAMES, *(edge for copy in copies for edge in copy)})
    segments = []
    for start, stop in zip(edges, edges[1:], strict=False):
        path = tmp_path / f"{start}.mp4"
        if (start, stop) in copies:
            copy_segment(source, path, info, start, stop, LIMITS)
        else:
            _encoded(path, info, start, stop, quality)
        segments.append(path)
    sound = write_audio(tmp_path / "a.wav", noise(2.4, 16000)[None], 16000, "pcm_s16le", sample_format="s16")
    out = tmp_path / "out.mp4"
    concat_segments(segments, ResultSound([AudioPart(sound)]), out, info, NUM_FRAMES)
    with av.open(str(out)) as container:
        video = container.streams.video[0]
        assert (video.frames, video.codec_context.codec_tag) == (NUM_FRAMES, IN_BAND_TAG)
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(NUM_FRAMES) / 25, atol=1e-4)
    shown, own = _frames(out), _frames(source)
    for start, stop in copies:
        np.testing.assert_array_equal(shown[start:stop], own[start:stop])
    np.testing.assert_array_equal(_frames(_preview(tmp_path, segments, sound)), shown)
    np.testing.assert_array_equal(_frames(_finished_preview(tmp_path, out)), shown)
    for start, stop in zip(edges, edges[1:], strict=False):
        np.testing.assert_array_equal(_frames(out, start / 25)[-(NUM_FRAMES - start) :], shown[start:])
        if (start, stop) not in copies:
            expected = np.stack([planes_of(255 - number, 192, 128).y for number in range(start, stop)])
            assert np.abs(shown[start:stop, :128].astype(int) - expected).mean() < 4


@pytest.mark.parametrize(
    "params", [":open-gop=1", ":open-gop=0:intra-refresh=1"], ids=["groups that need the one before", "no key frames"]
)
def test_copyable_keys_exclude_open_groups(params: str, tmp_path: Path) -> None:
    source = _source(tmp_path / "source.mp4", params)
    assert copyable_keys(source, probe_video(source, LIMITS), LIMITS) == [0, NUM_FRAMES]


@pytest.mark.parametrize("name", ["source.ts", "source.avi"])
def test_copyable_keys_of_other_containers_are_empty(name: str, tmp_path: Path) -> None:
    source = _source(tmp_path / name)
    assert copyable_keys(source, probe_video(source, LIMITS), LIMITS) == []


def test_copy_segment_beyond_the_end_is_an_error(source: Path, tmp_path: Path) -> None:
    info = probe_video(source, LIMITS)
    with pytest.raises(MediaError, match=r"source\.\w+: expected 24 frames from frame 48 on, found 12"):
        copy_segment(source, tmp_path / "copy.mp4", info, 48, 72, LIMITS)


def test_copied_ranges_are_whole_groups() -> None:
    keys = [0, 12, 24, 36, 48, 60]
    assert copied_ranges(keys, [(5, 40), (45, 60)], 1000) == [(12, 36), (48, 60)]
    assert copied_ranges(keys, [(0, 60)], 30) == [(0, 24), (24, 48), (48, 60)]
    assert copied_ranges(keys, [(0, 60)], 5) == [(0, 12), (12, 24), (24, 36), (36, 48), (48, 60)]
    assert copied_ranges(keys, [(13, 23), (25, 35)], 30) == []
    assert copied_ranges([], [(0, 60)], 30) == []
