"""The tracks of a result beside the video: its sound as AAC, Opus or PCM, and subtitles as 3GPP timed text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Final

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.subtitles.stream import SubtitleStream

from media.audio_parts import Blocks, SoundFormat
from media.result.sound_mix import ResultSound
from media.result.sound_pieces import encode_pieces
from media.subtitles.texts import ShownText

# ISO/IEC 14496-3, table 1.18: sample rates of AAC.
_AAC_RATES: Final = frozenset({96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350})
_OPUS_RATES: Final = frozenset({48000})
"""The encoder takes others, but players decode at 48 kHz (RFC 7845, 5.1)."""
_ENCODER_RATES: Final = {"aac": _AAC_RATES, "libopus": _OPUS_RATES}
_FALLBACK_RATE: Final = 48000
_MAX_BITS_PER_SAMPLE: Final = 5
"""AAC carries at most 6144 bits per frame and channel, that is 6 per sample."""
_BITS_PER_CHANNEL: Final = 96_000


def add_sound_track(container: OutputContainer, sound: ResultSound, encoder: str) -> AudioStream:
    """Add a track; it keeps the sample rate of the sound if the encoder supports it, and up to two channels.

    Raises:
        MediaError: A file of the sound cannot be read.
    """
    native_rate, num_native_channels = sound.native_format()
    rate = native_rate if native_rate in _ENCODER_RATES.get(encoder, (native_rate,)) else _FALLBACK_RATE
    num_channels = min(num_native_channels, 2)
    stream = container.add_stream(encoder, rate=rate)
    assert isinstance(stream, AudioStream)
    stream.codec_context.layout = "mono" if num_channels == 1 else "stereo"
    stream.codec_context.bit_rate = num_channels * min(_BITS_PER_CHANNEL, _MAX_BITS_PER_SAMPLE * rate)
    stream.codec_context.time_base = Fraction(1, rate)
    if sound.language is not None:
        stream.metadata["language"] = sound.language
    return stream


def sound_packets(
    sound: ResultSound, stream: AudioStream, num_frames: int, fps: Fraction
) -> Iterator[Packet[AudioStream]]:
    """Yield the encoded sound, cut at the end of the video."""
    context = stream.codec_context
    made = SoundFormat(context.sample_rate, context.layout.name)
    num_samples = round(num_frames / fps * made.rate)
    blocks = _cut(sound.blocks(made, num_samples, max_missing=round(made.rate / fps)), num_samples)
    if sound.pieces is not None and context.name == "aac":
        for packet in encode_pieces(blocks, context, sound.pieces):
            packet.stream = stream
            yield packet
        return
    num_done = 0
    for samples in blocks:
        frame = AudioFrame.from_ndarray(samples, format="fltp", layout=made.layout)
        frame.sample_rate = made.rate
        # From these times the muxer derives the encoder's delay and writes the edit list that hides it.
        frame.pts, frame.time_base = num_done, Fraction(1, made.rate)
        num_done += samples.shape[1]
        yield from stream.encode(frame)  # converted and split into the encoder's frames by PyAV
    yield from stream.encode(None)


def _cut(blocks: Blocks, num_samples: int) -> Blocks:
    """Yield the first samples of a track, or all if it is shorter."""
    for block in blocks:
        samples = np.ascontiguousarray(block[:, :num_samples], dtype=np.float32)
        num_samples -= samples.shape[1]
        if samples.size:
            yield samples
        if not num_samples:
            return


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


def add_text_track(container: OutputContainer, language: str | None) -> SubtitleStream:
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
