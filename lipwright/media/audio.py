"""Audio: the first track of any container on its presentation timeline, the 16 kHz copy for the models, and WAV."""

from __future__ import annotations

import math
import wave
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.errors import MediaError, MediaLimitError
from lipwright.media.audio_extent import (
    DECODE_TOLERANCE_SECONDS,
    MAX_PADDING_SAMPLES,
    MIN_GAP_SECONDS,
    AudioExtent,
    counted_packets,
)
from lipwright.media.container import discard_other_streams, ffmpeg_errors, open_container, origin_seconds
from lipwright.media.dubbing.time_stretch import stretch
from lipwright.media.probe import AudioInfo, audio_stream, mixable
from lipwright.media.speech_writer import SPEECH_SAMPLE_RATE, SpeechWriter

__all__ = ["SPEECH_SAMPLE_RATE", "AudioTrack", "convert_to_wav", "extract_speech", "num_output_frames"]

_INT16_SCALE: Final = 32768
_MAX_SAMPLE: Final = 65536.0
"""Full scale is 1, or 32768 for floats made from 16-bit integers; the AAC encoder accepts at most 1e16."""


class AudioTrack:
    """The first audio track of a file, decoded block by block from presentation time 0, in bounded memory.

    A late start and gaps are filled with silence; audio before time 0 and the codec's padding are dropped. The duration
    limit is enforced on the decoded audio.

    Raises:
        MediaError: The file has no usable audio.

    Attributes:
        info: The track's own rate and channels; `duration_seconds` is exact once `blocks` is exhausted.
    """

    info: AudioInfo

    def __init__(self, path: Path, limits: MediaLimits) -> None:
        self._path = path
        self._limits = limits
        self._container: InputContainer = open_container(path, limits)
        self._stream: AudioStream = audio_stream(self._container, path)
        discard_other_streams(self._container, self._stream)
        self._narrower: tuple[tuple[str, int], av.AudioResampler] | None = None
        context = self._stream.codec_context
        self.info = AudioInfo(context.sample_rate, context.layout.nb_channels, 0.0, context.name)

    def blocks(self, sample_rate: int, layout: str, sample_format: str) -> Iterator[NDArray[Any]]:
        """Yield the whole track, resampled; can be read once.

        `layout` is `mono` or `stereo`, and `sample_format` a planar or mono FFmpeg format, such as `fltp` or `s16p`.

        Yields:
            (channels, n) blocks in the dtype of `sample_format`; together round(duration x sample_rate) samples.

        Raises:
            MediaError: Nothing can be decoded.
            MediaLimitError: It is longer than allowed.
        """
        resampler = av.AudioResampler(format=sample_format, layout=layout, rate=sample_rate)
        num_out = 0
        setup: tuple[str, str, int] | None = None
        for frame in self._timeline():
            blocks: list[AudioFrame] = []
            found = (frame.format.name, frame.layout.name, frame.sample_rate)
            if setup not in (None, found):  # the format may change within a stream; a resampler cannot
                blocks = resampler.resample(None)
                resampler = av.AudioResampler(format=sample_format, layout=layout, rate=sample_rate)
            setup = found
            with mixable(self._path, frame):
                blocks += resampler.resample(frame)
            for block in blocks:
                num_out += block.samples
                yield block.to_ndarray()
        num_left = round(self.info.duration_seconds * sample_rate) - num_out
        for block in resampler.resample(None):
            samples = block.to_ndarray()[:, : max(num_left, 0)]
            num_left -= samples.shape[1]
            yield samples
        if num_left > 0:
            num_channels = 1 if layout == "mono" else 2
            dtype = np.int16 if sample_format.startswith("s16") else np.float32
            yield np.zeros((num_channels, num_left), dtype)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _timeline(self) -> Iterator[AudioFrame]:
        """Yield decoded frames with silence inserted and padding removed, at the track's rate."""
        num_samples = 0
        end: int | None = None
        origin = origin_seconds(self._container)
        extent = AudioExtent()
        rate = 0
        for frame in self._decode():
            if not rate:
                rate = frame.sample_rate
                end = self._padding_limit(rate)
                self.info = AudioInfo(rate, frame.layout.nb_channels, 0.0, self.info.codec)
            start = num_samples
            if frame.pts is not None and frame.time_base:
                start = round((frame.pts * frame.time_base - origin) * rate)
            gap = start - num_samples
            if gap > 0 and (num_samples == 0 or gap > MIN_GAP_SECONDS * rate):
                extent.gap_seconds += gap / rate
                self._check_length((num_samples + gap) / rate)
                yield from _silence(frame, gap)
                num_samples += gap
            stop = frame.samples
            if end is not None and 0 < num_samples + stop - end <= MAX_PADDING_SAMPLES:
                stop = max(end - num_samples, 0)
            first = min(-gap, stop) if gap < 0 and num_samples == 0 else 0
            if stop > first:
                yield _finite(frame, first, stop)
                num_samples += (stop - first) * rate // frame.sample_rate
            self._check_length(num_samples / rate)
        if not num_samples:
            raise MediaError(f"{self._path.name}: expected audio, found an empty audio track.")
        extent.seconds = num_samples / rate
        extent.check(self._path.name, self._limits, DECODE_TOLERANCE_SECONDS)
        self.info = AudioInfo(rate, self.info.num_channels, num_samples / rate, self.info.codec)

    def _decode(self) -> Iterator[AudioFrame]:
        last_error: FFmpegError | None = None
        num_frames = 0
        for packet in counted_packets(self._container, self._stream, self._path, AudioExtent()):
            try:
                for frame in packet.decode():
                    num_frames += 1
                    if frame.samples:
                        yield from self._numpy_compatible(frame)
            except FFmpegError as error:
                last_error = error  # a broken packet loses only its own audio
        with ffmpeg_errors(self._path, "readable audio packets"):
            if not num_frames and last_error is not None:
                raise last_error

    def _numpy_compatible(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        """The frame, with 64-bit integers converted to 32 bits: PyAV has no NumPy type for the former."""
        if not frame.format.name.startswith("s64"):
            yield frame
            return
        setup = (frame.layout.name, frame.sample_rate)
        if self._narrower is None or self._narrower[0] != setup:
            self._narrower = setup, av.AudioResampler(format="s32", layout=frame.layout.name, rate=frame.sample_rate)
        with mixable(self._path, frame):
            yield from self._narrower[1].resample(frame)

    def _padding_limit(self, rate: int) -> int | None:
        """Return the sample at which the track ends according to MP4; up to a frame beyond it is encoder padding."""
        if self._container.format.name != "mov,mp4,m4a,3gp,3g2,mj2" or not self._stream.duration:
            return None
        start = max(self._stream.start_time or 0, 0)
        end = (start + self._stream.duration) * (self._stream.time_base or 0)
        return round((end - origin_seconds(self._container)) * rate)

    def _check_length(self, seconds: float) -> None:
        if seconds > self._limits.max_audio_seconds + DECODE_TOLERANCE_SECONDS:
            raise MediaLimitError(
                f"{self._path.name}: expected at most {self._limits.max_audio_seconds:g} s of audio, found more."
            )


def extract_speech(path: Path, out: Path, limits: MediaLimits, speed: float = 1.0) -> AudioInfo:
    """Write a 16 kHz mono copy of a file's audio while it is decoded; see `lipwright.media.speech_writer`.

    `out` is replaced atomically. It holds (samples,) int16; sample 0 is presentation time 0. The copy is played at
    `speed`, with its pitch unchanged.

    Returns:
        The track's own rate and channels, and the counted duration at that speed.

    Raises:
        MediaError: No usable audio.
        MediaLimitError: Longer or larger than allowed.
    """
    track = AudioTrack(path, limits)
    layout = "mono" if track.info.num_channels == 1 else "stereo"
    try:
        with SpeechWriter(out) as writer:
            for block in _at_speed(track, layout, speed):
                writer.add(block)
    finally:
        track.close()
    return replace(track.info, duration_seconds=track.info.duration_seconds / speed)


def _at_speed(track: AudioTrack, layout: str, speed: float) -> Iterator[NDArray[np.int16]]:
    """Yield (channels, n) int16 blocks of a track at the rate of the speech copy."""
    if speed == 1:
        yield from track.blocks(SPEECH_SAMPLE_RATE, layout, "s16p")
        return
    for block in stretch(track.blocks(SPEECH_SAMPLE_RATE, layout, "fltp"), SPEECH_SAMPLE_RATE, speed):
        yield np.rint(block * _INT16_SCALE).clip(-_INT16_SCALE, _INT16_SCALE - 1).astype(np.int16)


def convert_to_wav(path: Path, out: Path, sample_rate: int, limits: MediaLimits) -> AudioInfo:
    """Write a file's audio as WAV: mono, 16 bits.

    Args:
        path: Any file with audio, also a video.
        out: The file to write.
        sample_rate: Samples per second of the result.
        limits: Limits on the input.

    Returns:
        The track's own rate, channels and counted duration.

    Raises:
        MediaError: No usable audio: there is none, or only silence; samples that are not numbers count as silence.
        MediaLimitError: Longer or larger than allowed.
    """
    track, is_silent = AudioTrack(path, limits), True
    try:
        with wave.open(str(out), "wb") as file:
            file.setparams((1, 2, sample_rate, 0, "NONE", ""))
            for block in track.blocks(sample_rate, "mono", "s16p"):
                is_silent = is_silent and not block.any()
                file.writeframes(block.astype("<i2").tobytes())
    finally:
        track.close()
    if is_silent:
        raise MediaError(f"{path.name}: the audio is silent.")
    return track.info


def num_output_frames(duration_seconds: float, fps: Fraction) -> int:
    """Return ceil(duration x fps): the number of frames that cover the audio.

    A thousandth of a frame, less than one audio sample, is treated as rounding error: 10.0 s at 25 fps is 250 frames
    even if the product is slightly larger.
    """
    return max(math.ceil(Fraction(duration_seconds) * fps - Fraction(1, 1000)), 1)


def _silence(like: AudioFrame, num_samples: int) -> Iterator[AudioFrame]:
    for start in range(0, num_samples, like.sample_rate):
        frame = AudioFrame(like.format.name, like.layout.name, min(like.sample_rate, num_samples - start))
        for plane in frame.planes:
            fill = 128 if like.format.name.startswith("u8") else 0
            np.frombuffer(memoryview(plane), np.uint8)[:] = fill
        frame.sample_rate = like.sample_rate
        yield frame


def _finite(frame: AudioFrame, first: int, stop: int) -> AudioFrame:
    """Return samples [first, stop) of a frame, NaN, infinity and huge values replaced by 0: resamplers spread them."""
    samples: NDArray[Any] = frame.to_ndarray()
    if samples.dtype.kind == "f" and not (np.abs(samples) <= _MAX_SAMPLE).all():
        samples = np.where(np.abs(samples) <= _MAX_SAMPLE, samples, samples.dtype.type(0))
    elif first == 0 and stop == frame.samples:
        frame.pts = None
        return frame
    step = 1 if frame.format.is_planar else frame.layout.nb_channels
    part = np.ascontiguousarray(samples[:, first * step : stop * step])
    cut = AudioFrame.from_ndarray(part, format=frame.format.name, layout=frame.layout.name)
    cut.sample_rate = frame.sample_rate
    return cut
