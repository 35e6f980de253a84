from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error
import numpy as np
import pytest
from PIL import ExifTags, Image

from lipwright.config import MediaLimits
from lipwright.errors import InputError, MediaError, MediaLimitError, StoredFileError
from lipwright.media.container import ffmpeg_errors, open_container
from lipwright.media.frame_rate import FrameRate, frame_rate
from lipwright.media.headers import MAX_TEXTS
from lipwright.media.probe import probe_audio, probe_video
from lipwright.media.yuv_frame import to_rgb
from tests.unit.media.clips import (
    LIMITS,
    noise,
    number_of,
    packed_text,
    png_chunk,
    read_frames,
    write_audio,
    write_cover_picture,
    write_edited_video,
    write_fast_video,
    write_frozen_video,
    write_png,
    write_still,
    write_tiled_picture,
    write_video,
)


def test_probe_video_describes_a_video(h264: Path) -> None:
    info = probe_video(h264, LIMITS)
    assert (info.width, info.height, info.fps, info.num_frames) == (192, 128, Fraction(25), 60)
    assert (info.duration_seconds, info.codec, info.pixel_format) == (2.4, "h264", "yuv420p")
    assert info.has_audio and not info.is_still and not info.is_variable_rate


def test_probe_video_empty_audio_track_is_no_audio(tmp_path: Path) -> None:
    assert not probe_video(write_video(tmp_path / "v.mkv", 5, audio_seconds=1e-6), LIMITS).has_audio


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(50), Fraction(15)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_probe_video_frame_rate_is_exact(tmp_path: Path, suffix: str, rate: Fraction) -> None:
    info = probe_video(write_video(tmp_path / f"v.{suffix}", 40, fps=rate), LIMITS)
    assert (info.fps, info.num_frames, info.is_variable_rate) == (rate, 40, False)


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix"),
    [("png", "rgba", "png"), ("mjpeg", "yuvj420p", "jpg"), ("libwebp", "yuv420p", "webp")],
)
def test_probe_video_still_is_known_by_its_bytes(tmp_path: Path, codec: str, pixel_format: str, suffix: str) -> None:
    named = write_still(tmp_path / f"a%03d.{suffix}", codec, pixel_format)
    for name in (named.name, "bare", f"b%03d.{suffix}"):
        path = named = named.rename(tmp_path / name)
        info = probe_video(path, LIMITS)
        assert info.is_still and info.num_frames == 1 and (info.width, info.height) == (192, 128)


T = Image.Transpose
_TURNS = (T.FLIP_LEFT_RIGHT, T.ROTATE_180, T.FLIP_TOP_BOTTOM, T.TRANSPOSE, T.ROTATE_90, T.TRANSVERSE, T.ROTATE_270)
"""Make an upright picture what EXIF's orientations 2 to 8 describe."""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_reader_still_is_turned_by_its_exif_orientation(tmp_path: Path, kind: str, orientation: int) -> None:
    upright = Image.new("RGB", (64, 48), "blue")
    upright.paste("red", (0, 0, 32, 24))  # the upper left quarter
    stored = upright if orientation == 1 else upright.transpose(_TURNS[orientation - 2])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / "a"
    stored.save(path, kind, exif=exif)
    (planes,) = read_frames(path)
    red = planes.v > 160
    assert red.shape == (24, 32) and red[:11, :15].all() and red.mean() < 0.3


def test_probe_video_other_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    for content in (b"", b"<!doctype html><html></html>" * 40, b"\0" * 4096):
        path.write_bytes(content)
        with pytest.raises(MediaError, match=r"^clip\.mp4: expected .* found"):
            probe_video(path, LIMITS)
    os.mkfifo(tmp_path / "pipe.mp4")
    for other in (tmp_path / "pipe.mp4", tmp_path):
        with pytest.raises(MediaError, match=other.name):
            open_container(other, LIMITS)


@pytest.mark.parametrize("suffix", ["mp4", "ffconcat", "m3u8"])
def test_open_container_playlist_is_refused(h264: Path, tmp_path: Path, suffix: str) -> None:
    neighbour = tmp_path / "neighbour.mp4"
    neighbour.write_bytes(h264.read_bytes())
    script = tmp_path / f"script.{suffix}"
    for text in ("ffconcat version 1.0\nfile 'neighbour.mp4'\n", f"#EXTM3U\n#EXTINF:2,\n{neighbour}\n#EXT-X-ENDLIST\n"):
        script.write_text(text)
        with pytest.raises(MediaError, match=r"picture file, found a (playlist, a script|file that is damaged)[^']*$"):
            open_container(script, LIMITS)


def test_probe_video_truncated_file_is_explained(h264: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(h264.read_bytes()[:4000])
    with pytest.raises(MediaError) as caught:
        probe_video(path, LIMITS)
    assert str(caught.value) == (
        "cut.mp4: expected an audio, video or picture file, found a file that is damaged, incomplete or of another "
        "type. Check that it plays on your device and send it again, or convert it, for example to MP4, WAV or PNG."
    )
    (logged,) = caplog.messages
    assert logged.startswith("cut.mp4: FFmpeg rejected the file: Invalid data") and "moov atom not found" in logged


def test_probe_missing_stream_names_the_found_ones(h264: Path, tmp_path: Path) -> None:
    wav = write_audio(tmp_path / "a.wav", noise(0.2, 16000)[None], 16000, "pcm_s16le", sample_format="s16")
    with pytest.raises(MediaError, match=r"a\.wav: expected a video stream or a picture, found only: audio"):
        probe_video(wav, LIMITS)
    song = write_cover_picture(tmp_path / "a.mp3")
    with pytest.raises(MediaError, match=r"a\.mp3: expected a video stream .*, found only: a cover picture, audio"):
        probe_video(song, LIMITS)
    assert probe_audio(song, LIMITS).codec == "mp3float"
    silent = write_video(tmp_path / "silent.mp4", 2)
    with pytest.raises(MediaError, match=r"silent\.mp4: expected an audio track, found only: video"):
        probe_audio(silent, LIMITS)


@pytest.mark.parametrize(
    ("limit", "value"),
    [("pixels", 10_000), ("video_seconds", 1), ("video_frames", 10), ("upload_bytes", 1000), ("streams", 1)],
)
def test_probe_video_beyond_a_limit_is_refused(h264: Path, limit: str, value: int) -> None:
    with pytest.raises(MediaLimitError, match=r"h264\.mp4: expected at most"):
        probe_video(h264, MediaLimits.model_validate({f"max_{limit}": value}))
    with pytest.raises(MediaLimitError, match="at most 1 s"):
        probe_audio(h264, MediaLimits(max_audio_seconds=1.0))


def test_probe_video_picture_with_too_many_pixels_is_refused(tmp_path: Path) -> None:
    path = write_still(tmp_path / "big.png", "png", "gray", (2000, 2000))
    with pytest.raises(MediaLimitError, match=r"big\.png"):
        probe_video(path, MediaLimits(max_pixels=1_000_000))
    png = path.read_bytes()
    path.write_bytes(png[:8] + png_chunk(b"IHDR", struct.pack(">II", 20_000, 20_000) + png[24:29]) + png[33:])
    with pytest.raises(MediaLimitError, match="too many pixels"):  # more than FFmpeg takes
        probe_video(path, LIMITS)


def test_probe_video_animated_webp_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "moving.png"
    pictures = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    pictures[0].save(path, "WEBP", save_all=True, append_images=pictures[1:])
    with pytest.raises(MediaError, match="animated WebP"):
        probe_video(path, LIMITS)


def test_probe_video_picture_of_tiles_is_refused(tmp_path: Path) -> None:
    path = write_tiled_picture(tmp_path / "a.heic")
    with pytest.raises(MediaError, match=r"a\.heic: expected a picture in one piece, found .* Convert it"):
        probe_video(path, MediaLimits(max_streams=1))  # telephones store dozens of tiles


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "P"), ("WEBP", "RGBA")])
def test_reader_transparent_still_is_on_white(tmp_path: Path, kind: str, mode: str) -> None:
    picture = Image.new("RGBA", (64, 48), (0, 0, 0, 0))  # black that nobody sees
    picture.paste((0, 0, 0, 255), (0, 0, 32, 48))
    if mode != "P":
        picture.paste((0, 0, 0, 128), (0, 24, 32, 48))
    path = tmp_path / "a"
    picture.convert(mode).save(path, kind, exact=True)
    (planes,) = read_frames(path)
    black, white = (0, 255) if probe_video(path, LIMITS).colour.full_range else (16, 235)
    assert np.abs(planes.y[4:20, 4:28].astype(int) - black).max() <= 4
    assert np.abs(planes.y[4:-4, 36:-4].astype(int) - white).max() <= 4
    if mode != "P":
        assert np.abs(planes.y[28:-4, 4:28].astype(int) - (black + white) // 2).max() <= 4


def test_reader_grey_jpeg_keeps_its_levels(tmp_path: Path) -> None:
    path = tmp_path / "a"
    Image.new("L", (64, 48), 250).save(path, "JPEG")
    (planes,) = read_frames(path)
    assert np.abs(to_rgb(planes, probe_video(path, LIMITS).colour).astype(int) - 250).max() <= 1


def test_probe_video_long_edit_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaLimitError, match=r"many\.mp4: expected an edit list that decodes at most"):
        probe_video(write_edited_video(tmp_path / "many.mp4", 10_000), LIMITS)
    assert probe_video(write_edited_video(tmp_path / "few.mp4", 50), LIMITS).num_frames == 150


def _invalid_data(logged: Any) -> av.error.FFmpegError:
    log: Any = (16, "mov", logged)
    return av.error.InvalidDataError(1094995529, "Invalid data found", log=log)


@pytest.mark.parametrize(
    ("error", "kind", "found"),
    [
        (av.error.DecoderNotFoundError(1128613112, "Decoder not found"), MediaError, "not supported. Convert it"),
        (av.error.PatchWelcomeError(1163346256, "Not yet implemented"), MediaError, "not supported. Convert it"),
        (av.error.MemoryError(12, "Cannot allocate memory"), MediaLimitError, "too much memory to be read. Send"),
        (_invalid_data("Picture size exceeds specified max pixel count 9"), MediaLimitError, "(limit: limits.max_pix"),
        (_invalid_data("title\nERROR: forged\x1b[31m" + "x" * 5000), MediaError, "damaged, incomplete or of another"),
    ],
)
def test_ffmpeg_errors_are_explained_and_logged(
    error: av.error.FFmpegError, kind: type[InputError], found: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(kind) as caught, ffmpeg_errors(Path("/uploads/me.mp4"), "a video"):
        raise error
    message = str(caught.value)
    assert message.startswith("me.mp4: expected a video, found a ") and found in message
    assert str(error.strerror) not in message and "FFmpeg" not in message
    (logged,) = caplog.messages
    assert str(error.strerror) in logged and logged.isprintable() and len(logged) < 400


def test_ffmpeg_errors_deleted_file_is_missing() -> None:
    with pytest.raises(StoredFileError, match=r"000002\.mp4: .* missing"), ffmpeg_errors(Path("000002.mp4"), "a video"):
        raise av.error.FileNotFoundError(2, "No such file or directory")


@pytest.mark.parametrize(
    ("chunks", "limit"),
    [
        (packed_text(b"zTXt", 64 << 20), "16 MiB of texts"),
        (packed_text(b"iCCP", 64 << 20), "16 MiB of texts"),
        (packed_text(b"zTXt", 10_000_000) * 1000, "16 MiB of texts"),
        (b"".join(png_chunk(b"tEXt", b"k%d\0v" % n) for n in range(MAX_TEXTS + 1)), f"{MAX_TEXTS} texts"),
    ],
    ids=["one text", "colour profile", "many large texts", "many texts"],
)
def test_probe_video_png_with_many_texts_is_refused(tmp_path: Path, chunks: bytes, limit: str) -> None:
    path = write_png(tmp_path / "bomb.png", chunks)
    with pytest.raises(MediaLimitError, match=rf"bomb\.png: expected at most {limit}"):
        probe_video(path, LIMITS)
    behind = write_still(tmp_path / "a", "png", "rgb24")
    behind.write_bytes(behind.read_bytes() + path.read_bytes())
    with pytest.raises(MediaLimitError, match=limit):
        probe_video(behind, LIMITS)


def test_probe_video_png_colour_profile_keeps_the_process(tmp_path: Path, repo_root: Path) -> None:
    path = write_png(tmp_path / "p.png", packed_text(b"iCCP", 1 << 20))
    code = (
        "import gc; from pathlib import Path; from lipwright.config import MediaLimits;"
        "from lipwright.media.probe import probe_video;"
        f"probe_video(Path({str(path)!r}), MediaLimits()); gc.collect(); print('whole')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "whole\n")


def test_probe_video_png_with_ordinary_texts_passes(tmp_path: Path) -> None:
    texts = png_chunk(b"tEXt", b"p\0" + b"a" * 2**21) + packed_text(b"iCCP", 1 << 20) + png_chunk(b"zTXt", b"broken")
    assert probe_video(write_png(tmp_path / "p.png", texts), LIMITS).is_still
    cut = tmp_path / "cut.png"
    cut.write_bytes(write_png(tmp_path / "q.png", texts).read_bytes()[:500_000])
    with pytest.raises(Exception, match=r"cut\.png"):
        probe_video(cut, LIMITS)


def _at(fps: float, num: int, start_ms: float = 0.0) -> list[float]:
    return [start_ms + 1000 * k / fps for k in range(num)]


def _rate_of(times_ms: Sequence[float], last_ms: int = 40) -> FrameRate:
    return frame_rate(np.round(times_ms).astype(np.int64), Fraction(1, 1000), last_ms, ())


def test_probe_video_frame_rate_above_240_is_refused(tmp_path: Path) -> None:
    for fps in (400_000, 1000, 250):
        path = write_fast_video(tmp_path / "fast.mp4", fps)
        with pytest.raises(MediaLimitError, match=rf"fast.mp4: expected at most 240 frames per second, found {fps}\.$"):
            probe_video(path, LIMITS)
    assert probe_video(write_fast_video(tmp_path / "slow.mp4", 240), LIMITS).fps == 240


@pytest.mark.parametrize("seconds", [0.48, 60.0])
def test_probe_video_frozen_picture_keeps_rate_and_length(tmp_path: Path, seconds: float) -> None:
    path = write_frozen_video(tmp_path / "frozen.mp4", seconds)
    info = probe_video(path, LIMITS)
    assert (info.fps, info.is_variable_rate) == (Fraction(25), True)
    assert info.num_frames == round((3.0 + seconds) * 25)
    assert info.frozen_seconds == pytest.approx(max(0.0, seconds + 0.04 - 0.5), abs=0.01)
    gap = round(25 * seconds)
    frames = read_frames(path, [0, 10, 49, 50, 49 + gap // 2 - 1, 50 + gap, 74 + gap])
    assert [number_of(planes) for planes in frames] == [0, 10, 49, 49, 49, 50, 74]


@pytest.mark.parametrize(
    ("times_ms", "last_ms", "fps"),
    [
        ([*_at(25, 20), *_at(25, 20, 1300)], 40, 25),  # the rate is kept on both sides of a gap
        ([t for k, t in enumerate(_at(30, 300)) if k % 9], 33, 30),  # one frame in nine was lost
        ([*_at(30000 / 1001, 90), *_at(30000 / 1001, 90, 70_000)], 33, Fraction(30000, 1001)),
        ([*_at(25, 20), *_at(12.5, 20, 800)], 80, Fraction(50, 3)),  # two rates: their average
        ([t + 4 * (k % 3) for k, t in enumerate(_at(30, 60))], 33, 30),  # a telephone's jitter
        ([300 * (k // 8) + k % 8 for k in range(64)], 293, Fraction(80, 3)),  # sent on in bursts
        ([0, 20_000, 40_000, 60_000], 20_000, 25),  # pictures that are held
        ([0, 40, 80], 40_000, 25),  # the last frame does not set the rate
    ],
)
def test_frame_rate_is_that_of_the_moving_part(times_ms: Sequence[float], last_ms: int, fps: Fraction) -> None:
    assert float(_rate_of(times_ms, last_ms).fps) == pytest.approx(float(fps), rel=2e-3)


def test_frame_rate_lost_frames_are_not_frozen() -> None:
    assert _rate_of([*_at(25, 20), *_at(25, 20, 1200)]).frozen_seconds == 0.0
    assert _rate_of([*_at(25, 20), *_at(25, 20, 11_260)]).frozen_seconds == pytest.approx(10.0)


def test_probe_video_frozen_for_hours_is_refused(tmp_path: Path) -> None:
    path = write_frozen_video(tmp_path / "hours.mp4", 3000.0)
    with pytest.raises(MediaLimitError, match=r"frozen for at most 30\d s, found 3000 s \(limits.max_frozen_seconds"):
        probe_video(path, LIMITS)
    assert probe_video(path, MediaLimits(max_frozen_seconds=3600)).fps == 25
    assert probe_video(write_frozen_video(tmp_path / "minutes.mp4", 290.0), LIMITS).num_frames == 25 * 293
