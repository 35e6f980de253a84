"""Writes cues: as SRT and WebVTT files, and as texts that follow each other on a screen."""

from __future__ import annotations

import html
from collections import deque
from collections.abc import Iterable, Sequence
from io import StringIO
from itertools import pairwise
from typing import Literal, NamedTuple

from webvtt import Caption, WebVTT

from lipwright.media.subtitles.cues import Cue

SubtitleFormat = Literal["srt", "vtt"]


class ShownText(NamedTuple):
    """Text on one or more lines that is shown from `start` to `end`, in seconds."""

    start: float
    end: float
    text: str


def subtitle_file(cues: Iterable[Cue], kind: SubtitleFormat) -> str:
    """Return the content of a file; WebVTT names the speakers."""
    document = WebVTT()
    for number, cue in enumerate(sorted(cues, key=lambda cue: cue.start), 1):
        text = _lines(cue.text)
        if kind == "vtt":  # SRT has no escapes
            text = html.escape(text, quote=False)
            if cue.speaker is not None:
                text = f"<v {html.escape(' '.join(cue.speaker.split()), quote=False)}>{text}</v>"
        identifier = str(number) if kind == "srt" else None
        document.captions.append(Caption(_timestamp(cue.start), _timestamp(cue.end), text, identifier))
    out = StringIO()
    document.write(out, format=kind)
    return out.getvalue().rstrip("\n") + "\n"


def shown_texts(cues: Sequence[Cue]) -> list[ShownText]:
    """Return texts that do not overlap, in order: cues at the same time are shown below each other."""
    times = sorted({time for cue in cues for time in (cue.start, cue.end)})
    waiting = deque(sorted(cues, key=lambda cue: cue.start))
    shown: list[ShownText] = []
    active: list[Cue] = []
    for start, end in pairwise(times):
        active = [cue for cue in active if cue.end > start]
        while waiting and waiting[0].start <= start:
            active.append(waiting.popleft())
        text = "\n".join(_lines(cue.text) for cue in active)
        if text:
            shown.append(ShownText(start, end, text))
    return shown


def _lines(text: str) -> str:
    """Return text without empty lines and arrows, which end a cue in a file."""
    return "\n".join(filter(None, (line.strip() for line in text.splitlines()))).replace("-->", "→")


def _timestamp(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}.{rest % 1000:03}"
