"""Reads who speaks when: speaker diarisation as RTTM or JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydantic_core import from_json

from lipwright.errors import OptionError

MAX_BYTES: Final = 4 << 20
MAX_SEGMENTS: Final = 20_000
"""Segments of a file; an hour of conversation has 1,000 to 2,000."""
_MAX_SECONDS: Final = 24 * 3600
_MAX_NAME_CHARS: Final = 128
_LISTS: Final = ("segments", "diarization", "turns")
"""Keys of the list in the JSON of WhisperX and OpenAI (`segments`) and of pyannote's services (`diarization`)."""


@dataclass(frozen=True)
class SpeakerSegment:
    """A stretch of speech of one speaker, in seconds of the recording: [`start`, `end`)."""

    start: float
    end: float
    speaker: str


def read_diarization(content: bytes) -> list[SpeakerSegment]:
    """Return the segments of an RTTM or JSON file, in its order; they may overlap.

    JSON is a list of objects with `start`, `end` and `speaker`, or an object that holds such a list as `segments`,
    `diarization` or `turns`. Other keys are ignored.

    Raises:
        OptionError: The file is too large, malformed or empty, or describes several recordings.
    """
    if len(content) > MAX_BYTES:
        raise OptionError(f"diarization: expected at most {MAX_BYTES} bytes, found {len(content)}.")
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise OptionError(f"diarization: expected UTF-8, found another encoding at byte {error.start}.") from error
    segments = list(_of_json(text) if text.startswith(("[", "{")) else _of_rttm(text))
    if not segments:
        raise OptionError("diarization: the file has no segment.")
    return segments


def _of_rttm(text: str) -> Iterator[SpeakerSegment]:
    """Yield the SPEAKER lines: type, recording, channel, onset, duration, <NA>, <NA>, speaker, ... (NIST RT-09)."""
    recordings: set[str] = set()
    num_segments = 0
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split(maxsplit=10)
        if not fields or fields[0].startswith(";;"):
            continue
        where = f"diarization: line {number}"
        if not fields[0].replace("-", "").isalpha() or len(fields) < 8:
            raise OptionError(f"{where}: expected an RTTM line or JSON, found {line[:60]!r}.")
        if fields[0] != "SPEAKER":
            continue
        recordings.add(fields[1])
        num_segments += 1
        _check_count(num_segments)
        start, duration = _number(fields[3], where), _number(fields[4], where)
        yield _check(start, start + duration, fields[7], where)
    if len(recordings) > 1:
        raise OptionError(f"diarization: expected one recording, found {len(recordings)}.")


def _of_json(text: str) -> Iterator[SpeakerSegment]:
    try:
        found = from_json(text)
    except ValueError as error:
        raise OptionError("diarization: the file is not valid JSON.") from error
    if isinstance(found, dict):
        found = next((found[key] for key in _LISTS if key in found), None)
    if not isinstance(found, list):
        raise OptionError("diarization: expected a list of objects with start, end and speaker.")
    _check_count(len(found))
    for number, segment in enumerate(found, 1):
        where = f"diarization: segment {number}"
        if not isinstance(segment, dict) or not {"start", "end", "speaker"} <= segment.keys():
            raise OptionError(f"{where}: expected an object with start, end and speaker.")
        start, end = (_number(segment[key], where) for key in ("start", "end"))
        yield _check(start, end, segment["speaker"], where)


def _check_count(num_segments: int) -> None:
    if num_segments > MAX_SEGMENTS:
        raise OptionError(f"diarization: expected at most {MAX_SEGMENTS} segments, found more.")


def _number(value: object, where: str) -> float:
    try:
        number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise OptionError(f"{where}: expected a time in seconds, found {str(value)[:40]!r}.")
    return number


def _check(start: float, end: float, speaker: object, where: str) -> SpeakerSegment:
    if not 0 <= start < end <= _MAX_SECONDS:
        raise OptionError(
            f"{where}: expected times from 0 to 86400 s, the end after the start; found {start:g} to {end:g}."
        )
    if not isinstance(speaker, str) or not 1 <= len(speaker) <= _MAX_NAME_CHARS:
        raise OptionError(f"{where}: expected a speaker of 1 to {_MAX_NAME_CHARS} characters.")
    return SpeakerSegment(start, end, speaker)
