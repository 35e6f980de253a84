"""Subtitle files, read back by two other parsers, and texts that follow each other."""

from __future__ import annotations

import io
from typing import Any

import av
import pysubs2
import pytest
from av.container import InputContainer

from media.subtitles.cues import Cue, read_cues
from media.subtitles.texts import ShownText, SubtitleFormat, shown_texts, subtitle_file

CUES = [
    Cue(0.48, 2.5, "Salt & <pepper>,\nsaid they --> all", "Anna\nBell"),
    Cue(3, 4.25, "Grüße\n\n你好", None),
    Cue(3661.007, 3662, "{\\an8} 1 < 2", "BOB"),
]
TIMES = [(480, 2500), (3000, 4250), (3661007, 3662000)]


def _of_ffmpeg(content: str, kind: str) -> list[tuple[int, int]]:
    with av.open(io.BytesIO(content.encode()), format={"srt": "srt", "vtt": "webvtt"}[kind]) as file:
        assert isinstance(file, InputContainer)
        packets: list[Any] = [packet for packet in file.demux(file.streams.subtitles[0]) if packet.size]
    return [(round(each.pts * each.time_base * 1000), round(each.duration * each.time_base * 1000)) for each in packets]


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitle_file_is_read_by_other_parsers(kind: SubtitleFormat) -> None:
    content = subtitle_file(CUES, kind)
    events = list(pysubs2.SSAFile.from_string(content, format_=kind))
    assert [(event.start, event.end) for event in events] == TIMES
    assert [event.plaintext for event in events][1] == "Grüße\n你好"
    assert _of_ffmpeg(content, kind) == [(start, end - start) for start, end in TIMES]


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitle_file_is_read_by_read_cues(kind: SubtitleFormat) -> None:
    cues = read_cues(subtitle_file(CUES[:2], kind).encode())
    assert [(cue.start, cue.end) for cue in cues] == [(0.48, 2.5), (3, 4.25)]
    assert cues[1].text == "Grüße\n你好"
    assert cues[0].speaker == ("Anna Bell" if kind == "vtt" else None)


def test_subtitle_file_escapes_markup_only_in_webvtt() -> None:
    vtt, srt = subtitle_file(CUES, "vtt"), subtitle_file(CUES, "srt")
    assert "<v Anna Bell>Salt &amp; &lt;pepper&gt;,\nsaid they → all</v>" in vtt.replace("--&gt;", "→")
    assert "Salt & ,\nsaid they → all\n" in srt  # viewers take <...> for markup
    assert "1 < 2" in srt
    assert (subtitle_file([], "srt").strip(), subtitle_file([], "vtt").strip()) == ("", "WEBVTT")


def test_shown_texts_joins_cues_at_the_same_time() -> None:
    cues = [Cue(5, 6, "e"), Cue(0, 2, "a"), Cue(1, 3, "b\n\nc")]
    assert shown_texts(cues) == [
        ShownText(0, 1, "a"),
        ShownText(1, 2, "a\nb\nc"),
        ShownText(2, 3, "b\nc"),
        ShownText(5, 6, "e"),
    ]
