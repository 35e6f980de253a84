"""What opening a file tells of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av.error
import pytest

from config import MediaLimits
from errors import InputError, MediaError, MediaLimitError, StoredFileError
from media import container
from media.container import ffmpeg_errors, file_status, open_container


def test_open_container_deleted_file_is_missing_not_damaged(
    sample_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = tmp_path / "000002.mp4"
    segment.write_bytes(sample_video.read_bytes())
    status = file_status(segment)
    monkeypatch.setattr(container, "file_status", lambda path: status)
    monkeypatch.setattr(container, "_picture_format", lambda path: None)
    segment.unlink()
    with pytest.raises(StoredFileError, match=r"000002\.mp4: .* missing"):
        open_container(segment, MediaLimits())


_INVALID = (1094995529, "Invalid data found when processing input")


def _line(words: str) -> Any:
    """What PyAV keeps of FFmpeg's log, though its stub says otherwise."""
    return 16, "mov", words


@pytest.mark.parametrize(
    ("error", "kind", "found"),
    [
        (av.error.InvalidDataError(*_INVALID), MediaError, "damaged, incomplete or of another type. Check that"),
        (av.error.DecoderNotFoundError(1128613112, "Decoder not found"), MediaError, "not supported. Convert it"),
        (av.error.PatchWelcomeError(1163346256, "Not yet implemented"), MediaError, "not supported. Convert it"),
        (av.error.MemoryError(12, "Cannot allocate memory"), MediaLimitError, "too much memory to be read. Send"),
        (
            av.error.InvalidDataError(*_INVALID, log=_line("Picture size exceeds specified max pixel count 9")),
            MediaLimitError,
            "too many pixels. Send a smaller one (limit: limits.max_pixels)",
        ),
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
    assert str(error.strerror) in caplog.text


def test_ffmpeg_errors_log_one_printable_line(caplog: pytest.LogCaptureFixture) -> None:
    words = "title\nERROR: forged\x1b[31m" + "x" * 5000
    with pytest.raises(MediaError), ffmpeg_errors(Path("me.mp4"), "a video"):
        raise av.error.InvalidDataError(*_INVALID, log=_line(words))
    (logged,) = caplog.messages
    assert logged.isprintable() and len(logged) < 400
