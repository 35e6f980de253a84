"""Tests whether the installed FFmpeg supports what Lipwright needs, on tiny files and with the code of jobs."""

from __future__ import annotations

import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.codec.codec import Codec, UnknownCodecError
from av.error import FFmpegError
from av.format import ContainerFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.errors import ConfigError, LipwrightError, MediaError
from lipwright.media.audio_parts import AudioPart
from lipwright.media.container import FORMATS
from lipwright.media.labels.blank_video import FPS, plain_info
from lipwright.media.output.formats import MP4, H264Encoder
from lipwright.media.probe import probe_audio, probe_video
from lipwright.media.reader import FrameReader
from lipwright.media.result.concat import concat_segments
from lipwright.media.result.sound_mix import ResultSound
from lipwright.media.writer import SegmentWriter
from lipwright.media.yuv_frame import YuvFrame

DECODERS: Final = (
    *("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "prores", "mjpeg", "png", "webp"),
    *("aac", "mp3", "opus", "vorbis", "flac", "alac", "pcm_s16le", "pcm_s24le", "amrnb", "wmav2"),
)
"""Supported codecs of uploads."""

_SAMPLES: Final = (
    ("webm", "libvpx-vp9"),
    ("avi", "mpeg4"),
    ("mpegts", "mpeg2video"),
    ("mov", "prores_ks"),
    ("mp3", "libmp3lame"),
    ("ogg", "libopus"),
    ("flac", "flac"),
    ("wav", "pcm_s16le"),
)
"""Formats and encoders of small files that are written and read back, if this FFmpeg can write them."""

_SIDE: Final = 192
_NUM_FRAMES: Final = 6
_SAMPLE_RATE: Final = 16000
_MAX_LUMA_ERROR: Final = 6.0
"""Mean over a frame, of 255; about 1 at this CRF."""


def missing_decoders(formats: str = FORMATS, codecs: Sequence[str] = DECODERS) -> list[str]:
    """Return the demuxers (of a comma-separated list) and codecs that this FFmpeg lacks."""
    demuxers = [name for name in formats.split(",") if not _has(ContainerFormat, name, "r")]
    return demuxers + [name for name in codecs if not _has(Codec, name, "r")]


def check_encoder(encoder: H264Encoder) -> None:
    """Refuse a hardware encoder that does not work here.

    Raises:
        ConfigError: FFmpeg lacks it or cannot open it, or what it encodes cannot be joined and read back.
    """
    if encoder == "x264":
        return  # part of PyAV's wheel
    with tempfile.TemporaryDirectory() as folder:
        try:
            try_round_trip(Path(folder), encoder)
        except (LipwrightError, FFmpegError, UnknownCodecError) as error:
            raise ConfigError(
                f"render.encoder: {encoder} does not work on this machine ({error}). It needs NVIDIA's driver and a "
                "GPU with NVENC, which A100 and H100 lack. Set render.encoder to x264 to encode on the CPU."
            ) from error


def try_round_trip(folder: Path, encoder: H264Encoder = "x264") -> None:
    """Encode a moving picture and a tone as a job does (H.264, AAC, MP4), in two segments, read them and compare.

    Raises:
        MediaError: The decoded content differs from what was written.
        FFmpegError: An encoder or the muxer failed.
    """
    info = plain_info(_SIDE, _NUM_FRAMES)
    segments = [folder / "segment.mp4", folder / "segment2.mp4"]
    tone, out = folder / "tone.wav", folder / "out.mp4"
    written = [_picture(number) for number in range(_NUM_FRAMES)]
    for segment, pictures in zip(segments, (written[:-2], written[-2:]), strict=True):
        writer = SegmentWriter(info, crf=20, preset="veryfast", file_format=MP4.with_encoder(encoder, info))
        for planes in pictures:
            writer.write(planes)
        segment.write_bytes(writer.finish())
    _write_tone(tone)
    concat_segments(segments, ResultSound([AudioPart(tone)]), out, info, _NUM_FRAMES)
    compare_pictures(out, written)


def unreadable_samples(folder: Path) -> list[str]:
    """Write a small file of each format in `_SAMPLES`, open it like an upload and decode it; return failures."""
    failures = []
    for container, codec in _SAMPLES:
        if not _has(Codec, codec, "w"):
            continue
        path = folder / f"sample.{container}"
        try:
            kind = _write_sample(path, container, codec)
            (probe_video if kind == "video" else probe_audio)(path, MediaLimits())
        except (MediaError, FFmpegError) as error:
            failures.append(f"{container} with {codec}: {error}")
    return failures


def compare_pictures(path: Path, written: Sequence[YuvFrame]) -> None:
    """Read a video; MediaError unless it shows `written`, frame by frame, and has audio."""
    limits = MediaLimits()
    info = probe_video(path, limits)
    probe_audio(path, limits)
    if info.num_frames != len(written):
        raise MediaError(f"Expected {len(written)} frames, found {info.num_frames}.")
    with FrameReader(path, info, cache_bytes=1) as reader:
        for number, (frame, expected) in enumerate(zip(reader.read(range(len(written))), written, strict=True)):
            difference = float(np.abs(frame.y.astype(np.int16) - expected.y).mean())
            if difference > _MAX_LUMA_ERROR:
                raise MediaError(
                    f"Frame {number}: expected the picture that was written, found one {difference:.0f} off."
                )


def _write_sample(path: Path, container: str, codec: str) -> str:
    """Write a fraction of a second; return "video" or "audio"."""
    with av.open(str(path), "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=48000 if Codec(codec, "w").type == "audio" else 25)
        frames = _sample_frames(stream)
        for frame in (*frames, None):
            output.mux(stream.encode(frame))
        return str(stream.type)


def _sample_frames(stream: Any) -> list[Any]:
    if stream.type == "audio":
        layout, wanted = "mono", stream.codec_context.format or "s16"
        stream.layout = layout
        tone = AudioFrame.from_ndarray(_tone(48000)[None, :], format="s16", layout=layout)
        tone.sample_rate = 48000
        return list(AudioResampler(wanted, layout, 48000).resample(tone))
    stream.width = stream.height = _SIDE
    stream.pix_fmt = "yuv422p10le" if stream.codec_context.name == "prores_ks" else "yuv420p"
    pictures = []
    for number in range(_NUM_FRAMES):
        rows = np.concatenate([plane.reshape(-1, _SIDE) for plane in _picture(number)])
        picture = VideoFrame.from_ndarray(rows, format="yuv420p").reformat(format=stream.pix_fmt)
        picture.pts = number
        pictures.append(picture)
    return pictures


def _picture(number: int) -> YuvFrame:
    """Return a gradient with a bright square that moves right with every frame."""
    y = np.tile(np.linspace(40, 160, _SIDE).astype(np.uint8), (_SIDE, 1))
    left = _SIDE // 8 * number
    y[_SIDE // 4 : _SIDE * 5 // 8, left : left + _SIDE // 4] = 220
    chroma = np.full((_SIDE // 2, _SIDE // 2), 128, np.uint8)
    return YuvFrame(y, chroma, chroma.copy())


def _tone(rate: int) -> NDArray[np.int16]:
    seconds = np.arange(int(rate * float(_NUM_FRAMES / FPS))) / rate
    return (8000 * np.sin(2 * np.pi * 440 * seconds)).astype(np.int16)


def _write_tone(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_SAMPLE_RATE)
        file.writeframes(_tone(_SAMPLE_RATE).tobytes())


def _has(kind: type[Codec] | type[ContainerFormat], name: str, mode: Literal["r", "w"]) -> bool:
    try:
        kind(name, mode)
    except ValueError:
        return False
    return True
