"""Fragments of the preview of a running job, and thumbnails of results and of faces in a source.

It reads only files that this service wrote: segments, the concatenated result, and the 16 kHz copy of the speech.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from lipwright.config import MediaLimits
from lipwright.errors import MediaError, StoredFileError
from lipwright.media.array_files import load_array
from lipwright.media.container import ffmpeg_errors, open_container
from lipwright.media.frame_table import video_stream
from lipwright.media.output.dynamic_range import to_sdr_rgb
from lipwright.media.probe import ColourTags
from lipwright.media.result.stream_copy import IN_BAND_TAG, MAX_REORDER_DEPTH
from lipwright.media.speech_writer import SPEECH_SAMPLE_RATE
from lipwright.media.yuv_frame import YuvFrame, frame_planes

# `delay_moov` writes `moov` with the first fragment, when both encoders' delays are known for its edit lists.
_OPTIONS: Final = {"movflags": "+empty_moov+delay_moov+default_base_moof+use_metadata_tags", "frag_duration": "200000"}
_AAC_FRAME: Final = 1024
_BIT_RATE: Final = 64_000
_INT16_SCALE: Final = 32768
# The muxer holds video back until it has later audio, so the audio leads by two AAC frames.
_SOUND_AHEAD_SECONDS: Final = Fraction(2 * _AAC_FRAME, SPEECH_SAMPLE_RATE)
_PIECE_BYTES: Final = 256 * 1024
_LIMITS: Final = MediaLimits(max_upload_bytes=2**62, max_pixels=2**28)  # results may be larger than uploads


class LivePreview:
    """Fragments of a running job: its segments by packet copy, its speech as 16 kHz AAC.

    The first segment defines the encoder settings. `speech`, a file of `lipwright.media.audio.extract_speech`, is
    mapped, so it may be deleted meanwhile.

    Raises:
        StoredFileError: A file is missing.
    """

    def __init__(self, first: Path, speech: Path, tags: Mapping[str, str] = MappingProxyType({})) -> None:
        self._sink = _Sink()
        self._container = _new_container(self._sink)
        self._container.metadata.update(tags)
        with open_container(first, _LIMITS) as container:
            template = video_stream(container, first)
            self._fps = _exact_rate(template, first)
            # With in-band headers, later segments may reorder more frames than the first.
            is_in_band = template.codec_context.codec_tag == IN_BAND_TAG
            self._delay = MAX_REORDER_DEPTH if is_in_band else template.codec_context.reorder_depth
            self._video = self._container.add_stream_from_template(template, opaque=True)
            self._video.codec_context.codec_tag = template.codec_context.codec_tag
        self._video.time_base = 1 / self._fps
        self._sound: AudioStream = self._container.add_stream("aac", rate=SPEECH_SAMPLE_RATE)
        self._sound.codec_context.layout = "mono"
        self._sound.codec_context.bit_rate = _BIT_RATE
        self._samples = load_array(speech, "r")
        self._num_samples = 0
        self.num_frames = 0

    @property
    def seconds(self) -> float:
        """Duration added so far."""
        return float(self.num_frames / self._fps)

    def add_segment(self, path: Path) -> Iterator[bytes]:
        """Append the next segment; yield pieces of the stream of at most about 256 KiB."""
        yield from self._add(path, self.num_frames, 0)

    def add_rest(self, result: Path) -> Iterator[bytes]:
        """Append the remaining frames of the concatenated result, and end the stream; yield its pieces."""
        yield from self._add(result, 0, self.num_frames)
        yield from self.end()

    def end(self) -> Iterator[bytes]:
        """End the stream with the buffered packets; later calls yield nothing."""
        self._add_sound(Fraction(self.num_frames) / self._fps)
        self._container.mux(self._sound.encode(None))
        self._container.close()
        yield self._sink.take()

    def _add(self, path: Path, first_frame: int, num_skipped: int) -> Iterator[bytes]:
        with open_container(path, _LIMITS, is_complete=True) as container:
            for number, packet in enumerate(_packets(container, video_stream(container, path))):
                if number < num_skipped:
                    continue
                assert packet.pts is not None and packet.time_base is not None
                packet.pts = first_frame + round(packet.pts * packet.time_base * self._fps)
                packet.dts = self.num_frames - self._delay
                packet.duration, packet.time_base, packet.stream = 1, 1 / self._fps, self._video
                self._add_sound(Fraction(self.num_frames) / self._fps + _SOUND_AHEAD_SECONDS)
                self._container.mux(packet)
                self.num_frames += 1
                if self._sink.num_bytes >= _PIECE_BYTES:
                    yield self._sink.take()
        yield self._sink.take()

    def _add_sound(self, until_seconds: Fraction) -> None:
        """Encode the speech up to a time, in whole AAC frames; the last one may be shorter."""
        stop = min(len(self._samples), math.ceil(until_seconds * SPEECH_SAMPLE_RATE))
        while self._num_samples < stop:
            start = self._num_samples
            samples = self._samples[None, start : start + _AAC_FRAME].astype("float32") / _INT16_SCALE
            frame = AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = SPEECH_SAMPLE_RATE
            frame.pts, frame.time_base = start, Fraction(1, SPEECH_SAMPLE_RATE)
            self._num_samples += samples.shape[1]
            self._container.mux(self._sound.encode(frame))


def finished_preview(result: Path, tags: Mapping[str, str] = MappingProxyType({})) -> Iterator[tuple[float, bytes]]:
    """Yield the concatenated result as fragments, by packet copy.

    Yields:
        Pairs of the time in seconds at which a piece ends, and the piece of about 256 KiB.

    Raises:
        StoredFileError: The file is missing.
    """
    sink, seconds = _Sink(), 0.0
    with open_container(result, _LIMITS) as source, _new_container(sink) as target:
        target.metadata.update(tags)
        streams = [video_stream(source, result), *source.streams.audio[:1]]
        copies = {stream.index: target.add_stream_from_template(stream, opaque=True) for stream in streams}
        for stream in streams:
            copies[stream.index].codec_context.codec_tag = stream.codec_context.codec_tag
        for packet in _packets(source, *streams):
            assert packet.dts is not None and packet.time_base is not None
            seconds = max(seconds, float(packet.dts * packet.time_base))
            packet.stream = copies[packet.stream.index]
            target.mux(packet)
            if sink.num_bytes >= _PIECE_BYTES:
                yield seconds, sink.take()
    yield seconds, sink.take()


class _Sink:
    """A write-only file that is drained between writes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.num_bytes = 0

    def write(self, piece: bytes) -> int:
        """Called by PyAV."""
        self._parts.append(bytes(piece))
        self.num_bytes += len(piece)
        return len(piece)

    def take(self) -> bytes:
        """Return the bytes written since the last call."""
        taken, self._parts, self.num_bytes = b"".join(self._parts), [], 0
        return taken


def _new_container(sink: _Sink) -> OutputContainer:
    container = av.open(sink, "w", format="mp4", options=_OPTIONS)
    assert isinstance(container, OutputContainer)
    return container


def _packets(container: InputContainer, *streams: Stream) -> Iterator[Packet[Any]]:
    """Yield the packets of these streams, without the empty ones at the end."""
    return (packet for packet in container.demux(*streams) if packet.size and packet.pts is not None)


def _exact_rate(stream: VideoStream, path: Path) -> Fraction:
    """Return the frame rate from the H.264 headers, which is set even for a single frame."""
    rate = stream.codec_context.framerate or stream.average_rate
    if not rate:
        raise StoredFileError(f"{path.name}: expected a segment with a frame rate, found none.")
    return Fraction(rate)


_FACE_SIDE: Final = 160  # pixels
_PICTURE_SIDE: Final = 640
_THUMBNAIL_SIDE: Final = 320
_FACE_SURROUNDINGS: Final = 1.7  # side of the picture of a face relative to the face
_FULL_RANGE: Final = 2  # JPEG is full range: JFIF 1.02, "all 256 levels"


def thumbnail(path: Path) -> bytes:
    """Return the first frame of a segment or a result as a JPEG file, at most 320 pixels wide and high.

    Raises:
        MediaError: No frame can be decoded.
    """
    with open_container(path, _LIMITS) as container, ffmpeg_errors(path, "a video"):
        stream = video_stream(container, path)
        frame = next(container.decode(stream), None)
        pixel_aspect = float(stream.sample_aspect_ratio or 1)
    if frame is None:
        raise MediaError(f"{path.name}: expected a picture, found none.")
    small = _small(frame, pixel_aspect, _THUMBNAIL_SIDE)
    colour = ColourTags(int(frame.colorspace), True, int(frame.color_primaries), int(frame.color_trc))
    return frame_thumbnail(frame_planes(small), colour)


def frame_size(path: Path) -> tuple[int, int]:
    """Return the width and height of a result in pixels.

    Raises:
        MediaError: It is not a video.
        StoredFileError: The file is missing.
    """
    with open_container(path, _LIMITS, is_complete=True) as container:
        context = video_stream(container, path).codec_context
        return context.width, context.height


def face_thumbnail(
    frame: YuvFrame, colour: ColourTags, box: tuple[float, float, float, float], pixel_aspect: float = 1.0
) -> bytes:
    """Return a face with some of its surroundings as a JPEG file, at most 160 pixels wide and high.

    Args:
        frame: The frame.
        colour: Its colour tags.
        box: x0, y0, x1, y1 around the face in pixels.
        pixel_aspect: Width of a pixel over its height.
    """
    x0, y0, x1, y1 = box
    side = _FACE_SURROUNDINGS * max((x1 - x0) * pixel_aspect, y1 - y0)
    (left, right), (top, bottom) = (
        (int(max(0, middle - length / 2)) // 2 * 2, int(min(limit, middle + length / 2)) // 2 * 2)
        for middle, length, limit in (
            ((x0 + x1) / 2, side / pixel_aspect, frame.y.shape[1]),
            ((y0 + y1) / 2, side, frame.y.shape[0]),
        )
    )
    half = (slice(top // 2, bottom // 2), slice(left // 2, right // 2))
    part = YuvFrame(frame.y[top:bottom, left:right], frame.u[half], frame.v[half])
    return frame_thumbnail(part, colour, pixel_aspect, _FACE_SIDE)


def frame_thumbnail(
    frame: YuvFrame, colour: ColourTags, pixel_aspect: float = 1.0, max_side: int = _PICTURE_SIDE
) -> bytes:
    """Return a frame as a JPEG file, at most `max_side` pixels wide and high; arguments as in `face_thumbnail`."""
    picture = VideoFrame.from_ndarray(to_sdr_rgb(frame, colour), format="rgb24")
    return _jpeg(_small(picture, pixel_aspect, max_side))


def _small(frame: VideoFrame, pixel_aspect: float, max_side: int) -> VideoFrame:
    """Return the picture with square pixels, at most `max_side`, rounded to even, in the format that JPEG needs."""
    width = frame.width * pixel_aspect
    scale = min(1.0, max_side / max(width, frame.height))
    even_width, even_height = (max(2, round(side * scale / 2) * 2) for side in (width, frame.height))
    exact = Interpolation.BILINEAR | Interpolation.ACCURATE_RND
    return frame.reformat(even_width, even_height, "yuvj420p", interpolation=exact, dst_color_range=_FULL_RANGE)


def _jpeg(frame: VideoFrame) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="image2pipe") as container:
        assert isinstance(container, OutputContainer)
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuvj420p"
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
