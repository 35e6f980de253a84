"""The keys of stored files: what is said of a file between processes, whatever disk or bucket it lies in.

    uploads/{name}                   what clients send, until a job or an avatar takes it over
    jobs/{id}/audio                  the speech as it came
    jobs/{id}/speech.npy             the speech, 16 kHz mono
    jobs/{id}/segments/{number}.mp4  finished segments
    jobs/{id}/result.mp4             the video
    avatars/{key}/source             the avatar as it came
    avatars/{key}/face               the picture of the person meant, if one came with it
    avatars/{key}/speech.npy         the source's own sound, 16 kHz mono
    avatars/{key}/tracking/...       landmarks, until the avatar is made of them
    avatars/{key}/...                its analysis

A key is a relative POSIX path. Every name and id must look like `records.new_id()`, so that no name from outside can
leave its folder.
"""

from __future__ import annotations

import re
from typing import Final

from errors import NotFoundError

UPLOADS: Final = "uploads"
JOBS: Final = "jobs"
AVATARS: Final = "avatars"
_NAME: Final = re.compile(r"[0-9a-f]{32}")
_CONSTANT: Final = re.compile(r"uploads/[^/]+|jobs/[^/]+/audio|avatars/[^/]+/(source|face)")


def upload_key(name: str) -> str:
    """An upload, by `UploadedFile.key`.

    Raises:
        NotFoundError: It is no name of ours; so for all functions here.
    """
    return f"{UPLOADS}/{_checked(name)}"


def job_folder(job_id: str) -> str:
    """All files of a job."""
    return f"{JOBS}/{_checked(job_id)}"


def audio_key(job_id: str) -> str:
    """The speech as it came."""
    return f"{job_folder(job_id)}/audio"


def speech_key(job_id: str) -> str:
    """The speech as 16 kHz mono samples."""
    return f"{job_folder(job_id)}/speech.npy"


def segments_folder(job_id: str) -> str:
    """The finished segments of a job."""
    return f"{job_folder(job_id)}/segments"


def segment_key(job_id: str, number: int) -> str:
    """The finished segment `number` (from 0)."""
    return f"{segments_folder(job_id)}/{int(number):06d}.mp4"


def result_key(job_id: str) -> str:
    """The finished video."""
    return f"{job_folder(job_id)}/result.mp4"


def avatar_folder(key: str) -> str:
    """All files of an avatar."""
    return f"{AVATARS}/{_checked(key)}"


def source_key(key: str) -> str:
    """The avatar as it came."""
    return f"{avatar_folder(key)}/source"


def face_key(key: str) -> str:
    """The picture of the person meant, where one was sent with the avatar."""
    return f"{avatar_folder(key)}/face"


def own_speech_key(key: str) -> str:
    """The sound of the avatar's own video, as 16 kHz mono samples."""
    return f"{avatar_folder(key)}/speech.npy"


def tracks_folder(key: str) -> str:
    """Landmarks of the source, until the avatar is made of them."""
    return f"{avatar_folder(key)}/tracking"


def track_key(key: str, start: int) -> str:
    """Landmarks of the source frames from `start` on."""
    return f"{tracks_folder(key)}/{int(start):07d}.npz"


def is_name(text: str) -> bool:
    """Whether a text is a name or id of ours."""
    return _NAME.fullmatch(text) is not None


def is_constant(key: str) -> bool:
    """Whether a file never gets another content under its key: what callers sent."""
    return _CONSTANT.fullmatch(key) is not None


def split(key: str) -> tuple[str, str]:
    """The folder of a file, and its name in there."""
    folder, _, name = key.rpartition("/")
    return folder, name


def _checked(name: str) -> str:
    if not is_name(name):
        raise NotFoundError(f"Expected a name of 32 hexadecimal digits, got {name[:80]!r}.")
    return name
