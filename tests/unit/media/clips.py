"""Real files made on the spot. Each picture carries its own number, each sound is noise that lines up one way only."""

from __future__ import annotations

import dataclasses
import os
import struct
import subprocess
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from lipwright.config import MediaLimits
from lipwright.media.array_files import load_array
from lipwright.media.audio import SPEECH_SAMPLE_RATE
from lipwright.media.live.mp4_boxes import box, full_box
from lipwright.media.probe import ColourTags, VideoInfo, probe_video
from lipwright.media.reader import FrameReader
from lipwright.media.writer import SegmentWriter
from lipwright.media.yuv_frame import YuvFrame
from models.speech.level import cut_speech

LIMITS = MediaLimits()
NUM_BITS = 12


@contextmanager
def normal_scheduling() -> Iterator[None]:
    """Restores the scheduling policy of the calling thread at the end of the block.

    As root, libsvtav1 moves the thread that opens it to SCHED_FIFO with priority 99 and leaves it there. All threads
    and processes that this thread starts later inherit that, and everything else on the machine starves.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """(H, W) luma: a slope that moves with `number`, and `number` in binary along the upper edge."""
    rows, columns = np.mgrid[:height, :width]
    luma = (60 + (columns + rows + 3 * number) % 128).astype(np.uint8)
    block = width // 16
    for bit in range(NUM_BITS):
        luma[:block, (2 + bit) * block : (3 + bit) * block] = 220 if number >> bit & 1 else 30
    return np.asarray(luma, np.uint8)


def number_of(planes: YuvFrame) -> int:
    """The number that `picture` wrote."""
    block = planes.y.shape[1] // 16
    luma = planes.y[block // 4 : block - block // 4]
    return sum(int(luma[:, (2 + bit) * block : (3 + bit) * block].mean() > 125) << bit for bit in range(NUM_BITS))


def frame_of(luma: NDArray[np.uint8], pixel_format: str) -> VideoFrame:
    """A frame with this luma, Cb 100 and Cr 150, in any format that swscale writes."""
    height, width = luma.shape
    frame = VideoFrame(width, height, "yuv444p")
    for plane, values in zip(frame.planes, (luma, np.full_like(luma, 100), np.full_like(luma, 150)), strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
        rows[:, :width] = values
    return frame.reformat(format=pixel_format)


def write_video(
    path: Path,
    num_frames: int,
    *,
    size: tuple[int, int] = (192, 128),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    fps: Fraction = Fraction(25),
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: int = 0,
    gop: int = 12,
    options: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    audio_seconds: float = 0.0,
    container_format: str | None = None,
) -> Path:
    """A video whose frame k shows `picture(k)`, upright once the display matrix is honoured."""
    with normal_scheduling(), av.open(path, "w", format=container_format) as container:
        assert isinstance(container, OutputContainer)
        stream: Any = container.add_stream(codec, rate=fps, options={"crf": "18", **(options or {})})
        coded = size if rotation % 180 == 0 else size[::-1]
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *coded, pixel_format, gop
        stream.codec_context.time_base = time_base or 1 / fps
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=48000, layout="mono") if audio_seconds else None
        for number in range(num_frames):
            upright = picture(number, *size)
            frame = frame_of(np.rot90(upright, -rotation // 90), pixel_format)
            for name, value in (tags or {}).items():
                setattr(frame, name, value)
            frame.pts, frame.time_base = (pts[number] if pts else number), time_base or 1 / fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            for block in audio_frames(noise(audio_seconds, 48000)[None], 48000, "fltp"):
                container.mux(sound.encode(block))
            container.mux(sound.encode(None))
    return path


def write_still(path: Path, codec: str, pixel_format: str, size: tuple[int, int] = (192, 128)) -> Path:
    """One picture as a file, as `picture(7)`."""
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = *size, pixel_format
    context.time_base = Fraction(1, 25)
    if codec == "mjpeg":
        context.color_range = 2
        context.options = {"qmin": "2", "qmax": "2"}
    frame = frame_of(picture(7, *size), pixel_format)
    path.write_bytes(b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)]))
    return path


def write_cover_picture(path: Path) -> Path:
    """Half a second of sound with a picture beside it, as music files have."""
    sound = write_audio(path.with_name("sound.mp3"), noise(0.5, 44100)[None], 44100, "libmp3lame")
    cover = write_still(path.with_name("cover.jpg"), "mjpeg", "yuvj420p")
    options = ("-i", sound, "-i", cover, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v", "attached_pic")
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *options, path], check=True)
    return path


def noise(seconds: float, sample_rate: int, seed: int = 1) -> NDArray[np.float32]:
    """Noise of up to 3 kHz whose loudness changes: the same sound at every sample rate."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    waves = [rng.normal() * np.sin(2 * np.pi * (f * time + rng.random())) for f in rng.uniform(100, 3000, 80)]
    loudness = 0.6 + 0.4 * np.sin(2 * np.pi * 1.7 * time)
    return np.asarray(0.03 * np.sum(waves, axis=0) * loudness, np.float32)


def audio_frames(samples: NDArray[np.float32], sample_rate: int, sample_format: str) -> list[AudioFrame]:
    """(channels, n) float samples as frames of 960 samples in `sample_format`."""
    layout = "mono" if len(samples) == 1 else "stereo"
    frames = []
    for start in range(0, samples.shape[1], 960):
        part = np.ascontiguousarray(samples[:, start : start + 960])
        frame = AudioFrame.from_ndarray(part, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, start, Fraction(1, sample_rate)
        if sample_format != "fltp":
            (frame,) = av.AudioResampler(sample_format, layout, sample_rate).resample(frame)
        frames.append(frame)
    return frames


def write_audio(
    path: Path,
    samples: NDArray[np.float32],
    sample_rate: int,
    codec: str,
    *,
    sample_format: str = "fltp",
    container_format: str | None = None,
    start_seconds: float = 0.0,
    gap_seconds: float = 0.0,
) -> Path:
    """(channels, n) float samples as a file; time stamps begin at `start_seconds`, with a gap after half a second."""
    with av.open(path, "w", format=container_format) as container:
        assert isinstance(container, OutputContainer)
        layout = "mono" if len(samples) == 1 else "stereo"
        stream: Any = container.add_stream(codec, rate=sample_rate, layout=layout, format=sample_format)
        for frame in audio_frames(samples, sample_rate, sample_format):
            pts = frame.pts or 0
            later = start_seconds + (gap_seconds if pts >= sample_rate // 2 else 0)
            frame.pts = pts + round(later * sample_rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_speech(speech: Path, start_seconds: float, stop_seconds: float) -> NDArray[np.float32]:
    """Mono samples in [-1, 1) of a part of a file that `extract_speech` wrote; zeros outside the file."""
    start, stop = (round(seconds * SPEECH_SAMPLE_RATE) for seconds in (start_seconds, stop_seconds))
    return cut_speech(load_array(speech), start, stop)


def lag_seconds(heard: NDArray[np.float32], expected: NDArray[np.float32], sample_rate: int) -> float:
    """By how much `heard` is late, from the peak of the cross-correlation."""
    size = len(heard) + len(expected)
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(expected, size))
    peak = int(np.argmax(np.fft.irfft(spectrum, size)))
    return float((peak if peak < size // 2 else peak - size) / sample_rate)


def info_of(width: int, height: int, fps: Fraction = Fraction(25), num_frames: int = 1, **changes: Any) -> VideoInfo:
    colour, seconds = ColourTags(1, False, 1, 1), float(num_frames / fps)
    info = VideoInfo(width, height, fps, num_frames, seconds, 0, False, False, colour, "h264", "yuv420p", False)
    return dataclasses.replace(info, **changes)


def planes_of(number: int, width: int, height: int) -> YuvFrame:
    """`picture(number)` as planes."""
    chroma = np.full((height // 2, width // 2), 100, np.uint8)
    return YuvFrame(picture(number, width, height), chroma, chroma + np.uint8(50))


def flat_planes(width: int, height: int, luma: int, cb: int = 128, cr: int = 128) -> YuvFrame:
    """A frame of one colour."""
    planes = ((height, width, luma), (height // 2, width // 2, cb), (height // 2, width // 2, cr))
    return YuvFrame(*(np.full((rows, columns), value, np.uint8) for rows, columns, value in planes))


class NumberedFrames:
    """A `FrameSource` of numbered pictures, or of one frame."""

    def __init__(self, frame: YuvFrame | None = None, size: tuple[int, int] = (192, 128)) -> None:
        self._frame, self._size = frame, size

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        for index in indices:
            yield self._frame or planes_of(index, *self._size)

    def close(self) -> None:
        pass


def write_segment(path: Path, frames: Iterable[int], writer: SegmentWriter, size: tuple[int, int] = (192, 128)) -> Path:
    """The pictures of these numbers, encoded."""
    for number in frames:
        writer.write(planes_of(number, *size))
    path.write_bytes(writer.finish())
    return path


def decode_all(path: Path) -> list[tuple[int, NDArray[np.uint8]]]:
    """(pts, flat yuv420p) of every frame, by PyAV alone."""
    with av.open(path) as container:
        frames = container.decode(video=0)
        return [(frame.pts or 0, np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8)) for frame in frames]


def read_frames(path: Path, indices: Sequence[int] | None = None) -> list[YuvFrame]:
    """Frames as `FrameReader` gives them, all by default."""
    info = probe_video(path, LIMITS)
    with FrameReader(path, info, 0) as reader:
        return list(reader.read(range(info.num_frames) if indices is None else indices))


def write_fast_video(path: Path, fps: int, num_frames: int = 75) -> Path:
    """A video whose frames follow one another at a rate that no camera has."""
    return write_video(path, num_frames, fps=Fraction(25), pts=range(num_frames), time_base=Fraction(1, fps))


def write_frozen_video(path: Path, freeze_seconds: float, num_before: int = 50, num_after: int = 25) -> Path:
    """25 fps in milliseconds; the picture before the gap stands still for `freeze_seconds`."""
    late = [num_before * 40 + round(1000 * freeze_seconds) + 40 * k for k in range(num_after)]
    pts = [40 * k for k in range(num_before)] + late
    return write_video(path, len(pts), pts=pts, time_base=Fraction(1, 1000))


def write_sound_with_gap(path: Path, gap_seconds: float, codec: str) -> Path:
    """Half a second of sound, a hole in the time stamps, half a second of sound."""
    kind = "flt" if codec == "libopus" else "fltp"
    return write_audio(path, noise(1.0, 48000)[None], 48000, codec, sample_format=kind, gap_seconds=gap_seconds)


def wav(
    samples: bytes, *, rate: int = 16000, kind: int = 1, bits: int = 16, channels: int = 1, num_bytes: int | None = None
) -> bytes:
    """A WAV file with the given header fields, true or not (`kind` 1: integers, 3: floats)."""
    declared = len(samples) if num_bytes is None else num_bytes
    block = channels * bits // 8
    form = struct.pack("<IHHIIHH", 16, kind, channels, rate, min(rate * block, 2**32 - 1), block, bits)
    total = struct.pack("<I", min(declared + 36, 2**32 - 1))
    return b"RIFF" + total + b"WAVEfmt " + form + b"data" + struct.pack("<I", declared) + samples


def write_loud_wav(path: Path, value: float) -> Path:
    """Half a second of 64-bit float sound with `value` in it twice."""
    samples = noise(0.5, 16000).astype("<f8")
    samples[3000], samples[5000] = value, -value
    path.write_bytes(wav(samples.tobytes(), kind=3, bits=64))
    return path


def write_chained_ogg(path: Path, num_channels: tuple[int, ...] = (1, 2)) -> Path:
    """Whole Ogg files one behind the other, as internet radio sends them; FFmpeg cannot change channels on the way."""
    parts = []
    for number, channels in enumerate(num_channels):
        part = path.with_suffix(f".{number}.ogg")
        samples = np.repeat(noise(0.6, 48000, number)[None], channels, 0)
        write_audio(part, samples, 48000, "libopus", sample_format="s16")
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))
    return path


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def packed_text(kind: bytes, num_bytes: int) -> bytes:
    """A compressed text of zeros."""
    return png_chunk(kind, b"Comment\0\0" + zlib.compress(bytes(num_bytes), 9))


def write_png(path: Path, chunks: bytes) -> Path:
    """A good picture with these chunks before its pixels."""
    still = write_still(path, "png", "rgb24").read_bytes()
    path.write_bytes(still[:33] + chunks + still[33:])
    return path


def write_tagged_sound(path: Path, num_frames: int) -> Path:
    """An MP3 with an ID3 tag of `num_frames` texts, each of another name."""
    sound = write_audio(path, noise(1.0, 44100)[None], 44100, "libmp3lame").read_bytes()
    texts = (b"\0k%d\0v%d" % (number, number) for number in range(num_frames))
    frames = b"".join(b"TXXX" + _syncsafe(len(text)) + bytes(2) + text for text in texts)
    path.write_bytes(b"ID3\4\0\0" + _syncsafe(len(frames)) + frames + sound)
    return path


def write_tiled_picture(path: Path) -> Path:
    """An AVIF picture of two tiles, as telephones store HEIC pictures. Both tiles are the same."""
    Image.new("RGB", (64, 64), "red").save(path, "AVIF")
    plain = path.read_bytes()
    head, size, codec, tile = (_box_in(plain, kind) for kind in (b"ftyp", b"ispe", b"av1C", b"mdat"))
    kinds = enumerate((b"av01", b"av01", b"grid"), 1)
    items = [full_box(b"infe", 2, 0, struct.pack(">HH4sx", number, 0, kind)) for number, kind in kinds]
    known = box(b"ipco", size, codec, full_box(b"ispe", 0, 0, struct.pack(">II", 128, 64)))
    uses = full_box(b"ipma", 0, 0, bytes((0, 0, 0, 3, 0, 1, 2, 1, 2, 0, 2, 2, 1, 2, 0, 3, 1, 3)))

    def meta(at: int) -> bytes:
        places = ((1, at, len(tile) - 8), (2, at, len(tile) - 8), (3, at + len(tile) - 8, 8))
        found = [struct.pack(">HHHII", item, 0, 1, start, length) for item, start, length in places]
        parts = {
            b"hdlr": [bytes(4), b"pict", bytes(13)],
            b"pitm": [struct.pack(">H", 3)],
            b"iloc": [struct.pack(">BBH", 0x44, 0, 3), *found],
            b"iinf": [struct.pack(">H", 3), *items],
            b"iref": [box(b"dimg", struct.pack(">4H", 3, 2, 1, 2))],
        }
        boxes = (full_box(kind, 0, 0, *content) for kind, content in parts.items())
        return full_box(b"meta", 0, 0, *boxes, box(b"iprp", known, uses))

    grid = struct.pack(">4B2H", 0, 0, 0, 1, 128, 64)
    path.write_bytes(head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", tile[8:], grid))
    return path


def _box_in(file: bytes, kind: bytes) -> bytes:
    at = file.index(kind) - 4
    return file[at : at + int.from_bytes(file[at : at + 4], "big")]


def write_edited_video(path: Path, num_edits: int) -> Path:
    """An MP4 whose edit list shows its last frames `num_edits` times, each time from the one key frame before them."""
    movie = bytearray(write_video(path, 250, gop=250, size=(64, 64)).read_bytes())
    at = movie.index(b"elst") - 4
    (size,) = struct.unpack_from(">I", movie, at)
    edits = struct.pack(">IiI", 100, 240 * 512, 65536) * num_edits  # 100 ms; 512 units a frame
    box = struct.pack(">I4sII", 16 + len(edits), b"elst", 0, num_edits) + edits
    for name in (b"moov", b"trak", b"edts"):
        start = movie.index(name) - 4
        struct.pack_into(">I", movie, start, struct.unpack_from(">I", movie, start)[0] + len(box) - size)
    path.write_bytes(movie[:at] + box + movie[at + size :])
    return path


def _syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))
