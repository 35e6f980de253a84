"""Concatenates segments by packet copy and muxes them with sound (AAC, Opus or PCM) and subtitles (3GPP timed text)."""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from lipwright.config import MediaLimits
from lipwright.errors import InputError, StoredFileError
from lipwright.media.audio_parts import Blocks, SoundFormat
from lipwright.media.container import open_container
from lipwright.media.frame_table import video_stream
from lipwright.media.output.formats import MP4, OutputFormat
from lipwright.media.probe import VideoInfo
from lipwright.media.result.sound_mix import ResultSound
from lipwright.media.result.sound_pieces import encode_pieces
from lipwright.media.result.stream_copy import IN_BAND_TAG
from lipwright.media.subtitles.texts import ShownText

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


_ALPHA_MODE: Final = "alpha_mode"
"""Metadata of a VP9 track with transparency, from which Matroska's element AlphaMode is written."""


def concat_segments(
    segments: Sequence[Path],
    sound: ResultSound | None,
    out: Path,
    info: VideoInfo,
    num_frames: int,
    tags: Mapping[str, str] = MappingProxyType({}),
    texts: Sequence[ShownText] = (),
    file_format: OutputFormat = MP4,
) -> None:
    """Write the result: video by packet copy, the encoded sound, subtitles as a text track, the index in front.

    Args:
        segments: Files that `lipwright.media.writer.SegmentWriter` made with the same settings, in order; those of
            `lipwright.media.result.stream_copy` may be among them if all have in-band headers.
        sound: Keeps its sample rate if AAC supports it, and up to two channels; None: there is none.
        out: The file to write; it is created atomically.
        info: The format of the segments.
        num_frames: Frames that all segments together must have. Sound beyond the last one is cut; silence follows
            speech that ends more than a frame earlier.
        tags: Metadata of the file.
        texts: The subtitles, see `lipwright.media.subtitles.texts.shown_texts`; without any, there is no text track.
        file_format: The format of the segments and the result.

    Raises:
        StoredFileError: A segment is missing or truncated, or the segments differ in their settings.
        MediaError: The audio cannot be read.
    """
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=out.stem, suffix=f".{file_format.name}")
    os.close(handle)
    try:
        container = av.open(name, "w", format=file_format.name, options=dict(file_format.muxer_options))
        assert isinstance(container, OutputContainer)
        container.metadata.update(tags)
        with container:
            _mux(container, segments, sound, info, num_frames, texts, file_format)
        os.replace(name, out)
    except BaseException:
        os.unlink(name)
        raise


def _mux(
    container: OutputContainer,
    segments: Sequence[Path],
    sound: ResultSound | None,
    info: VideoInfo,
    num_frames: int,
    texts: Sequence[ShownText],
    file_format: OutputFormat,
) -> None:
    with _segment(segments[0]) as first:
        template = video_stream(first, segments[0])
        video = container.add_stream_from_template(template, opaque=True)
        video.time_base = 1 / info.fps
        headers = template.codec_context.extradata
        is_in_band, depth = template.codec_context.codec_tag == IN_BAND_TAG, template.codec_context.reorder_depth
        video.codec_context.codec_tag = template.codec_context.codec_tag
        if (alpha_mode := template.metadata.get(_ALPHA_MODE)) is not None:
            video.metadata[_ALPHA_MODE] = alpha_mode
    if is_in_band:  # segments may be copies of the source
        depth = max(depth, _reorder_depth(segments[1:]))
    video_packets = _video_packets(segments, video, None if is_in_band else headers, depth, info)
    others: Iterator[Packet[AudioStream] | Packet[SubtitleStream]] = iter(())
    if sound is not None:
        stream = add_sound_track(container, sound, file_format.audio_encoder)
        others = sound_packets(sound, stream, num_frames, info.fps)
    if texts:
        language = None if sound is None else sound.language
        subtitles = text_packets(texts, add_text_track(container, language), num_frames / info.fps)
        others = heapq.merge(others, subtitles, key=_seconds)
    # The muxer buffers packets until it has some of each stream, so all are fed in step.
    pending = next(others, None)
    num_done = 0
    for packet in video_packets:
        num_done += 1
        shown = (packet.pts or 0) / info.fps
        while pending is not None and _seconds(pending) <= shown:
            container.mux(pending)
            pending = next(others, None)
        container.mux(packet)
    if num_done != num_frames:
        raise StoredFileError(f"Expected {num_frames} frames in {len(segments)} segments, found {num_done}.")
    while pending is not None:
        container.mux(pending)
        pending = next(others, None)


def _seconds(packet: Packet[AudioStream] | Packet[SubtitleStream]) -> Fraction:
    return (packet.pts or 0) * packet.time_base


def _video_packets(
    segments: Sequence[Path], stream: VideoStream, headers: bytes | None, delay: int, info: VideoInfo
) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of all segments, with times in frames from the start of the result.

    All segments must have the parameter sets `headers`; None allows others, as frames bring theirs.
    Decoding times are recomputed, `delay` frames before the position of the packet: segments of one or two frames were
    written with a smaller delay than the others.
    """
    num_done, frame_seconds = 0, 1 / info.fps
    for path in segments:
        num_before = num_done
        with _segment(path, is_complete=True) as container:
            source = video_stream(container, path)
            if headers is not None and source.codec_context.extradata != headers:
                raise StoredFileError(f"{path.name}: expected the encoder settings of the first segment, found others.")
            assert source.time_base is not None
            frames_per_tick = source.time_base * info.fps
            for packet in container.demux(source):
                if packet.size == 0 or packet.pts is None:
                    continue  # the empty packet that ends a stream
                packet.pts = num_before + round(packet.pts * frames_per_tick)
                packet.dts = num_done - delay
                packet.duration = 1
                packet.time_base = frame_seconds
                packet.stream = stream
                num_done += 1
                yield packet


def _reorder_depth(segments: Sequence[Path]) -> int:
    """The largest number of frames by which a segment's decoding is ahead of its presentation."""
    depth = 0
    for path in segments:
        with _segment(path) as container:
            depth = max(depth, video_stream(container, path).codec_context.reorder_depth)
    return depth


@contextmanager
def _segment(path: Path, *, is_complete: bool = False) -> Iterator[InputContainer]:
    """Open a file that this service wrote, see `open_container`: if it is damaged, the input is not at fault."""
    try:
        with open_container(path, MediaLimits(), is_complete=is_complete) as container:
            yield container
    except (InputError, FFmpegError) as error:
        raise StoredFileError(f"{path.name}: the stored segment has been changed.") from error
