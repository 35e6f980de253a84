"""The keys of stored files: how processes name a file, on whatever disk or in whatever bucket it is.

    uploads/{name}                   an upload, until a job or an avatar takes it over
    jobs/{id}/audio                  the speech as uploaded
    jobs/{id}/speech.npy             the speech, 16 kHz mono
    jobs/{id}/audio_{name}           further speech as uploaded, of a job with turns
    jobs/{id}/music                  the music under the speech as uploaded
    jobs/{id}/background             the picture or video behind the person as uploaded
    jobs/{id}/subtitles              the subtitles that are spoken as uploaded
    jobs/{id}/diarization            who speaks when as uploaded
    jobs/{id}/cues/...               the spoken texts
    jobs/{id}/segments/{number}.mp4  finished segments; .webm or .mov in these formats
    jobs/{id}/segments/plan-{digest} the plan of one face in one block of frames
    jobs/{id}/segments/speech-{number}.npy  the speech of one face of a job with turns, 16 kHz mono
    jobs/{id}/segments/sound         the encoded sound in pieces, see `lipwright.media.result.sound_pieces`
    jobs/{id}/result.mp4             the video; likewise
    avatars/{key}/source             the video or still as uploaded, or all clips of an avatar in one video
    avatars/{key}/face               the reference picture of the person, if one was uploaded
    avatars/{key}/picture.jpg        its first frame, small
    avatars/{key}/speech.npy         the source's own audio, 16 kHz mono
    avatars/{key}/tracking/...       landmarks, until the avatar is built from them
    avatars/{key}/scan/...           faces and sound of the source, until the people are known
    avatars/{key}/people/...         the people in the source: report.json, identities.npz and {number}.jpg
    avatars/{key}/matting/{mode}/... pieces of a matte, until they are joined
    avatars/{key}/mattes/{mode}/...  the matte of the source: matte.mp4 and report.json
    avatars/{key}/...                its analysis
    backgrounds/{id}/source          a picture or video behind the person as uploaded to `/v1/backgrounds`
    backgrounds/{id}/background.json its record, which makes it exist
    backgrounds/{id}/fitted/{name}/...  the same in the size, rate and colours of a session: background.mp4, fitted.json
    voices/{owner}/{name}/sample.wav the speaker of a cloned voice, 24 kHz mono
    voices/{owner}/{name}/voice.json its record, which makes the voice exist
    cues/{owner}/{digest}            a spoken text, cached for later jobs
    cues/{owner}/{digest}.json       its record, which makes it complete; likewise beside a copy in the folder of a job

A key is a relative POSIX path. Every name and id must have the form of `records.new_id()`, so that no name from a
client can leave its folder.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from lipwright.errors import NotFoundError

UPLOADS: Final = "uploads"
JOBS: Final = "jobs"
AVATARS: Final = "avatars"
BACKGROUNDS: Final = "backgrounds"
VOICES: Final = "voices"
CUES: Final = "cues"
FACE_SPEECH: Final = "speech-"
_JOB_FILE: Final = re.compile(r"audio(_[A-Za-z0-9_-]{1,32})?|music|background|subtitles|diarization")
AVATAR_PICTURE: Final = "picture.jpg"
PEOPLE_PART: Final = "people/"
PEOPLE_REPORT: Final = "report.json"
PEOPLE_IDENTITIES: Final = "identities.npz"
MATTE_VIDEO: Final = "matte.mp4"
MATTE_REPORT: Final = "report.json"
FITTED_VIDEO: Final = "background.mp4"
FITTED_REPORT: Final = "fitted.json"
_NAME: Final = re.compile(r"[0-9a-f]{32}")
_CONSTANT: Final = re.compile(
    rf"uploads/[^/]+|jobs/[^/]+/({_JOB_FILE.pattern})|avatars/[^/]+/(source|face)|backgrounds/[^/]+/source"
)


def upload_key(name: str) -> str:
    """Return the key of an upload, from `UploadedFile.key`.

    Raises:
        NotFoundError: The name is not one of ours; this holds for all functions here.
    """
    return f"{UPLOADS}/{_check(name)}"


def job_folder(job_id: str) -> str:
    """Return the folder of a job."""
    return f"{JOBS}/{_check(job_id)}"


def job_file_key(job_id: str, field: str = "audio") -> str:
    """Return the key of a file that was sent with a job, by its form field; the spoken texts are such files, too."""
    if not _JOB_FILE.fullmatch(field):
        raise NotFoundError(f"Expected the name of a file of a job, got {field[:80]!r}.")
    return f"{job_folder(job_id)}/{field}"


def job_cues_folder(job_id: str) -> str:
    """Return the folder of the spoken texts of a job."""
    return f"{job_folder(job_id)}/cues"


def speech_key(job_id: str) -> str:
    """Return the key of the speech as 16 kHz mono samples."""
    return f"{job_folder(job_id)}/speech.npy"


def face_speech_key(job_id: str, number: int) -> str:
    """Return the key of the speech of one face of a job with turns, from 0; it is removed when the job ends."""
    return f"{segments_folder(job_id)}/{FACE_SPEECH}{int(number)}.npy"


def plan_key(job_id: str, digest: str) -> str:
    """Return the key of the plan of one face in one block; `digest` names what it is made from."""
    return f"{segments_folder(job_id)}/plan-{_check(digest)}"


def sound_key(job_id: str) -> str:
    """Return the key of the encoded sound of a job in pieces."""
    return f"{segments_folder(job_id)}/sound"


def segments_folder(job_id: str) -> str:
    """Return the folder of the finished segments of a job."""
    return f"{job_folder(job_id)}/segments"


def segment_key(job_id: str, number: int, suffix: str = "mp4") -> str:
    """Return the key of the finished segment `number`, from 0; `suffix` is the format of the job."""
    return f"{segments_folder(job_id)}/{int(number):06d}.{suffix}"


def result_key(job_id: str, suffix: str = "mp4") -> str:
    """Return the key of the finished video; `suffix` is the format of the job."""
    return f"{job_folder(job_id)}/result.{suffix}"


def avatar_folder(key: str) -> str:
    """Return the folder of an avatar."""
    return f"{AVATARS}/{_check(key)}"


def source_key(key: str) -> str:
    """Return the key of the uploaded video or still."""
    return f"{avatar_folder(key)}/source"


def face_key(key: str) -> str:
    """Return the key of the reference picture of the person."""
    return f"{avatar_folder(key)}/face"


def avatar_picture_key(key: str) -> str:
    """Return the key of the JPEG file of the first frame, which exists once the avatar is tracked."""
    return f"{avatar_folder(key)}/{AVATAR_PICTURE}"


def own_speech_key(key: str) -> str:
    """Return the key of the source's own audio, as 16 kHz mono samples."""
    return f"{avatar_folder(key)}/speech.npy"


def tracks_folder(key: str) -> str:
    """Return the folder of the source's landmarks, which exist until the avatar is built from them."""
    return f"{avatar_folder(key)}/tracking"


def track_key(key: str, start: int) -> str:
    """Return the key of the landmarks of the source frames from `start` on."""
    return f"{tracks_folder(key)}/{int(start):07d}.npz"


def scan_folder(key: str) -> str:
    """Return the folder of the faces and the sound of the source, which exist until the people are known."""
    return f"{avatar_folder(key)}/scan"


def scan_key(key: str, start: int) -> str:
    """Return the key of the faces in the source frames from `start` on."""
    return f"{scan_folder(key)}/faces-{int(start):07d}.npz"


def source_mouth_key(key: str, start: int) -> str:
    """Return the key of the mouth predicted from the source's own sound, from row `start` on."""
    return f"{scan_folder(key)}/mouth-{int(start):07d}.npz"


def people_report_key(key: str) -> str:
    """Return the key of the report on the people in the source."""
    return f"{avatar_folder(key)}/{PEOPLE_PART}{PEOPLE_REPORT}"


def people_identities_key(key: str) -> str:
    """Return the key of what they are recognised by: appearances, and where each is seen first."""
    return f"{avatar_folder(key)}/{PEOPLE_PART}{PEOPLE_IDENTITIES}"


def person_picture_key(key: str, number: int) -> str:
    """Return the key of the JPEG file of one person."""
    return f"{avatar_folder(key)}/{PEOPLE_PART}{person_picture(number)}"


def person_picture(number: int) -> str:
    """Return the name of the JPEG file of one person."""
    return f"{int(number)}.jpg"


def matte_part(mode: str) -> str:
    """Return the part of an avatar's folder that holds a matte; `mode` names how it is made, and its version."""
    return f"mattes/{mode}/"


def matte_pieces_part(mode: str) -> str:
    """Return the part of an avatar's folder with the pieces of a matte, which exist until they are joined."""
    return f"matting/{mode}/"


def matte_piece(start: int) -> str:
    """Return the name of the piece of a matte that begins with the source frame `start`."""
    return f"{int(start):07d}.npz"


def background_id(owner: str | None, sha256: str) -> str:
    """Return the ID of a picture or video that a caller has sent to `POST /v1/backgrounds` or with an avatar."""
    return _digest(f"{owner or ''}\n{sha256}")


def background_folder(file_id: str) -> str:
    """Return the folder of the stored background with this ID."""
    return f"{BACKGROUNDS}/{_check(file_id)}"


def background_source_key(file_id: str) -> str:
    """Return the key of a stored background as uploaded."""
    return f"{background_folder(file_id)}/source"


def fitted_part(form: str) -> str:
    """Return the part of a background's folder that holds it in one form, which `form` describes in full."""
    return f"fitted/{_digest(form)}/"


def voices_folder(owner: str | None) -> str:
    """Return the folder of the voices that a caller has cloned."""
    return f"{VOICES}/{_digest(owner or '')}"


def voice_folder(owner: str | None, name: str) -> str:
    """Return the folder of a cloned voice; its name may be any text."""
    return f"{voices_folder(owner)}/{voice_id(name)}"


def voice_id(name: str) -> str:
    """Return the ID of a cloned voice, which can be part of any URL."""
    return _digest(name)


def cues_folder(owner: str | None) -> str:
    """Return the folder of the spoken texts that are cached for a caller."""
    return f"{CUES}/{_digest(owner or '')}"


def cue_key(folder: str, digest: str) -> str:
    """Return the key of a spoken text in a folder: that of a job, or `cues_folder`."""
    return f"{folder}/{_check(digest)}"


def is_name(text: str) -> bool:
    """Return whether a text has the form of our names and ids."""
    return _NAME.fullmatch(text) is not None


def is_constant(key: str) -> bool:
    """Return whether a file never changes under its key: uploads."""
    return _CONSTANT.fullmatch(key) is not None


def split(key: str) -> tuple[str, str]:
    """Return the folder of a file and its name in it."""
    folder, _, name = key.rpartition("/")
    return folder, name


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _check(name: str) -> str:
    if not is_name(name):
        raise NotFoundError(f"Expected a name of 32 hexadecimal digits, got {name[:80]!r}.")
    return name
