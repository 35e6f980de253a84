"""Opens uploaded files. No other module does.

The list of demuxers is the main protection: playlists and scripts (HLS, DASH, ffconcat, SDP) can reference other files
and hosts, so they are not on it, and neither is `image2`, which expands patterns in file names. The list of protocols
keeps demuxers that open further files within the file system.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.container
import av.error
import av.logging
from av.stream import Discard, Stream
from av.video.stream import VideoStream

from lipwright.config import MediaLimits
from lipwright.errors import InputError, MediaError, MediaLimitError, StoredFileError
from lipwright.media.headers import SIGNATURE, check_texts

FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,wav,w64,aiff,caf,au,mp3,flac,aac,amr,"
    "apng,gif,png_pipe,jpeg_pipe,webp_pipe"
)
"""FFmpeg demuxers that may open an uploaded file."""

_PICTURES: Final = ((SIGNATURE, 0, "png_pipe"), (b"\xff\xd8\xff", 0, "jpeg_pipe"), (b"WEBP", 8, "webp_pipe"))
_ZERO_BASED: Final = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
"""Formats whose time 0 is the presentation time 0; in others the first time stamp is arbitrary."""
_HEAD_BYTES: Final = 65536
_WEBP_ANIMATION: Final = 2
"""Flag in the first byte of a VP8X chunk (RFC 9649, 2.7.1)."""
_NOT_ALLOWED: Final = "Format not on whitelist"
_TOO_MANY_PIXELS: Final = ("exceeds specified max pixel count", "Invalid image size")
"""FFmpeg's words; the second ones are for a PNG of more than 2**28 pixels."""
_UNSUPPORTED: Final = (av.error.DecoderNotFoundError, av.error.DemuxerNotFoundError, av.error.PatchWelcomeError)
_MAX_LOGGED_CHARS: Final = 300

logger = logging.getLogger(__name__)


def open_container(path: Path, limits: MediaLimits, *, is_complete: bool = False) -> av.container.InputContainer:
    """Open an untrusted file. The caller closes it.

    The file name is used only in messages, never to choose a format. The caller limits the time: a timeout in here
    would reject good files on a busy machine.

    Args:
        path: The file.
        limits: Limits of its streams and pixels.
        is_complete: Whether the container says all that the caller needs. Otherwise, FFmpeg decodes a few frames to
            learn the rest, such as the reordering of frames, which takes 8 ms at 1080p.

    Raises:
        MediaError: Not a regular file, empty, of a format that is not allowed, or not readable.
        StoredFileError: The file is missing.
        MediaLimitError: More bytes, streams or pixels than allowed, or a picture with too many texts.
    """
    name = path.name
    _check_size(path, limits)
    picture_format = _picture_format(path)
    if picture_format in ("png_pipe", "apng"):
        check_texts(path)
    # Frame threads log through a callback that needs the GIL; at PANIC only the last error is kept, for messages.
    av.logging.set_level(av.logging.PANIC)
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file", "max_pixels": str(decoder_max_pixels(limits))}
    if is_complete:
        options["skip_frame"] = "all"
    with ffmpeg_errors(path, "an audio, video or picture file"):
        container = av.open(str(path.absolute()), "r", picture_format, options, metadata_errors="ignore")
    assert isinstance(container, av.container.InputContainer)
    try:
        _check_streams(container, name, limits)
    except InputError:
        container.close()
        raise
    return container


def discard_other_streams(container: av.container.InputContainer, stream: Stream) -> None:
    """Have the demuxer skip all other streams."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all


def origin_seconds(container: av.container.InputContainer) -> Fraction:
    """Return the time stamp of presentation time 0, in seconds: the first one of all streams.

    Sound alone may begin later in formats whose time stamps begin at 0.
    """
    start = Fraction(container.start_time or 0, av.time_base)
    if container.format.name not in _ZERO_BASED:
        return start
    return max(start, Fraction(0)) if pictures(container) else Fraction(0)


def pictures(container: av.container.InputContainer) -> list[VideoStream]:
    """Return the video streams that are not cover pictures."""
    return [stream for stream in container.streams.video if not stream.disposition & stream.disposition.attached_pic]


@contextmanager
def ffmpeg_errors(path: Path, expected: str) -> Iterator[None]:
    """Translate FFmpeg errors raised in the block, as in "expected {expected}"; FFmpeg's own words go to the log.

    Raises:
        MediaError: FFmpeg refused the file; the message says what was found and what to do.
        StoredFileError: The file is missing.
        MediaLimitError: A frame has more pixels than allowed, or memory ran out.
    """
    try:
        yield
    except av.error.FileNotFoundError as error:
        raise _missing_error(path) from error
    except av.error.FFmpegError as error:
        _log(path, error)
        found, advice = _explain(error)
        passes_limit = passes_pixel_limit(error) or isinstance(error, MemoryError)
        message = f"{path.name}: expected {expected}, found {found}. {advice}"
        raise (MediaLimitError if passes_limit else MediaError)(message) from error


def _explain(error: av.error.FFmpegError) -> tuple[str, str]:
    """Return (what was found, what to do) for the user."""
    if passes_pixel_limit(error):
        return "a picture with too many pixels", "Send a smaller one (limit: limits.max_pixels)."
    if isinstance(error, MemoryError):
        return "a file that needs too much memory to be read", "Send a smaller one."
    convert = "Convert it, for example to MP4, WAV, JPEG or PNG."
    if last_line(error).startswith(_NOT_ALLOWED):
        return "a playlist, a script or another format that is not accepted", convert
    if isinstance(error, _UNSUPPORTED):
        return "a format or codec that is not supported", convert
    again = "Check that it plays on your device and send it again, or convert it, for example to MP4, WAV or PNG."
    return "a file that is damaged, incomplete or of another type", again


def _log(path: Path, error: av.error.FFmpegError) -> None:
    """Log FFmpeg's words on one line; they may quote the file."""
    words = f"{error.strerror or type(error).__name__}: {last_line(error)}"[:_MAX_LOGGED_CHARS]
    printable = "".join(each if each.isprintable() else " " for each in words)
    logger.warning("%s: FFmpeg rejected the file: %s", path.name, printable.strip(": "))


def _missing_error(path: Path) -> StoredFileError:
    return StoredFileError(f"{path.name}: the stored file is missing.")


def passes_pixel_limit(error: av.error.FFmpegError) -> bool:
    """Whether FFmpeg refused a frame because of `max_pixels`."""
    return any(words in last_line(error) for words in _TOO_MANY_PIXELS)


def last_line(error: av.error.FFmpegError) -> str:
    """Return the last line that FFmpeg logged before the error, or an empty string."""
    log: Any = error.log  # (level, component, message), though PyAV's stub says otherwise
    return str(log[2]).strip() if log else ""


def decoder_max_pixels(limits: MediaLimits) -> int:
    """FFmpeg's own `max_pixels`: a little above the limit, because codecs pad frames to whole blocks."""
    return limits.max_pixels * 9 // 8 + 256 * 256


def file_status(path: Path) -> os.stat_result:
    """Return the status of a file.

    Raises:
        StoredFileError: The file is missing.
        MediaError: Its status cannot be read.
    """
    try:
        return path.stat()
    except FileNotFoundError as error:
        raise _missing_error(path) from error
    except OSError as error:
        raise MediaError(f"{path.name}: expected a readable file, found: {error.strerror}") from error


def _check_size(path: Path, limits: MediaLimits) -> None:
    status = file_status(path)
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path.name}: expected a regular file, found something else.")
    if status.st_size == 0:
        raise MediaError(f"{path.name}: expected an audio, video or picture file, found an empty file.")
    if status.st_size > limits.max_upload_bytes:
        raise MediaLimitError(f"{path.name}: expected at most {limits.max_upload_bytes} bytes, found {status.st_size}.")


def _check_streams(container: av.container.InputContainer, name: str, limits: MediaLimits) -> None:
    first = next(iter(pictures(container)), None)
    if first is not None and first.disposition & first.disposition.dependent:
        raise MediaError(
            f"{name}: expected a picture in one piece, found one of tiles, as phones store HEIC. Convert it, for "
            "example to JPEG or PNG."
        )
    if (num_streams := len(container.streams)) > limits.max_streams:
        raise MediaLimitError(f"{name}: expected at most {limits.max_streams} streams, found {num_streams}.")


def _picture_format(path: Path) -> str | None:
    """Return the demuxer of a still picture by its first bytes; FFmpeg would choose `image2` by the file name."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for magic, offset, demuxer in _PICTURES:
        if head[offset : offset + len(magic)] == magic and (offset == 0 or head.startswith(b"RIFF")):
            # An animated PNG declares itself before its first picture; the demuxer for stills would read only that one.
            if head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & _WEBP_ANIMATION:
                raise MediaError(
                    f"{path.name}: expected a picture, found an animated WebP, which FFmpeg cannot decode. "
                    "Convert it, for example to GIF or MP4."
                )
            is_animation = demuxer == "png_pipe" and b"acTL" in head.partition(b"IDAT")[0]
            return "apng" if is_animation else demuxer
    return None
