"""Turns of RTTM and JSON files, and files that are not what they should be."""

from __future__ import annotations

import json
import time

import pytest

from errors import OptionError
from media.subtitles.diarization import MAX_BYTES, MAX_SEGMENTS, SpeakerSegment, read_diarization

RTTM = """\
;; made by hand
SPKR-INFO talk 1 <NA> <NA> <NA> unknown SPEAKER_00 <NA> <NA>
SPEAKER talk 1 4.0 2.50 <NA> <NA> SPEAKER_01 <NA> <NA>
SPEAKER talk 1 0.5 3.25 <NA> <NA> SPEAKER_00 <NA> <NA>
"""
SEGMENTS = [SpeakerSegment(0.5, 3.75, "SPEAKER_00"), SpeakerSegment(4, 6.5, "SPEAKER_01")]


def test_read_diarization_of_rttm() -> None:
    assert sorted(read_diarization(RTTM.encode()), key=lambda each: each.start) == SEGMENTS


@pytest.mark.parametrize("key", [None, "segments", "diarization"])
def test_read_diarization_of_json(key: str | None) -> None:
    listed = [{"start": turn.start, "end": turn.end, "speaker": turn.speaker, "text": "x"} for turn in SEGMENTS]
    assert read_diarization(json.dumps(listed if key is None else {key: listed}).encode()) == SEGMENTS


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
        (_line(-1, 2), "line 1: expected times from 0"),
        (_line(1, 0), "the end after the start"),
        (_line("nan", 1), "line 1: expected a time"),
        (_line(0, 1) + _line("x", 1), "line 2: expected a time"),
        (_line(0, 1) + _line(0, 1).replace(" f ", " g "), "one recording, found 2"),
        ("hello world", "line 1: expected an RTTM line"),
        ("SPEAKER f 1 0", "line 1: expected an RTTM line"),
        (_line(0, 1) * (MAX_SEGMENTS + 1), "at most 20000 segments"),
        ("x" * (MAX_BYTES + 1), "at most"),
        ("SPEAKER f 1 0 1 <NA> <NA> \udce4", "expected UTF-8"),
    ],
)
def test_read_diarization_invalid_file_is_explained(content: str, message: str) -> None:
    started = time.process_time()
    with pytest.raises(OptionError, match=message):
        read_diarization(content.encode(errors="surrogateescape"))
    assert time.process_time() - started < 1
