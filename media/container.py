"""The guarded door: every file that a caller sent is opened here and nowhere else.

The demuxer list is the real guard: playlists and scripts (HLS, DASH, ffconcat, SDP) can name other files and
hosts, so they are not on it, and neither is `image2`, which expands patterns in file names. The protocol list
keeps a demuxer that does open something from leaving the file system.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import av
import av.container
import av.error
import av.logging

from config import MediaLimits
from errors import MediaError, MediaLimitError, StoredFileError
from media.bounds.png_texts import SIGNATURE, check_texts

FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,wav,w64,aiff,caf,au,mp3,flac,aac,amr,"
    "apng,gif,png_pipe,jpeg_pipe,webp_pipe"
)
"""FFmpeg demuxers that may open a caller's file."""

_PICTURES: Final = ((SIGNATURE, 0, "png_pipe"), (b"\xff\xd8\xff", 0, "jpeg_pipe"), (b"WEBP", 8, "webp_pipe"))
_HEAD_BYTES: Final = 65536
_NOT_ALLOWED: Final = "Format not on whitelist"
_TOO_MANY_PIXELS: Final = "exceeds specified max pixel count"


def open_container(path: Path, limits: MediaLimits) -> av.container.InputContainer:
    """Opens a file that nobody trusts. The caller closes it.

    Args:
        path: A regular file; its name is used in messages only, never to choose a format.
        limits: Bytes, streams and pixels allowed. The time is up to the process that opens it: a clock in here would
            make a busy machine call a good file invalid.

    Returns:
        The open container, its streams known, nothing decoded.

    Raises:
        MediaError: Not a regular file, empty, of a format that is not allowed, or not readable; the message
            carries FFmpeg's last line.
        StoredFileError: It is gone.
        MediaLimitError: More bytes, streams or pixels than allowed, or a picture with too many texts.
    """
    name = path.name
    _check_size(path, limits)
    picture_format = _picture_format(path)
    if picture_format in ("png_pipe", "apng"):
        check_texts(path)
    # Frame threads log through a callback that needs the GIL; at PANIC only the last error is kept, for messages.
    av.logging.set_level(av.logging.PANIC)
    options = {
        "format_whitelist": FORMATS,
        "protocol_whitelist": "file",
        "max_pixels": str(decoder_max_pixels(limits)),
    }
    with ffmpeg_errors(path, "a sound, video or picture file"):
        container = av.open(
            str(path.absolute()),
            "r",
            picture_format,
            options,
            metadata_errors="ignore",
        )
    if not isinstance(container, av.container.InputContainer) or len(container.streams) > limits.max_streams:
        num_streams = len(container.streams)
        container.close()
        raise MediaLimitError(f"{name}: expected at most {limits.max_streams} streams, found {num_streams}.")
    return container


@contextmanager
def ffmpeg_errors(path: Path, expected: str) -> Iterator[None]:
    """Turns what FFmpeg raises inside the block into the project's errors.

    Args:
        path: The file being read, named in the message.
        expected: What the block needs, as in "expected a video stream".

    Raises:
        MediaError: FFmpeg refused the file.
        StoredFileError: It is gone.
        MediaLimitError: FFmpeg met a frame with more pixels than allowed, or was refused memory.
    """
    try:
        yield
    except av.error.FileNotFoundError as error:
        raise _gone(path) from error
    except av.error.FFmpegError as error:
        line = last_line(error)
        found = error.strerror or type(error).__name__
        if line.startswith(_NOT_ALLOWED):  # the rest of it is our own list
            found, line = "a playlist, a script or another format that is not accepted", ""
        message = f"{path.name}: expected {expected}, found: {found}" + (f" (FFmpeg: {line})" if line else "")
        passes_limit = passes_pixel_limit(error) or isinstance(error, MemoryError)
        raise (MediaLimitError if passes_limit else MediaError)(message) from error


def _gone(path: Path) -> StoredFileError:
    return StoredFileError(f"{path.name}: expected a file that the service keeps, found that it is gone.")


def passes_pixel_limit(error: av.error.FFmpegError) -> bool:
    """Whether FFmpeg refused a frame because of `max_pixels`."""
    return _TOO_MANY_PIXELS in last_line(error)


def last_line(error: av.error.FFmpegError) -> str:
    """What FFmpeg logged last before the error, or an empty string."""
    log: Any = error.log  # (level, component, message), though PyAV's stub says otherwise
    return str(log[2]).strip() if log else ""


def decoder_max_pixels(limits: MediaLimits) -> int:
    """FFmpeg's own `max_pixels`: a little above the limit, because codecs pad frames to whole blocks."""
    return limits.max_pixels * 9 // 8 + 256 * 256


def file_status(path: Path) -> os.stat_result:
    """Size and kind of a file that was here when its name was handed over.

    Raises:
        StoredFileError: It is gone.
        MediaError: It cannot be looked at.
    """
    try:
        return path.stat()
    except FileNotFoundError as error:
        raise _gone(path) from error
    except OSError as error:
        raise MediaError(f"{path.name}: expected a readable file, found: {error.strerror}") from error


def _check_size(path: Path, limits: MediaLimits) -> None:
    status = file_status(path)
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path.name}: expected a regular file, found something else.")
    if status.st_size == 0:
        raise MediaError(f"{path.name}: expected a sound, video or picture file, found an empty file.")
    if status.st_size > limits.max_upload_bytes:
        raise MediaLimitError(f"{path.name}: expected at most {limits.max_upload_bytes} bytes, found {status.st_size}.")


def _picture_format(path: Path) -> str | None:
    """Demuxer of a still picture by its first bytes; FFmpeg would take `image2` by the file's name instead."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for magic, offset, demuxer in _PICTURES:
        if head[offset : offset + len(magic)] == magic and (offset == 0 or head.startswith(b"RIFF")):
            # An animation says so before its first picture; the still's demuxer would show that one alone.
            is_animation = demuxer == "png_pipe" and b"acTL" in head.partition(b"IDAT")[0]
            return "apng" if is_animation else demuxer
    return None
