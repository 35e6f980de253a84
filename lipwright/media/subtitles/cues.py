"""Reads the cues of SRT and WebVTT files, with the speakers that they name."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from io import StringIO
from typing import Final

from webvtt import WebVTT
from webvtt.errors import MalformedCaptionError, MalformedFileError
from webvtt.models import Caption

from lipwright.errors import OptionError

MAX_BYTES: Final = 1 << 20
"""Size of a file; the subtitles of a long film have about 150,000 bytes."""
MAX_CUES: Final = 5000
"""A long film has about 2,000 cues."""
_MAX_CUE_CHARS: Final = 2000  # with markup; viewers can read about 80
_MAX_SECONDS: Final = 24 * 3600
_BOMS: Final = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
_ARROW: Final = "-->"
_TIME: Final = r"\s*(?:\d{1,6}:)?\d{1,2}:\d{1,2}[.,]\d{1,3}"
_TIMING: Final = re.compile(rf"{_TIME}\s*-->{_TIME}\b")
_LIKE_TIMING: Final = re.compile(r"\d:\d\d.*->|->.*\d:\d\d")
_VOICE: Final = re.compile(r"<v(?:\.[^\s>]{0,99})?\s+([^<>]{1,99})>")  # WebVTT, section 4.2.2: <v.class Name>
_TAG: Final = re.compile(
    r"<[^<>]{0,199}>|\{\\[^{}]{0,199}\}"
)  # HTML and WebVTT tags; the style codes of SSA in SRT files
_SOUND: Final = re.compile(r"(?:(\[[^\[\]]*\])|[♪♫]+|(?<!\S)#+(?!\S))[ \t]*")  # [door slams]: a sound, not speech
_NAME: Final = re.compile(r"(?:[-–]\s*)?((?:\[[^\[\]]*\]\s*)*)([^\W\d_][^:：<>]{0,39}?)\s*[:：]\s*(?=\S)")
"""Actions, then the name of the speaker."""
_DASH: Final = re.compile(r"[-–](?:\s+|$)")


@dataclass(frozen=True)
class Cue:
    """What one speaker says.

    Attributes:
        start: Seconds from the start of the video.
        end: Likewise, exclusive; after `start`.
        text: Plain text on one or more lines, with something to speak.
        speaker: The name that the file gives; None without one.
    """

    start: float
    end: float
    text: str
    speaker: str | None = None


def _names_no_action(name: str) -> bool:
    return False


def read_cues(
    content: bytes, known_speakers: Collection[str] = (), is_action: Callable[[str], bool] = _names_no_action
) -> list[Cue]:
    """Return the cues of an SRT or WebVTT file, by their start. Sound descriptions in square brackets are left out.

    The speaker of a cue is its WebVTT voice (`<v Anna>`), or a name and a colon at the start of a line: in capitals
    (`ANNA: ...`), or one of `known_speakers`. A cue with several speakers is divided by the length of their texts.

    Args:
        content: The file, in UTF-8 or in UTF-16 with a byte order mark.
        known_speakers: Names of speakers, in any case.
        is_action: Whether what is in square brackets stays, because it is the name of an action.

    Raises:
        OptionError: The file is too large, in another encoding or malformed, or a cue has no duration.
    """
    text = _decode(content)
    lines = _checked_lines(text)
    is_webvtt = text.startswith("WEBVTT")
    if not is_webvtt:
        text = "\n".join(line.replace(".", ",") if _ARROW in line else line for line in lines)
    try:
        captions = WebVTT.from_buffer(StringIO(text), format="vtt" if is_webvtt else "srt").captions
    except (MalformedFileError, MalformedCaptionError) as error:
        near = next((number for number, line in enumerate(lines, 1) if _LIKE_TIMING.search(line[:80])), None)
        found = "no times" if near is None else f"line {near}: {lines[near - 1][:60]!r}"
        raise OptionError(
            "subtitles: expected an SRT or WebVTT file, with times such as 00:01:02,345 --> 00:01:04,000; found "
            f"{found}."
        ) from error
    num_timings = sum(_ARROW in line for line in lines)
    if len(captions) != num_timings:
        raise OptionError(f"subtitles: expected {num_timings} cues, one per `-->`, found {len(captions)}.")
    known = {name.casefold() for name in known_speakers}
    cues = [cue for caption in captions for cue in _split(caption, known, is_action)]
    if not cues:
        raise OptionError("subtitles: the file has no cue with text.")
    return sorted(cues, key=lambda cue: cue.start)


def _decode(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise OptionError(f"subtitles: expected at most {MAX_BYTES} bytes, found {len(content)}.")
    encoding = next((name for bom, name in _BOMS if content.startswith(bom)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise OptionError(
            f"subtitles: expected UTF-8, found another encoding at byte {error.start}. Convert the file, for example "
            "with `iconv -f WINDOWS-1252 -t UTF-8`."
        ) from error
    if "\0" in text:
        raise OptionError("subtitles: expected text, found a zero byte.")
    return text.lstrip()


def _checked_lines(text: str) -> list[str]:
    """Return the lines of a file whose timing lines are well-formed and not too many."""
    if (num_timings := text.count(_ARROW)) > MAX_CUES:
        raise OptionError(f"subtitles: expected at most {MAX_CUES} cues, found {num_timings}.")
    lines = re.split(r"\r\n|\r|\n", text)
    for number, line in enumerate(lines, 1):
        if _ARROW in line and not _TIMING.match(line):
            raise OptionError(
                f"subtitles: line {number}: expected times such as 00:01:02,345 --> 00:01:04,000, found {line[:60]!r}."
            )
    return lines


def _split(caption: Caption, known: Collection[str], is_action: Callable[[str], bool]) -> Iterator[Cue]:
    """Yield the cues of a caption, one per speaker."""
    start, end = (time.in_milliseconds() / 1000 for time in (caption.start_time, caption.end_time))
    if not 0 <= start < end <= _MAX_SECONDS:
        raise OptionError(f"subtitles: the cue at {caption.start} must end after its start and within 24 hours.")
    if len(caption.raw_text) > _MAX_CUE_CHARS:
        raise OptionError(f"subtitles: the cue at {caption.start} has more than {_MAX_CUE_CHARS} characters.")
    parts = list(_by_speaker(caption.raw_text, known, is_action))
    num_chars = sum(len(text) for _, text in parts)
    num_done = 0
    for speaker, text in parts:
        first, last = num_done, num_done + len(text)
        num_done = last
        begin, stop = (start + (end - start) * position / num_chars for position in (first, last))
        yield Cue(begin, stop, text=text, speaker=speaker)


def _by_speaker(
    raw_text: str, known: Collection[str], is_action: Callable[[str], bool]
) -> Iterator[tuple[str | None, str]]:
    """Yield speakers and their non-empty texts, in order."""
    before, *spans = _VOICE.split(raw_text)
    spoken = [(None, before), *zip((_plain(name, _names_no_action) for name in spans[::2]), spans[1::2], strict=True)]
    parts: list[tuple[str | None, list[str]]] = []
    for voice, span in spoken:
        parts.append((voice, []))
        for line in _plain(span, is_action).splitlines():
            named = None if voice is not None else _NAME.match(line)
            if named is not None and (named[2].isupper() or named[2].casefold() in known):
                parts.append((named[2], []))
                line = named[1] + line[named.end() :]
            line = line.strip()
            parts[-1][1].append(line[dash.end() :] if (dash := _DASH.match(line)) else line)
    for speaker, texts in parts:
        text = "\n".join(filter(None, texts))
        if any(map(str.isalnum, text)):
            yield speaker, text


def _plain(text: str, is_action: Callable[[str], bool]) -> str:
    """Return text without markup and sound descriptions."""
    plain = html.unescape(_TAG.sub("", text))
    return _SOUND.sub(lambda found: found[0] if found[1] and is_action(found[1].strip("[] ")) else "", plain).strip()
