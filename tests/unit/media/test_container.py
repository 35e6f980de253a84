"""What opening a file tells of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import MediaLimits
from errors import StoredFileError
from media import container
from media.container import file_status, open_container


def test_a_file_that_goes_while_it_is_opened_is_gone_and_not_broken(
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
