from __future__ import annotations

import io
import json
import shutil
import time
from typing import Any

import av
import numpy as np
import pysubs2
import pytest

from lipwright.errors import OptionError
from lipwright.media.probe import ColourTags
from lipwright.media.subtitles.actions import ActedText, TextAction, marked, read_actions
from lipwright.media.subtitles.burnt import check_fonts, font_of, subtitle_overlay
from lipwright.media.subtitles.cues import MAX_BYTES, MAX_CUES, Cue, read_cues
from lipwright.media.subtitles.diarization import MAX_BYTES as MAX_DIARIZATION_BYTES
from lipwright.media.subtitles.diarization import MAX_SEGMENTS, SpeakerSegment, read_diarization
from lipwright.media.subtitles.texts import ShownText, SubtitleFormat, shown_texts, subtitle_file
from lipwright.media.yuv_frame import YuvFrame
from tests.unit.media.clips import flat_planes, info_of

SRT = """\
1
00:00:01,000 --> 00:00:02,500
ANNA: Hello <i>there</i>,
{\\an8}friend.

2
00:00:03,000 --> 00:00:04,250
[door slams] Who is it?
"""

VTT = """\
WEBVTT

STYLE
::cue { color: lime }

NOTE the first scene

intro
00:01.000 --> 00:02.500 align:start
<v.loud Anna Bell>Salt &amp; <b>pepper</b></v>

01:00:03.000 --> 01:00:04.250
No name
"""


def test_read_cues_of_srt_and_webvtt() -> None:
    srt = [Cue(1, 2.5, "Hello there,\nfriend.", "ANNA"), Cue(3, 4.25, "Who is it?")]
    assert read_cues(SRT.encode()) == read_cues(SRT.replace(",000", ".000").encode()) == srt
    assert read_cues(VTT.encode()) == [Cue(1, 2.5, "Salt & pepper", "Anna Bell"), Cue(3603, 3604.25, "No name")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_read_cues_byte_order_marks_and_newlines(encoding: str, newline: str) -> None:
    content = SRT.replace("ANNA", "ÄNNE").replace("\n", newline).encode(encoding)
    assert [cue.speaker for cue in read_cues(content)] == ["ÄNNE", None]


@pytest.mark.parametrize(
    ("text", "known", "speaker", "plain"),
    [
        ("Anna: hi", "anna", "Anna", "hi"),
        ("- DR. WHO: hi", "", "DR. WHO", "hi"),
        ("张三：你好", "张三", "张三", "你好"),
        ("Anna: hi", "", None, "Anna: hi"),
        ("- Anna: hi", "", None, "Anna: hi"),
        ("注意：你好", "", None, "注意：你好"),
        ("At 12:30 we eat", "", None, "At 12:30 we eat"),
        ("Hi [wave] you [applause] there ♪", "", None, "Hi [wave] you there"),
        ("[wave] ANNA: hi", "", "ANNA", "[wave] hi"),
        ("- [ wave ] [wave] bob: hi", "bob", "bob", "[ wave ] [wave] hi"),
        ("# la la la #\nWe're #1 in C# land", "", None, "la la la\nWe're #1 in C# land"),
    ],
)
def test_read_cues_returns_speaker_and_text(text: str, known: str, speaker: str | None, plain: str) -> None:
    (cue,) = read_cues(_cue("00:00:01,000 --> 00:00:02,000", text), [known], {"wave"}.__contains__)
    assert (cue.speaker, cue.text) == (speaker, plain)


def test_read_cues_cue_of_two_speakers_is_divided() -> None:
    vtt = b"WEBVTT\n\n00:01.000 --> 00:04.000\n- <v Anna>Yes.</v>\n- <v Bob>No way</v>\n"
    for content in (vtt, _cue("00:00:01,000 --> 00:00:04,000", "- ANNA: Yes.\n- BOB: No way")):
        first, second = read_cues(content)
        assert (first.text, second.text) == ("Yes.", "No way")
        assert (first.start, first.end, second.start, second.end) == pytest.approx((1, 2.2, 2.2, 4))


def test_read_cues_drops_empty_cues_and_sorts() -> None:
    content = "1\n00:00:05,000 --> 00:00:06,000\nlate\n\n2\n00:00:01,000 --> 00:00:02,000\n♪ [music] ♪\n"
    assert [cue.text for cue in read_cues(content.encode())] == ["late"]


def _cue(times: str, text: str = "x") -> bytes:
    return f"1\n{times}\n{text}\n".encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found no times"),
        (b"WEBVTT\n", "no cue"),
        (b"hello\n1:02,3 -> 1:04", "found line 2: .1:02,3"),
        (b"\x00" * 100, "zero byte"),
        ("Grüße".encode("cp1252"), "expected UTF-8"),
        (b"\xff\xfe\x00\xd8", "expected UTF-8"),
        (_cue("00:00:02,000 --> 00:00:02,000"), "must end after its start"),
        (_cue("00:00:03,000 --> 00:00:02,000"), "must end after its start"),
        (_cue("-00:00:03,000 --> 00:00:04,000"), "line 2: expected times"),
        (_cue("NaN --> 00:00:02,000"), "line 2: expected times"),
        (_cue("99999:00:03,000 --> 99999:00:04,000"), "within 24 hours"),
        (b"WEBVTT\n\n00:01.000 --> 00:02.000\nx\n\n00:03.000 -> 00:04.000 -->\ny\n", "line 6: expected times"),
        (b"x" * (MAX_BYTES + 1), "at most"),
    ],
)
def test_read_cues_invalid_file_is_explained(content: bytes, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read_cues(content)


def test_read_cues_hostile_file_ends_quickly() -> None:
    cue = "00:00:01,000 --> 00:00:02,000\n"
    started = time.process_time()
    many = cue * (MAX_BYTES // len(cue)), "WEBVTT\n\n" + "-->" * 200_000, "->" * 40_000
    for content in (*many, "<v " * 300_000, "[" * MAX_BYTES):
        with pytest.raises(OptionError):
            read_cues(content.encode())
    assert time.process_time() - started < 2


@pytest.mark.parametrize("text", ["<", "{\\", "[", "A ", "&", "<v ", "<v\n", "A:", "-"])
def test_read_cues_much_markup_ends_quickly(text: str) -> None:
    started = time.process_time()
    with pytest.raises(OptionError, match="more than 2000 characters"):
        read_cues(_cue("00:00:01,000 --> 00:00:02,000", text * 200_000 + "x"))
    assert time.process_time() - started < 2
    cue = "00:00:01,000 --> 00:00:02,000\n" + (text * 900)[:1900].replace("\n", "") + "x\n\n"
    read_cues(("WEBVTT\n\n" + cue.replace(",", ".") * 400).encode())
    assert time.process_time() - started < 6


def test_read_cues_max_cues_are_read_quickly() -> None:
    times = [f"{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02}" for i in range(MAX_CUES)]
    started = time.process_time()
    cues = read_cues("\n".join(f"{n}\n{at},000 --> {at},900\nword\n" for n, at in enumerate(times)).encode())
    assert len(cues) == MAX_CUES
    assert time.process_time() - started < 4


NAMES = ["nod", "wave"]


@pytest.mark.parametrize(
    ("text", "plain", "words"),
    [
        ("Hello! [wave] Welcome.", "Hello! Welcome.", [("wave", "Welcome.")]),
        ("[wave] Hi [nod]", "Hi", [("wave", "Hi"), ("nod", "")]),
        ("Hi![wave] there", "Hi! there", [("wave", "there")]),
        ("Hi [ wave ]\n[nod] you", "Hi you", [("wave", "you"), ("nod", "you")]),
        (r"a \[wave] [nod] b", "a [wave] b", [("nod", "b")]),
        ("An open [ bracket", "An open [ bracket", []),
    ],
)
def test_read_actions_returns_text_and_words(text: str, plain: str, words: list[tuple[str, str]]) -> None:
    found = read_actions(text, NAMES)
    assert found.text == plain
    assert [(name, plain[position:]) for position, name in found.actions] == words
    assert read_actions(marked(*found), NAMES) == found


def test_read_actions_unknown_name_is_kept_skipped_or_refused() -> None:
    assert read_actions(r"[door] \[x] Hi", None) == ActedText(r"[door] \[x] Hi"), "there are no clips"
    found = read_actions("[door slams] Hi [wave] you", NAMES, skips_unknown=True)
    assert found == ActedText("Hi you", (TextAction(3, "wave"),))
    for text in ("Hi [wawe] there", "[]", "[Wave] Hi"):
        with pytest.raises(OptionError, match="Actions of this avatar: nod, wave"):
            read_actions(text, NAMES)


pytestmark = pytest.mark.skipif(shutil.which("fc-list") is None, reason="needs fontconfig and a font")
LONG = "A subtitle that is far too long for a single line, and that is broken into several ones at its spaces"


def _drawn(width: int, height: int, text: str) -> YuvFrame:
    planes = flat_planes(width, height, 120, 90, 90)
    subtitle_overlay(info_of(width, height), text).draw(planes)
    return planes


def _box(planes: YuvFrame) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero((planes.y != 120).any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (640, 360), (360, 640), (64, 64), (16, 16), (640, 16)])
@pytest.mark.parametrize("text", ["Hello", LONG, "two\nlines", "W" * 300])
def test_subtitle_overlay_is_at_the_bottom_centre(width: int, height: int, text: str) -> None:
    planes = _drawn(width, height, text)
    x0, _, x1, y1 = _box(planes)
    assert planes.y.min() >= 16 and planes.y.max() <= 235
    if min(width, height) >= 360:
        assert 0.88 * height < y1 <= height
        assert abs((x0 + x1) / 2 - width / 2) <= 3
        assert x1 - x0 <= 0.84 * width


def test_subtitle_overlay_is_white_with_a_black_outline() -> None:
    planes = _drawn(640, 360, "HHHH")
    x0, y0, x1, y1 = _box(planes)
    assert (planes.y.max(), planes.y.min()) == (235, 16)
    row = planes.y[(y0 + y1) // 2, x0 : x1 + 1].astype(int)
    assert row[np.flatnonzero(row != 120)[0]] < 120  # the outline comes first
    inside = planes.u[(y0 + y1) // 4, x0 // 2 : x1 // 2]
    assert (np.abs(inside.astype(int) - 128) <= 1).any()
    assert (planes.u[: y0 // 2 - 1] == 90).all()
    subtitle_overlay(info_of(640, 360, colour=ColourTags(1, True, 1, 1)), "HHH").draw(planes)
    assert (planes.y.max(), planes.y.min()) == (255, 0)


def test_subtitle_overlay_breaks_long_lines() -> None:
    one, broken = _box(_drawn(1280, 720, "A subtitle")), _box(_drawn(1280, 720, LONG))
    assert broken[3] - broken[1] > 1.8 * (one[3] - one[1])


def test_font_of_letter_without_a_font_is_named() -> None:
    with pytest.raises(OptionError, match="no installed font has all letters of 'b"):
        font_of("b\U00016fe4\U00018d00")
    check_fonts(["Hello", "Grüße 123 ☃"])
    assert font_of("Hello \U0001f984 →").path == font_of("Hello").path


RTTM = """\
;; made by hand
SPKR-INFO talk 1 <NA> <NA> <NA> unknown SPEAKER_00 <NA> <NA>
SPEAKER talk 1 4.0 2.50 <NA> <NA> SPEAKER_01 <NA> <NA>
SPEAKER talk 1 0.5 3.25 <NA> <NA> SPEAKER_00 <NA> <NA>
"""
SEGMENTS = [SpeakerSegment(0.5, 3.75, "SPEAKER_00"), SpeakerSegment(4, 6.5, "SPEAKER_01")]


def test_read_diarization_of_rttm_and_json() -> None:
    assert sorted(read_diarization(RTTM.encode()), key=lambda each: each.start) == SEGMENTS
    listed = [{"start": turn.start, "end": turn.end, "speaker": turn.speaker, "text": "x"} for turn in SEGMENTS]
    for form in (listed, {"segments": listed}, {"diarization": listed}):
        assert read_diarization(json.dumps(form).encode()) == SEGMENTS


def _line(start: object, duration: object) -> str:
    return f"SPEAKER f 1 {start} {duration} <NA> <NA> A <NA> <NA>\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no segment"),
        (";; nothing\n", "no segment"),
        ("[]", "no segment"),
        ("{}", "expected a list"),
        ("[1]", "segment 1: expected an object"),
        ('[{"start": 0, "end": 1}]', "segment 1: expected an object"),
        ('[{"start": 0, "end": 1, "speaker": 7}]', "segment 1: expected a speaker"),
        ('[{"start": NaN, "end": 1, "speaker": "A"}]', "segment 1: expected a time"),
        ('[{"start": true, "end": 1, "speaker": "A"}]', "segment 1: expected a time"),
        ('[{"start": 2, "end": 1, "speaker": "A"}]', "the end after the start"),
        ('[{"start": 0, "end": 1e999, "speaker": "A"}]', "expected a time"),
        ("[" * 100_000, "not valid JSON"),
        (r'[{"start": 0, "end": 1, "speaker": "A\ud800"}]', "not valid JSON"),
        (_line(-1, 2), "line 1: expected times from 0"),
        (_line(1, 0), "the end after the start"),
        (_line("nan", 1), "line 1: expected a time"),
        (_line(0, 1) + _line("x", 1), "line 2: expected a time"),
        (_line(0, 1) + _line(0, 1).replace(" f ", " g "), "one recording, found 2"),
        ("hello world", "line 1: expected an RTTM line"),
        ("SPEAKER f 1 0", "line 1: expected an RTTM line"),
        (_line(0, 1) * (MAX_SEGMENTS + 1), "at most 20000 segments"),
        ("x" * (MAX_DIARIZATION_BYTES + 1), "at most"),
        ("SPEAKER f 1 0 1 <NA> <NA> \udce4", "expected UTF-8"),
    ],
)
def test_read_diarization_invalid_file_is_explained(content: str, message: str) -> None:
    started = time.process_time()
    with pytest.raises(OptionError, match=message):
        read_diarization(content.encode(errors="surrogateescape"))
    assert time.process_time() - started < 1


CUES = [
    Cue(0.48, 2.5, "Salt & <pepper>,\nsaid they --> all", "Anna\nBell"),
    Cue(3, 4.25, "Grüße\n\n你好", None),
    Cue(3661.007, 3662, "{\\an8} 1 < 2", "BOB"),
]
TIMES = [(480, 2500), (3000, 4250), (3661007, 3662000)]


@pytest.mark.parametrize(("kind", "ffmpeg_name"), [("srt", "srt"), ("vtt", "webvtt")])
def test_subtitle_file_is_read_by_all_parsers(kind: SubtitleFormat, ffmpeg_name: str) -> None:
    content = subtitle_file(CUES, kind)
    events = list(pysubs2.SSAFile.from_string(content, format_=kind))
    assert [(event.start, event.end) for event in events] == TIMES
    assert [event.plaintext for event in events][1] == "Grüße\n你好"
    with av.open(io.BytesIO(content.encode()), "r", format=ffmpeg_name) as file:
        packets: list[Any] = [packet for packet in file.demux(file.streams.subtitles[0]) if packet.size]
    ms = [(round(each.pts * each.time_base * 1000), round(each.duration * each.time_base * 1000)) for each in packets]
    assert ms == [(start, end - start) for start, end in TIMES]
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
    assert shown_texts(cues) == [ShownText(*t) for t in ((0, 1, "a"), (1, 2, "a\nb\nc"), (2, 3, "b\nc"), (5, 6, "e"))]
