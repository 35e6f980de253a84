"""Cues of SRT and WebVTT files, and files that are not what they should be."""

from __future__ import annotations

import time

import pytest

from errors import OptionError
from media.subtitles.cues import MAX_BYTES, MAX_CUES, Cue, read_cues

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


@pytest.mark.parametrize(
    ("text", "cues"),
    [
        (SRT, [Cue(1, 2.5, "Hello there,\nfriend.", "ANNA"), Cue(3, 4.25, "Who is it?")]),
        (SRT.replace(",000", ".000"), [Cue(1, 2.5, "Hello there,\nfriend.", "ANNA"), Cue(3, 4.25, "Who is it?")]),
        (VTT, [Cue(1, 2.5, "Salt & pepper", "Anna Bell"), Cue(3603, 3604.25, "No name")]),
    ],
)
def test_read_cues_of_srt_and_webvtt(text: str, cues: list[Cue]) -> None:
    assert read_cues(text.encode()) == cues


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_read_cues_byte_order_marks_and_newlines(encoding: str, newline: str) -> None:
    text = SRT.replace("ANNA", "ÄNNE").replace("\n", newline)
    assert read_cues(text.encode(encoding))[0].speaker == "ÄNNE"


@pytest.mark.parametrize(
    ("line", "known", "speaker", "text"),
    [
        ("Anna: hi", ["anna"], "Anna", "hi"),
        ("Anna: hi", [], None, "Anna: hi"),
        ("- DR. WHO: hi", [], "DR. WHO", "hi"),
        ("张三：你好", ["张三"], "张三", "你好"),
        ("注意：你好", [], None, "注意：你好"),
        ("At 12:30 we eat", [], None, "At 12:30 we eat"),
        ("- Yes.", [], None, "Yes."),
    ],
)
def test_read_cues_speaker_before_a_colon(line: str, known: list[str], speaker: str | None, text: str) -> None:
    (cue,) = read_cues(f"1\n00:00:01,000 --> 00:00:02,000\n{line}\n".encode(), known)
    assert (cue.speaker, cue.text) == (speaker, text)


@pytest.mark.parametrize(
    "content",
    [
        "WEBVTT\n\n00:01.000 --> 00:04.000\n- <v Anna>Yes.</v>\n- <v Bob>No way</v>\n",
        "1\n00:00:01,000 --> 00:00:04,000\n- ANNA: Yes.\n- BOB: No way\n",
    ],
)
def test_read_cues_cue_of_two_speakers_is_divided(content: str) -> None:
    first, second = read_cues(content.encode())
    assert (first.text, second.text) == ("Yes.", "No way")
    assert (first.start, first.end, second.start, second.end) == pytest.approx((1, 2.2, 2.2, 4))


@pytest.mark.parametrize(
    ("line", "speaker", "text"),
    [
        ("Hi [wave] you [applause] there ♪", None, "Hi [wave] you there"),
        ("[wave] ANNA: hi", "ANNA", "[wave] hi"),
        ("- [ wave ] [wave] bob: hi", "bob", "[ wave ] [wave] hi"),
    ],
)
def test_read_cues_keeps_brackets_of_actions(line: str, speaker: str | None, text: str) -> None:
    (cue,) = read_cues(_cue("00:00:01,000 --> 00:00:02,000", line), ["bob"], {"wave"}.__contains__)
    assert (cue.speaker, cue.text) == (speaker, text)


def test_read_cues_drops_empty_cues_and_sorts() -> None:
    content = "1\n00:00:05,000 --> 00:00:06,000\nlate\n\n2\n00:00:01,000 --> 00:00:02,000\n♪ [music] ♪\n"
    assert [cue.text for cue in read_cues(content.encode())] == ["late"]


def _cue(times: str, text: str = "x") -> bytes:
    return f"1\n{times}\n{text}\n".encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no cue|another one"),
        (b"WEBVTT\n", "no cue"),
        (b"hello", "another one|no cue"),
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
    for content in (cue * (MAX_BYTES // len(cue)), "WEBVTT\n\n" + "-->" * 200_000, "<v " * 300_000, "[" * MAX_BYTES):
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
    lines = [f"{i}\n00:{i // 60:02}:{i % 60:02},000 --> 00:{i // 60:02}:{i % 60:02},900\nword\n" for i in range(3600)]
    more = [f"{i}\n01:{i // 60:02}:{i % 60:02},000 --> 01:{i // 60:02}:{i % 60:02},900\nword\n" for i in range(1400)]
    started = time.process_time()
    assert len(read_cues("\n".join(lines + more).encode())) == MAX_CUES
    assert time.process_time() - started < 4
