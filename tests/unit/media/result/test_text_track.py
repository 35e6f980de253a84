"""Subtitles as a text track of the result, read back by FFmpeg and by pysubs2."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pysubs2
import pytest

from media.audio_parts import AudioPart
from media.result.concat import concat_segments
from media.result.sound_mix import ResultSound
from media.subtitles.texts import ShownText
from media.writer import SegmentWriter
from tests.unit.media.clips import decode_all, info_of, noise, planes_of, write_audio

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
