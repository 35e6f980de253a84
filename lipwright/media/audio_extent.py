"""The real duration of an audio track, from its packets rather than its container's header."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import PatchWelcomeError
from av.packet import Packet

from lipwright.config import MediaLimits
from lipwright.errors import MediaError, MediaLimitError
from lipwright.media.container import ffmpeg_errors, origin_seconds

MIN_GAP_SECONDS: Final = 0.1
"""Gaps in the time stamps from this length on are filled with silence; shorter ones are rounding errors."""
PROBE_TOLERANCE_SECONDS: Final = 0.3
"""Codec padding and rounding do not count towards the maximum duration."""
DECODE_TOLERANCE_SECONDS: Final = 0.6
"""The same of decoded audio; it is larger, so that decoding accepts whatever the probe has accepted."""
MAX_PADDING_SAMPLES: Final = 4096
"""Maximum codec padding at the end of an MP4 track: two AAC-HE frames."""
_MAX_PACKET_SECONDS: Final = 2.0
"""Maximum duration of a packet where only the container states it; codecs use less, except for FLAC blocks."""
_OWN_LENGTH: Final = ("pcm_", "flac")


@dataclass
class AudioExtent:
    """Time covered by the packets of a track, from presentation time 0.

    Attributes:
        seconds: End of the last packet.
        gap_seconds: Time within that which no packet covers.
    """

    seconds: float = 0.0
    gap_seconds: float = 0.0

    def add(self, start: float | None, length: float) -> None:
        """Add a packet: its time in seconds, None if it follows the previous one, and its length, 0 if unknown."""
        start = self.seconds if start is None else start
        gap = start - self.seconds
        if not length and 0 < gap <= _MAX_PACKET_SECONDS:
            gap = 0.0
        if gap > MIN_GAP_SECONDS:
            self.gap_seconds += gap
        self.seconds = max(self.seconds, start + length)

    def check(self, name: str, limits: MediaLimits, tolerance_seconds: float = PROBE_TOLERANCE_SECONDS) -> None:
        """Raise MediaLimitError if the track is too long, or consists mostly of gaps."""
        if self.seconds > limits.max_audio_seconds + tolerance_seconds:
            raise MediaLimitError(
                f"{name}: expected at most {limits.max_audio_seconds:g} s of audio, found {self.seconds:.1f} s."
            )
        real = self.seconds - self.gap_seconds
        if self.gap_seconds > limits.max_frozen_seconds + real + tolerance_seconds:
            raise MediaLimitError(
                f"{name}: expected at most {limits.max_frozen_seconds + real:.0f} s of gaps in {real:.1f} s of audio, "
                f"found {self.gap_seconds:.0f} s (limits.max_frozen_seconds)."
            )


def counted_packets(
    container: InputContainer, stream: AudioStream, path: Path, extent: AudioExtent
) -> Iterator[Packet[AudioStream]]:
    """Yield the packets of a track and add each to `extent`; MediaError if they cannot be read to the end."""
    time_base = stream.time_base or Fraction(1, stream.codec_context.sample_rate)
    # Three hours of Opus are 540,000 packets: with fractions, the probe would take 5.4 s of CPU time instead of 2.1 s.
    origin, ticks, scale = float(origin_seconds(container)), time_base.numerator, time_base.denominator
    frame_seconds = (stream.codec_context.frame_size or 0) / stream.codec_context.sample_rate
    longest = math.inf if stream.codec_context.name.startswith(_OWN_LENGTH) else _MAX_PACKET_SECONDS
    with _readable(path):
        for packet in container.demux(stream):
            if packet.size:
                start = None if packet.pts is None else packet.pts * ticks / scale - origin
                extent.add(start, min((packet.duration or 0) * ticks / scale or frame_seconds, longest))
            yield packet


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    with ffmpeg_errors(path, "readable audio packets"):
        try:
            yield
        except PatchWelcomeError as error:  # only the Ogg demuxer raises this for packets
            raise MediaError(
                f"{path.name}: expected audio of one rate and layout, found concatenated files whose rates or channels "
                "differ."
            ) from error
