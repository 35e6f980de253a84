from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pysubs2
import pytest

from errors import MediaError, StoredFileError
from media.audio import extract_speech, num_output_frames, read_speech
from media.audio_parts import AudioPart
from media.probe import probe_video
from media.result.concat import concat_segments
from media.result.sound_mix import ResultSound
from media.subtitles.texts import ShownText
from media.writer import SegmentWriter
from tests.unit.media.bombs import write_loud_wav
from tests.unit.media.clips import LIMITS, decode_all, info_of, lag_seconds, noise, planes_of, write_audio, write_video


def _segments(folder: Path, lengths: list[int], fps: Fraction = Fraction(25), crf: int = 20) -> list[Path]:
    paths, number = [], 0
    for index, length in enumerate(lengths):
        writer = SegmentWriter(info_of(192, 128, fps), crf, "veryfast", 1 + index % 2)
        for _ in range(length):
            writer.write(planes_of(number, 192, 128))
            number += 1
        paths.append(folder / f"segment{index}.mp4")
        paths[-1].write_bytes(writer.finish())
    return paths


def _wav(folder: Path, seconds: float, rate: int, channels: int = 1) -> Path:
    samples = np.stack([noise(seconds, rate)] * channels)
    return write_audio(folder / "speech.wav", samples, rate, "pcm_s16le", sample_format="s16")


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(468, 25)])
def test_concat_frames_are_those_of_the_segments(tmp_path: Path, fps: Fraction) -> None:
    segments = _segments(tmp_path, [25, 1, 40, 2, 14], fps)
    audio = _wav(tmp_path, float(82 / fps) - 0.01, 24000)
    concat_segments(segments, ResultSound([AudioPart(audio)]), tmp_path / "out.mp4", info_of(192, 128, fps), 82)
    joined = decode_all(tmp_path / "out.mp4")
    separate = [flat for path in segments for _, flat in decode_all(path)]
    assert len(joined) == len(separate) == 82
    assert all(np.array_equal(flat, expected) for (_, flat), expected in zip(joined, separate, strict=True))
    steps = np.diff([pts for pts, _ in joined])
    assert joined[0][0] == 0 and (steps == steps[0]).all()
    info = probe_video(tmp_path / "out.mp4", LIMITS)
    assert (info.fps, info.num_frames) == (fps, 82)
    with av.open(tmp_path / "out.mp4") as container:
        dts = [packet.dts for packet in container.demux(video=0) if packet.size]
    assert all(a < b for a, b in zip(dts, dts[1:], strict=False))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("rate", "channels", "expected_rate"),
    [(44100, 2, 44100), (22050, 1, 22050), (24000, 1, 24000), (16000, 1, 16000), (8000, 1, 8000), (192000, 1, 48000)],
)
def test_concat_audio_keeps_rate_channels_and_sync(
    tmp_path: Path, rate: int, channels: int, expected_rate: int
) -> None:
    seconds = 2.37
    audio = _wav(tmp_path, seconds, rate, channels)
    num_frames = num_output_frames(extract_speech(audio, tmp_path / "s.npy", LIMITS).duration_seconds, Fraction(25))
    out = tmp_path / "out.mp4"
    concat_segments(
        _segments(tmp_path, [num_frames]), ResultSound([AudioPart(audio)]), out, info_of(192, 128), num_frames
    )
    info = extract_speech(out, tmp_path / "heard.npy", LIMITS)
    assert (info.codec, info.sample_rate, info.num_channels) == ("aac", expected_rate, channels)
    heard = read_speech(tmp_path / "heard.npy", 0, seconds)
    assert lag_seconds(heard, noise(seconds, 16000), 16000) == pytest.approx(0, abs=5e-4)
    with av.open(out) as container:
        ends = [float((s.start_time + s.duration) * s.time_base) for s in container.streams]  # type: ignore[operator]
    assert ends[0] == pytest.approx(num_frames / 25)
    assert 0 <= ends[0] - ends[1] < 1 / 25


def test_concat_without_sound_has_no_audio_track(tmp_path: Path) -> None:
    concat_segments(_segments(tmp_path, [5, 3]), None, tmp_path / "out.mp4", info_of(192, 128), 8)
    info = probe_video(tmp_path / "out.mp4", LIMITS)
    assert (info.num_frames, info.has_audio) == (8, False)


def test_concat_cuts_audio_to_the_video_and_writes_moov_first(tmp_path: Path) -> None:
    out, sound = tmp_path / "out.mp4", ResultSound([AudioPart(_wav(tmp_path, 3.0, 16000))])
    concat_segments(_segments(tmp_path, [25]), sound, out, info_of(192, 128), 25)
    assert extract_speech(out, tmp_path / "s.npy", LIMITS).duration_seconds == pytest.approx(1.0, abs=1e-3)
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_concat_wrong_count_or_settings_leaves_no_file(tmp_path: Path) -> None:
    segments, audio = _segments(tmp_path, [10, 10]), _wav(tmp_path, 0.8, 16000)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StoredFileError, match="Expected 21 frames in 2 segments, found 20"):
        concat_segments(segments, ResultSound([AudioPart(audio)]), tmp_path / "out.mp4", info_of(192, 128), 21)
    (tmp_path / "other").mkdir()
    other = write_video(tmp_path / "other" / "other.mp4", 10)
    with pytest.raises(StoredFileError, match=r"other\.mp4: expected the encoder settings"):
        concat_segments(
            [segments[0], other], ResultSound([AudioPart(audio)]), tmp_path / "out.mp4", info_of(192, 128), 20
        )
    with pytest.raises(MediaError, match="audio track"):
        concat_segments(segments, ResultSound([AudioPart(segments[0])]), tmp_path / "out.mp4", info_of(192, 128), 20)
    assert sorted(path for path in tmp_path.iterdir() if path.name != "other") == before


@pytest.mark.parametrize("value", [1e308, 1e30, float("inf"), float("nan")])
def test_concat_audio_with_infinite_samples_succeeds(tmp_path: Path, value: float) -> None:
    audio = write_loud_wav(tmp_path / "loud.wav", value)
    concat_segments(
        _segments(tmp_path, [12]), ResultSound([AudioPart(audio)]), tmp_path / "out.mp4", info_of(192, 128), 12
    )
    extract_speech(tmp_path / "out.mp4", tmp_path / "s.npy", LIMITS)
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
        concat_segments(segments, ResultSound([AudioPart(audio)]), tmp_path / "out.mp4", info_of(192, 128), 24)
    assert str(tmp_path) not in str(caught.value)
    assert not (tmp_path / "out.mp4").exists()


TEXTS = [
    ShownText(0.5, 1.25, "Grüße\n你好"),
    ShownText(1.25, 1.5, "b"),
    ShownText(2, 9, "to the end"),
    ShownText(8, 9, "c"),
]


def _result(folder: Path, texts: list[ShownText], language: str | None = None) -> Path:
    info = info_of(192, 128, Fraction(25))
    segment, out = folder / "segment.mp4", folder / "out.mp4"
    if not segment.exists():  # x264 does not always make the same of the same pictures
        writer = SegmentWriter(info, 20, "veryfast", 1)
        for number in range(75):
            writer.write(planes_of(number, 192, 128))
        segment.write_bytes(writer.finish())
    speech = write_audio(folder / "a.wav", noise(3, 48000)[None], 48000, "pcm_s16le", sample_format="s16")
    concat_segments([segment], ResultSound([AudioPart(speech)], language=language), out, info, 75, texts=texts)
    return out


def test_concat_text_track_has_times_and_texts(tmp_path: Path) -> None:
    out = _result(tmp_path, TEXTS)
    with av.open(str(out)) as file:
        (track,) = file.streams.subtitles
        packets = [(each.pts, each.duration, bytes(each)[2:]) for each in file.demux(track) if each.size > 2]
        assert track.codec_context.name == "mov_text"
    assert packets == [(500, 750, "Grüße\n你好".encode()), (1250, 250, b"b"), (2000, 1000, b"to the end")]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(out), "-map", "0:s", "-f", "srt", "-"]
    srt = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    found = [(event.start, event.end, event.plaintext) for event in pysubs2.SSAFile.from_string(srt)]
    assert found == [(500, 1250, "Grüße\n你好"), (1250, 1500, "b"), (2000, 3000, "to the end")]


@pytest.mark.parametrize(("language", "tag"), [("deu", "deu"), (None, "und")])
def test_concat_language_marks_audio_and_texts(tmp_path: Path, language: str | None, tag: str) -> None:
    with av.open(str(_result(tmp_path, TEXTS, language))) as file:
        found = [stream.language for stream in (*file.streams.audio, *file.streams.subtitles)]
    assert found == [tag, tag]


def test_concat_texts_change_no_frame_and_none_adds_no_track(tmp_path: Path) -> None:
    with_track, path = decode_all(_result(tmp_path, TEXTS)), _result(tmp_path, [])
    without = decode_all(path)
    assert [pts for pts, _ in with_track] == [pts for pts, _ in without]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(with_track, without, strict=True))
    with av.open(str(path)) as file:
        assert not file.streams.subtitles
