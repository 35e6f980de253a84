"""Probes a caller's file: opens it with limits and decodes one frame or one block of sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from lipwright.config import MediaLimits
from lipwright.errors import MediaError, MediaLimitError
from lipwright.media.audio_extent import MAX_PADDING_SAMPLES, AudioExtent, counted_packets
from lipwright.media.container import decoder_max_pixels, discard_other_streams, ffmpeg_errors, open_container
from lipwright.media.frame_table import frame_table, video_stream
from lipwright.media.headers import exif_orientation

MIN_SIDE: Final = 16
"""Smallest width and height in pixels."""
STILL_FPS: Final = 25
"""Frame rate of results made from a still picture."""
_SAMPLE_RATES: Final = range(1000, 768_001)
_UNSPECIFIED: Final = 2
_NAMES_SIDE_DATA: Final = frozenset({"png", "apng"})
"""Codecs whose colour profiles have a name, which PyAV 18.1 frees once too often when side data is read."""
_FULL_RANGE: Final = 2
_BT709: Final = 1


@dataclass(frozen=True)
class ColourTags:
    """Colour description by its code points in ITU-T H.273; 2 means unspecified."""

    matrix: int
    full_range: bool
    primaries: int
    transfer: int


@dataclass(frozen=True)
class VideoInfo:
    """One video or still picture as the rest of the system sees it: upright, even, at a constant rate.

    Attributes:
        width: Pixels, after rotation, cropped to even.
        height: Pixels, after rotation, cropped to even.
        fps: Constant output rate, frames per second: the stream's own, or that of its moving part when it varies.
        num_frames: Frames on the constant-rate grid; 1 for a still picture.
        rotation: Degrees counter-clockwise (0, 90, 180, 270) that turn a decoded frame upright.
        is_mirrored: Whether an upright frame must be mirrored left to right, after the rotation.
        sample_aspect_ratio: Width of a pixel divided by its height, after rotation.
        frozen_seconds: Seconds for which the picture is frozen; those frames are repeated.
    """

    width: int
    height: int
    fps: Fraction
    num_frames: int
    duration_seconds: float
    rotation: int
    is_still: bool
    is_variable_rate: bool
    colour: ColourTags
    codec: str
    pixel_format: str
    has_audio: bool
    is_mirrored: bool = False
    sample_aspect_ratio: Fraction = Fraction(1)
    frozen_seconds: float = 0.0


@dataclass(frozen=True)
class AudioInfo:
    """One audio track.

    Attributes:
        sample_rate: The track's own sample rate, in Hz.
    """

    sample_rate: int
    num_channels: int
    duration_seconds: float
    codec: str


def probe_video(path: Path, limits: MediaLimits) -> VideoInfo:
    """Describe a video, or a still picture (PNG, JPEG, WebP), after decoding its first frame.

    Raises:
        MediaError: Not readable, no video stream, nothing to decode or too small; names the file, what was
            expected and what was found.
        MediaLimitError: More bytes, streams, pixels, seconds or frames than allowed.
    """
    table = frame_table(path, limits)
    with open_container(path, limits) as container:
        stream = video_stream(container, path)
        has_audio = bool(container.streams.audio)
        _check_frame_size(path, stream.codec_context.width, stream.codec_context.height, limits)
        frame = _first_frame(container, stream, path, limits)
        codec, aspect = stream.codec_context.name, stream.sample_aspect_ratio
    _check_frame_size(path, frame.width, frame.height, limits)
    rotation, is_mirrored = exif_orientation(path) if table.is_picture else _orientation(frame, codec)
    is_turned = rotation % 180 != 0
    width, height = frame.width & ~1, frame.height & ~1
    aspect = aspect if aspect else Fraction(1)
    return VideoInfo(
        width=height if is_turned else width,
        height=width if is_turned else height,
        fps=table.fps,
        num_frames=table.num_frames,
        duration_seconds=float(table.num_frames / table.fps),
        rotation=rotation,
        is_still=table.num_frames == 1,
        is_variable_rate=table.is_variable_rate,
        colour=_colour_tags(frame, codec),
        codec=codec,
        pixel_format=frame.format.name,
        has_audio=has_audio and _has_sound(path, limits),
        is_mirrored=is_mirrored,
        sample_aspect_ratio=1 / aspect if is_turned else aspect,
        frozen_seconds=table.frozen_seconds,
    )


def probe_audio(path: Path, limits: MediaLimits) -> AudioInfo:
    """Describe the first audio track of any container, also of a video, after decoding one block of it.

    The duration is that of its packets; `lipwright.media.audio.extract_speech` returns the exact one.

    Raises:
        MediaError: Not readable to its end, no audio track, or nothing can be decoded.
        MediaLimitError: More bytes, streams or seconds than allowed, or mostly gaps.
    """
    with open_container(path, limits) as container:
        stream = audio_stream(container, path)
        discard_other_streams(container, stream)
        extent = AudioExtent()
        packets = counted_packets(container, stream, path, extent)
        block = _first_block(packets, path)
        for _ in packets:
            pass
        extent.check(path.name, limits)
        seconds = _without_padding(extent.seconds, stream)
        return AudioInfo(block.sample_rate, block.layout.nb_channels, seconds, stream.codec_context.name)


def _has_sound(path: Path, limits: MediaLimits) -> bool:
    """Whether the start of the first audio track can be decoded; a track may be empty, or its codec unknown."""
    with open_container(path, limits) as container:
        try:
            stream = audio_stream(container, path)
            discard_other_streams(container, stream)
            _first_block(counted_packets(container, stream, path, AudioExtent()), path)
        except MediaError:
            return False
        return True


def _first_block(packets: Iterable[Packet[AudioStream]], path: Path) -> AudioFrame:
    block: AudioFrame | None = _first_decoded(packets, path, "audio")
    if block is None:
        raise MediaError(f"{path.name}: expected audio, found an empty audio track.")
    with mixable(path, block):
        AudioResampler(format="s16p", layout="mono").resample(block)
    return block


def audio_stream(container: InputContainer, path: Path) -> AudioStream:
    """Return the first audio track; MediaError without one, or if its codec or sample rate cannot be used."""
    if not container.streams.audio:
        found = ", ".join(sorted({stream.type for stream in container.streams})) or "no stream"
        raise MediaError(f"{path.name}: expected an audio track, found only: {found}.")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise MediaError(f"{path.name}: expected an audio codec that FFmpeg can decode, found an unknown one.")
    if stream.codec_context.sample_rate not in _SAMPLE_RATES:
        raise MediaError(
            f"{path.name}: expected a sample rate from {_SAMPLE_RATES[0]} to {_SAMPLE_RATES[-1]} Hz, "
            f"found {stream.codec_context.sample_rate} Hz."
        )
    return stream


@contextmanager
def mixable(path: Path, block: AudioFrame) -> Iterator[None]:
    """Translate the error of a resampler that cannot mix the block's channels to MediaError."""
    try:
        yield
    except FFmpegError as error:
        raise MediaError(
            f"{path.name}: expected mono, stereo or a surround layout, found {block.layout.name}."
        ) from error


def _first_frame(container: InputContainer, stream: VideoStream, path: Path, limits: MediaLimits) -> VideoFrame:
    stream.codec_context.options = {"max_pixels": str(decoder_max_pixels(limits))}
    stream.codec_context.thread_count = 1
    frame: VideoFrame | None = _first_decoded(container.demux(stream), path, "a picture")
    if frame is None:
        raise MediaError(f"{path.name}: expected at least one decodable frame, found none.")
    return frame


def _first_decoded(packets: Iterable[Packet[Any]], path: Path, what: str) -> Any:
    """Return the first frame, or block with samples; a broken packet at the start does not make a file unreadable."""
    error: FFmpegError | None = None
    for packet in packets:
        try:
            for frame in packet.decode():
                if not isinstance(frame, AudioFrame) or frame.samples:
                    return frame
        except FFmpegError as caught:
            error = caught
    with ffmpeg_errors(path, f"{what} that can be decoded"):
        if error is not None:
            raise error
    return None


def _check_frame_size(path: Path, width: int, height: int, limits: MediaLimits) -> None:
    if width * height > limits.max_pixels:
        raise MediaLimitError(
            f"{path.name}: expected at most {limits.max_pixels} pixels per frame, found {width} x {height}."
        )
    # A picture's size is unknown (0 x 0) until it is decoded.
    if 0 < min(width, height) < MIN_SIDE:
        raise MediaError(f"{path.name}: expected at least {MIN_SIDE} x {MIN_SIDE} pixels, found {width} x {height}.")


def _orientation(frame: VideoFrame, codec: str) -> tuple[int, bool]:
    """(degrees counter-clockwise, mirrored) of the display matrix: ISO/IEC 14496-12, 6.2.2."""
    if codec in _NAMES_SIDE_DATA:
        return frame.rotation % 360, False
    try:
        side_data = cast(Mapping[SideDataType, SideData], frame.side_data)[SideDataType.DISPLAYMATRIX]
    except KeyError:
        return 0, False
    except ValueError:
        # PyAV cannot list side data of a kind that it has no name for.
        return frame.rotation % 360, False
    matrix = np.frombuffer(memoryview(side_data), np.int32, count=9)
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    is_mirrored = a * d - b * c < 0
    if is_mirrored:
        a, c = -a, -c
    return round(np.degrees(np.arctan2(c, a)) / 90) * 90 % 360, is_mirrored


def _colour_tags(frame: VideoFrame, codec: str) -> ColourTags:
    """The frame's tags; RGB becomes BT.709 limited range, the pair that every player shows alike."""
    primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
    if frame.format.is_rgb:
        specified = [_BT709 if tag == _UNSPECIFIED else tag for tag in (primaries, transfer)]
        return ColourTags(_BT709, False, specified[0], specified[1])
    # FFmpeg leaves the range of grey JPEG files unspecified.
    is_full_jpeg = codec == "mjpeg" and not int(frame.color_range)
    is_full = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj") or is_full_jpeg
    # Matrix 0 means RGB; a grey picture that came with it has none of its own.
    return ColourTags(int(frame.colorspace) or _BT709, is_full, primaries, transfer)


def _without_padding(seconds: float, stream: AudioStream) -> float:
    """Return the container's duration if it differs by at most the codec's padding, else `seconds`."""
    claimed = float((stream.duration or 0) * (stream.time_base or 0))
    padding = MAX_PADDING_SAMPLES / stream.codec_context.sample_rate
    return claimed if claimed and abs(claimed - seconds) <= padding else seconds
