from __future__ import annotations

import subprocess
import time
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pysubs2
import pytest
from numpy.typing import NDArray

from lipwright.errors import MediaError, StoredFileError
from lipwright.media.audio import extract_speech, num_output_frames
from lipwright.media.audio_parts import AudioPart
from lipwright.media.output.formats import Quality
from lipwright.media.preview import LivePreview, finished_preview
from lipwright.media.probe import VideoInfo, probe_video
from lipwright.media.result.concat import concat_segments
from lipwright.media.result.sound_mix import ResultSound
from lipwright.media.result.stream_copy import IN_BAND_TAG, copied_ranges, copy_segment, copyable_keys
from lipwright.media.subtitles.texts import ShownText
from lipwright.media.writer import SegmentWriter
from tests.unit.media.clips import (
    LIMITS,
    decode_all,
    info_of,
    lag_seconds,
    noise,
    planes_of,
    read_speech,
    write_audio,
    write_loud_wav,
    write_segment,
    write_video,
)

INFO = info_of(192, 128)


def _segments(folder: Path, lengths: list[int], info: VideoInfo = INFO) -> list[Path]:
    edges = [sum(lengths[:n]) for n in range(len(lengths) + 1)]
    writers = [SegmentWriter(info, 20, "veryfast", 1 + n % 2) for n in range(len(lengths))]
    return [write_segment(folder / f"{n}.mp4", range(*edges[n : n + 2]), writer) for n, writer in enumerate(writers)]


def _join(segments: list[Path], audio: Path, num_frames: int, info: VideoInfo = INFO) -> Path:
    out = segments[0].parent / "out.mp4"
    concat_segments(segments, ResultSound([AudioPart(audio)]), out, info, num_frames)
    return out


def _wav(folder: Path, seconds: float, rate: int, channels: int = 1) -> Path:
    samples = np.stack([noise(seconds, rate)] * channels)
    return write_audio(folder / "speech.wav", samples, rate, "pcm_s16le", sample_format="s16")


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(468, 25)])
def test_concat_frames_are_those_of_the_segments(tmp_path: Path, fps: Fraction) -> None:
    segments = _segments(tmp_path, [25, 1, 40, 2, 14], info_of(192, 128, fps))
    out = _join(segments, _wav(tmp_path, float(82 / fps) - 0.01, 24000), 82, info_of(192, 128, fps))
    joined = decode_all(out)
    separate = [flat for path in segments for _, flat in decode_all(path)]
    assert len(joined) == len(separate) == 82
    assert all(np.array_equal(flat, expected) for (_, flat), expected in zip(joined, separate, strict=True))
    assert joined[0][0] == 0 and len(set(np.diff([pts for pts, _ in joined]))) == 1
    info = probe_video(out, LIMITS)
    assert (info.fps, info.num_frames) == (fps, 82)
    with av.open(out) as container:
        dts = [packet.dts for packet in container.demux(video=0) if packet.size]
    assert all(a < b for a, b in zip(dts, dts[1:], strict=False))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("rate", "channels", "expected_rate"),
    [(44100, 2, 44100), (22050, 1, 22050), (24000, 1, 24000), (16000, 1, 16000), (8000, 1, 8000), (192000, 1, 48000)],
)
def test_concat_audio_keeps_rate_channels_sync(tmp_path: Path, rate: int, channels: int, expected_rate: int) -> None:
    seconds = 2.37
    audio = _wav(tmp_path, seconds, rate, channels)
    num_frames = num_output_frames(extract_speech(audio, tmp_path / "s.npy", LIMITS).duration_seconds, Fraction(25))
    out = _join(_segments(tmp_path, [num_frames]), audio, num_frames)
    info = extract_speech(out, tmp_path / "heard.npy", LIMITS)
    assert (info.codec, info.sample_rate, info.num_channels) == ("aac", expected_rate, channels)
    heard = read_speech(tmp_path / "heard.npy", 0, seconds)
    assert lag_seconds(heard, noise(seconds, 16000), 16000) == pytest.approx(0, abs=5e-4)
    with av.open(out) as container:
        ends = [float((s.start_time + s.duration) * s.time_base) for s in container.streams]  # type: ignore[operator]
    assert ends[0] == pytest.approx(num_frames / 25)
    assert 0 <= ends[0] - ends[1] < 1 / 25


def test_concat_without_sound_has_no_audio_track(tmp_path: Path) -> None:
    concat_segments(_segments(tmp_path, [5, 3]), None, tmp_path / "out.mp4", INFO, 8)
    info = probe_video(tmp_path / "out.mp4", LIMITS)
    assert (info.num_frames, info.has_audio) == (8, False)


def test_concat_cuts_audio_to_the_video_and_writes_moov_first(tmp_path: Path) -> None:
    out = _join(_segments(tmp_path, [25]), _wav(tmp_path, 3.0, 16000), 25)
    assert extract_speech(out, tmp_path / "s.npy", LIMITS).duration_seconds == pytest.approx(1.0, abs=1e-3)
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_concat_wrong_count_or_settings_leaves_no_file(tmp_path: Path) -> None:
    segments, audio = _segments(tmp_path, [10, 10]), _wav(tmp_path, 0.8, 16000)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StoredFileError, match="Expected 21 frames in 2 segments, found 20"):
        _join(segments, audio, 21)
    with pytest.raises(MediaError, match="audio track"):
        _join(segments, segments[0], 20)
    write_video(segments[1], 10)
    with pytest.raises(StoredFileError, match=r"1\.mp4: expected the encoder settings"):
        _join(segments, audio, 20)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("value", [1e308, 1e30, float("inf"), float("nan")])
def test_concat_audio_with_infinite_samples_succeeds(tmp_path: Path, value: float) -> None:
    out = _join(_segments(tmp_path, [12]), write_loud_wav(tmp_path / "loud.wav", value), 12)
    extract_speech(out, tmp_path / "s.npy", LIMITS)
    heard = read_speech(tmp_path / "s.npy", 0.0, 0.48)
    assert lag_seconds(heard, noise(0.5, 16000), 16000) == pytest.approx(0, abs=1e-3)
    assert heard.std() == pytest.approx(noise(0.48, 16000).std(), rel=0.15)


@pytest.mark.parametrize("damage", ["gone", "cut", "emptied", "another"])
@pytest.mark.parametrize("number", [0, 1])
def test_concat_damaged_segment_is_a_stored_file_error(tmp_path: Path, damage: str, number: int) -> None:
    segments, audio = _segments(tmp_path, [12, 12]), _wav(tmp_path, 0.9, 16000)
    path = segments[number]
    if damage == "gone":
        path.unlink()
    else:
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[: len(whole) // 2], "emptied": b"", "another": audio.read_bytes()}[damage])
    with pytest.raises(StoredFileError) as caught:
        _join(segments, audio, 24)
    assert str(tmp_path) not in str(caught.value)
    assert not (tmp_path / "out.mp4").exists()


TEXTS = [ShownText(*t) for t in ((0.5, 1.25, "Grüße\n你好"), (1.25, 1.5, "b"), (2, 9, "the end"), (8, 9, "c"))]


def _result(folder: Path, texts: list[ShownText], language: str | None = None) -> Path:
    segment, out = folder / "segment.mp4", folder / "out.mp4"
    if not segment.exists():  # x264 does not always make the same of the same pictures
        write_segment(segment, range(75), SegmentWriter(INFO, 20, "veryfast", 1))
    sound = ResultSound([AudioPart(_wav(folder, 3, 48000))], language=language)
    concat_segments([segment], sound, out, INFO, 75, texts=texts)
    return out


def test_concat_text_track_has_times_and_texts(tmp_path: Path) -> None:
    out = _result(tmp_path, TEXTS, "deu")
    with av.open(str(out)) as file:
        (track,) = file.streams.subtitles
        assert [file.streams.audio[0].language, track.language] == ["deu", "deu"]
        packets = [(each.pts, each.duration, bytes(each)[2:]) for each in file.demux(track) if each.size > 2]
        assert track.codec_context.name == "mov_text"
    assert packets == [(500, 750, "Grüße\n你好".encode()), (1250, 250, b"b"), (2000, 1000, b"the end")]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(out), "-map", "0:s", "-f", "srt", "-"]
    srt = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    found = [(event.start, event.end, event.plaintext) for event in pysubs2.SSAFile.from_string(srt)]
    assert found == [(500, 1250, "Grüße\n你好"), (1250, 1500, "b"), (2000, 3000, "the end")]


def test_concat_texts_change_no_frame_and_none_adds_no_track(tmp_path: Path) -> None:
    with_track, path = decode_all(_result(tmp_path, TEXTS)), _result(tmp_path, [])
    without = decode_all(path)
    assert [pts for pts, _ in with_track] == [pts for pts, _ in without]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(with_track, without, strict=True))
    with av.open(str(path)) as file:
        assert not file.streams.subtitles and file.streams.audio[0].language == "und"


GROUP, NUM_FRAMES = 12, 60


def _source(path: Path, params: str = "") -> Path:
    """A moving picture with B-frames, in closed groups of 12 frames unless `params` say otherwise."""
    every = f"keyint={GROUP}:min-keyint={GROUP}:scenecut=0:open-gop=0:bframes=3{params}"
    return write_video(path, NUM_FRAMES, options={"x264-params": every, "crf": "12"})


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


def test_copyable_keys_are_those_of_closed_groups(tmp_path: Path) -> None:
    closed, ends = [*range(0, NUM_FRAMES + 1, GROUP)], [0, NUM_FRAMES]
    of_params = {("mp4", ""): closed, ("mkv", ""): closed, ("ts", ""): [], ("avi", ""): []}
    of_params |= {("mp4", ":open-gop=1"): ends, ("mp4", ":intra-refresh=1"): ends}
    for (suffix, params), keys in of_params.items():
        source = _source(tmp_path / f"source.{suffix}", params)
        found = copyable_keys(source, probe_video(source, LIMITS), LIMITS)
        assert np.frombuffer(found, np.int64).tolist() == keys, (suffix, params)


def test_copy_segment_packets_equal_the_source(source: Path, tmp_path: Path) -> None:
    info, out = probe_video(source, LIMITS), tmp_path / "copy.mp4"
    copy_segment(source, out, info, 12, 36, LIMITS)
    mine, theirs = _packets(out), _packets(source)[12:36]
    assert mine[0].endswith(theirs[0]) and len(mine[0]) > len(theirs[0]), "the parameter sets come first"
    assert mine[1:] == theirs[1:]
    np.testing.assert_array_equal(_frames(out), _frames(source)[12:36])
    with pytest.raises(MediaError, match=r"source\.\w+: expected 24 frames from frame 48 on, found 12"):
        copy_segment(source, out, info, 48, 72, LIMITS)


ENCODED_FIRST, COPY_FIRST = [(12, 24), (24, 48)], [(0, 24), (36, 60)]


@pytest.mark.parametrize(
    ("copies", "quality"), [(ENCODED_FIRST, "balanced"), (ENCODED_FIRST, "fast"), (COPY_FIRST, "best")]
)
def test_concat_copied_and_encoded_segments_plays(
    source: Path, copies: list[tuple[int, int]], quality: Quality, tmp_path: Path
) -> None:
    info = probe_video(source, LIMITS)
    edges = sorted({0, NUM_FRAMES, *(edge for copy in copies for edge in copy)})
    segments = []
    for start, stop in zip(edges, edges[1:], strict=False):
        segments.append(tmp_path / f"{start}.mp4")
        if (start, stop) in copies:
            copy_segment(source, segments[-1], info, start, stop, LIMITS)
        else:
            writer = SegmentWriter(info, 20, "superfast", quality=quality, in_band_headers=True)
            write_segment(segments[-1], range(255 - start, 255 - stop, -1), writer)
    sound = _wav(tmp_path, 2.4, 16000)
    out = _join(segments, sound, NUM_FRAMES, info)
    with av.open(str(out)) as container:
        video = container.streams.video[0]
        assert (video.frames, video.codec_context.codec_tag) == (NUM_FRAMES, IN_BAND_TAG)
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(NUM_FRAMES) / 25, atol=1e-4)
    shown, own = _frames(out), _frames(source)
    for start, stop in copies:
        np.testing.assert_array_equal(shown[start:stop], own[start:stop])
    extract_speech(sound, tmp_path / "speech.npy", LIMITS)
    live = LivePreview(segments[0], tmp_path / "speech.npy")
    pieces = [piece for segment in segments for piece in live.add_segment(segment)]
    (tmp_path / "preview.mp4").write_bytes(b"".join([*pieces, *live.end()]))
    (tmp_path / "finished.mp4").write_bytes(b"".join(piece for _, piece in finished_preview(out)))
    for name in ("preview.mp4", "finished.mp4"):
        np.testing.assert_array_equal(_frames(tmp_path / name), shown)
    for start, stop in zip(edges, edges[1:], strict=False):
        np.testing.assert_array_equal(_frames(out, start / 25)[-(NUM_FRAMES - start) :], shown[start:])
        if (start, stop) not in copies:
            expected = np.stack([planes_of(255 - number, 192, 128).y for number in range(start, stop)])
            assert np.abs(shown[start:stop, :128].astype(int) - expected).mean() < 4


def test_copied_ranges_are_whole_groups() -> None:
    keys = [0, 12, 24, 36, 48, 60]
    assert copied_ranges(keys, [(5, 40), (45, 60)], 1000) == [(12, 36), (48, 60)]
    assert copied_ranges(keys, [(0, 60)], 30) == [(0, 24), (24, 48), (48, 60)]
    assert copied_ranges(keys, [(0, 60)], 5) == [(0, 12), (12, 24), (24, 36), (36, 48), (48, 60)]
    assert copied_ranges(keys, [(13, 23), (25, 35)], 30) == []
    assert copied_ranges([], [(0, 60)], 30) == []
    started = time.process_time()
    copied_ranges(range(90_001), [(start, start + 20) for start in range(0, 90_000, 45)], 250)
    assert time.process_time() - started < 1
