"""The Python client makes a video through the whole service."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import MediaLimits
from lipwright_client import FaceNotFoundError, Job, Lipwright
from media.probe import probe_video


def test_speak(service_url: str, portrait: Path, short_speech: Path, tmp_path: Path) -> None:
    seen: list[Job] = []
    with Lipwright(service_url) as client:
        avatar = client.avatars.wait(client.avatars.create(video=portrait).id)
        assert avatar.status == "ready" and avatar.info is not None and avatar.info.is_still
        job = client.speak(avatar_id=avatar.id, audio=short_speech, out=tmp_path / "out.mp4", on_change=seen.append)
        assert job.num_frames == probe_video(tmp_path / "out.mp4", MediaLimits()).num_frames
        assert [each.progress for each in seen] == sorted(each.progress for each in seen)
        assert b"".join(client.jobs.preview(job.id))[4:8] == b"ftyp"
        with pytest.raises(FaceNotFoundError):
            client.speak(video=portrait, audio=short_speech, face="7")
        client.jobs.delete(job.id)
        client.avatars.delete(avatar.id)
