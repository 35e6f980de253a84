"""A text track of subtitles in an MP4 file: 3GPP timed text, FFmpeg's `mov_text`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Final

from av.container import OutputContainer
from av.packet import Packet
from av.subtitles.stream import SubtitleStream

from media.subtitles.texts import ShownText

_TIME_BASE: Final = Fraction(1, 1000)
_STYLE: Final = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
"""FFmpeg's default style, from which the encoder makes the header of the track."""


def add_text_track(container: OutputContainer, language: str | None = None) -> SubtitleStream:
    """Add a text track to a file, before its first packet; `language` is an ISO 639-3 code."""
    stream = container.add_stream("mov_text")
    stream.time_base = _TIME_BASE
    stream.codec_context.subtitle_header = _STYLE
    if language is not None:
        stream.metadata["language"] = language
    return stream


def text_packets(texts: Sequence[ShownText], stream: SubtitleStream, end: Fraction) -> Iterator[Packet[SubtitleStream]]:
    """Yield the packets of texts that do not overlap, in order, and are shown until `end` in seconds at most."""
    for text in texts:
        start, stop = (round(seconds / _TIME_BASE) for seconds in (text.start, min(text.end, float(end))))
        if start < stop:
            content = text.text.encode()
            packet: Packet[SubtitleStream] = Packet(len(content).to_bytes(2, "big") + content)  # type: ignore[assignment]
            packet.stream, packet.time_base = stream, _TIME_BASE
            packet.pts = packet.dts = start
            packet.duration = stop - start
            yield packet
