"""The files: uploads, jobs and avatars in one data folder, under names that are ours alone.

    uploads/{key}                    what clients send, until a job or an avatar takes it over
    jobs/{id}/audio                  the speech as it came
    jobs/{id}/speech.npy             the speech, 16 kHz mono
    jobs/{id}/segments/{number}.mp4  finished segments
    jobs/{id}/result.mp4             the video
    avatars/{key}/source             the presenter as it came
    avatars/{key}/face               the picture of the person meant, if one came with it
    avatars/{key}/...                its analysis

Every key and id must look like `records.new_id()`, so no name from outside can leave the folder.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from errors import InputError, LipwrightError, NotFoundError, StorageFullError, StoredFileError
from storage.records import UploadedFile, new_id

_NAME = re.compile(r"[0-9a-f]{32}")
_UNSAFE = re.compile(r"[^\w .()+-]+")
_MAX_LABEL_CHARS = 120
_OWN_FOLDER, _OWN_FILE = 0o700, 0o600  # what callers send is nobody else's on this machine


def clean_label(file_name: str) -> str:
    """A client's file name made harmless to show: no folders, no control characters, at most 120 characters."""
    base = file_name.replace("\\", "/").rsplit("/", 1)[-1]
    cleaned = _UNSAFE.sub("_", base).strip(" .")
    if len(cleaned) > _MAX_LABEL_CHARS:
        stem, dot, suffix = cleaned.rpartition(".")
        keep = dot + suffix if stem and len(suffix) <= 8 else ""
        cleaned = cleaned[: _MAX_LABEL_CHARS - len(keep)] + keep
    return cleaned


class UploadWriter:
    """One upload on its way to the disk; hashed as it passes. End it with `finish` or `discard`."""

    def __init__(self, path: Path, label: str) -> None:
        self._path = path
        self._label = label
        self._file: BinaryIO = open(path, "xb", opener=_private)  # noqa: SIM115  # closed by `finish` or `discard`
        self._sha256 = hashlib.sha256()
        self._num_bytes = 0

    def write(self, piece: bytes | memoryview) -> None:
        """Append `piece`. Blocks on the disk.

        Raises:
            StorageFullError: The disk is full.
        """
        with disk_errors():
            self._file.write(piece)
        self._sha256.update(piece)
        self._num_bytes += len(piece)

    def finish(self) -> UploadedFile:
        """Put the file on the disk for good and say what it is.

        Raises:
            StorageFullError: The disk is full.
        """
        with disk_errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return UploadedFile(
            key=self._path.name, sha256=self._sha256.hexdigest(), num_bytes=self._num_bytes, label=self._label
        )

    def discard(self) -> None:
        """Remove the file. Harmless when it is gone already."""
        with suppress(OSError):  # a full disk refuses the last buffered bytes once more
            self._file.close()
        self._path.unlink(missing_ok=True)


class FileStore:
    """Names, makes and removes the files under `root`. Several processes may share one root."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._root.mkdir(mode=_OWN_FOLDER, parents=True, exist_ok=True)  # one that is there may be shared on purpose
        for name in ("uploads", "jobs", "avatars"):
            _make_own_folder(self._root / name)

    @property
    def root(self) -> Path:
        """The data folder."""
        return self._root

    @property
    def table_path(self) -> Path:
        """Where the job table of this folder lies."""
        return self._root / "jobs.sqlite3"

    def free_bytes(self) -> int:
        """Disk space that is left for this folder."""
        return shutil.disk_usage(self._root).free

    # Uploads

    def new_upload(self, file_name: str) -> UploadWriter:
        """A writer for one upload; `file_name` is the client's and only kept as a label."""
        return UploadWriter(self._root / "uploads" / new_id(), clean_label(file_name))

    def upload_path(self, key: str) -> Path:
        """The complete upload `key`.

        Raises:
            NotFoundError: there is none; it was taken over or removed.
        """
        path = self._root / "uploads" / _checked(key)
        if not path.is_file():
            raise NotFoundError(f"There is no upload {key}.")
        return path

    def find_upload(self, key: str, taken_to: Path) -> Path:
        """The complete upload `key`, or the file that it became when `take_upload` moved it to `taken_to`.

        Raises:
            NotFoundError: there is neither.
        """
        try:
            return self.upload_path(key)
        except NotFoundError:
            if not taken_to.is_file():
                raise
            return taken_to

    def check_size(self, kept: Path, num_bytes: int) -> None:
        """Refuse a kept file that is gone, or has another size than when it came.

        Raises:
            StoredFileError: It is, or has.
        """
        found = kept.stat().st_size if kept.is_file() else None
        if found != num_bytes:
            what = "that it is gone" if found is None else f"{found}"
            raise StoredFileError(f"{kept.name}: expected the {num_bytes} bytes that were kept, found {what}.")

    def blamed(self, error: LipwrightError, kept: Path, sha256: str) -> LipwrightError:
        """What is to blame for an error about a kept file: the input, or its loss in our hands. Reads the whole file.

        Args:
            error: What its reader raised.
            kept: The file.
            sha256: Its content when it came.
        """
        if not isinstance(error, InputError):
            return error
        if has_content(kept, sha256):
            return error
        return StoredFileError(f"{kept.name}: expected the file that was kept, found another one.")

    def touch_upload(self, key: str) -> None:
        """Say that somebody still waits with this upload, so that it is not swept."""
        os.utime(self.upload_path(key))

    def delete_upload(self, key: str) -> None:
        """Remove an upload that nobody wants. Harmless when it is gone already."""
        (self._root / "uploads" / _checked(key)).unlink(missing_ok=True)

    def take_upload(self, key: str, target: Path) -> Path:
        """Move the upload to `target` (one of this store's paths), replacing what was there.

        An upload that was moved there before stays: whoever was interrupted does it again.

        Raises:
            NotFoundError: there is no such upload.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        path = self.find_upload(key, target)
        if path != target:
            path.replace(target)
        return target

    def sweep_uploads(self, min_age_s: float) -> int:
        """Remove uploads that no job took and that are untouched for `min_age_s`. Returns how many.

        The age protects files that an Ingress is writing at this moment.
        """
        oldest = time.time() - min_age_s
        num_removed = 0
        for path in (self._root / "uploads").iterdir():
            if _age_mark(path) <= oldest:
                path.unlink(missing_ok=True)
                num_removed += 1
        return num_removed

    # Jobs

    def job_dir(self, job_id: str) -> Path:
        """The job's folder, made when missing."""
        folder = self._job(job_id)
        (folder / "segments").mkdir(parents=True, exist_ok=True)
        return folder

    def audio_path(self, job_id: str) -> Path:
        """The speech as it came."""
        return self._job(job_id) / "audio"

    def speech_path(self, job_id: str) -> Path:
        """The speech as 16 kHz mono samples."""
        return self._job(job_id) / "speech.npy"

    def segment_path(self, job_id: str, number: int) -> Path:
        """The finished segment `number` (from 0)."""
        return self._job(job_id) / "segments" / f"{int(number):06d}.mp4"

    def result_path(self, job_id: str) -> Path:
        """The finished video."""
        return self._job(job_id) / "result.mp4"

    def job_ids(self, min_age_s: float = 0.0) -> list[str]:
        """Ids of the jobs that have a folder which is untouched for `min_age_s`."""
        return self._old_folders("jobs", min_age_s)

    def has_segments(self, job_id: str) -> bool:
        """Whether segments of a job lie here."""
        return (self._job(job_id) / "segments").is_dir()

    def delete_segments(self, job_id: str) -> None:
        """Remove what is only needed until the video is joined: the segments and the 16 kHz copy."""
        shutil.rmtree(self._job(job_id) / "segments", ignore_errors=True)
        self.speech_path(job_id).unlink(missing_ok=True)

    def delete_job(self, job_id: str) -> None:
        """Remove everything of a job. Harmless when it is gone already."""
        shutil.rmtree(self._job(job_id), ignore_errors=True)

    # Avatars

    def avatar_dir(self, key: str) -> Path:
        """The avatar's folder, made when missing."""
        folder = self._root / "avatars" / _checked(key)
        folder.mkdir(exist_ok=True)
        return folder

    def avatar_source_path(self, key: str) -> Path:
        """The presenter as it came."""
        return self._root / "avatars" / _checked(key) / "source"

    def avatar_face_path(self, key: str) -> Path:
        """The picture of the person meant, where one was sent with the presenter."""
        return self._root / "avatars" / _checked(key) / "face"

    def track_path(self, key: str, start: int) -> Path:
        """Landmarks of the source frames from `start` on, until the presenter is made of them."""
        folder = self.avatar_dir(key) / "tracking"
        folder.mkdir(exist_ok=True)
        return folder / f"{int(start):07d}.npz"

    def delete_tracks(self, key: str) -> None:
        """Remove what `track_path` named. Harmless when it is gone already."""
        shutil.rmtree(self.avatar_dir(key) / "tracking", ignore_errors=True)

    def avatar_keys(self, min_age_s: float = 0.0) -> list[str]:
        """Keys of the avatars that have a folder which is untouched for `min_age_s`."""
        return self._old_folders("avatars", min_age_s)

    def delete_avatar(self, key: str) -> None:
        """Remove an avatar and its source. Harmless when it is gone already."""
        shutil.rmtree(self._root / "avatars" / _checked(key), ignore_errors=True)

    def _old_folders(self, kind: str, min_age_s: float) -> list[str]:
        oldest = time.time() - min_age_s
        folders = [path for path in (self._root / kind).iterdir() if _NAME.fullmatch(path.name)]
        return [folder.name for folder in folders if _age_mark(folder) <= oldest]

    def _job(self, job_id: str) -> Path:
        return self._root / "jobs" / _checked(job_id)


def has_content(path: Path, sha256: str) -> bool:
    """Whether a file is there and holds what has this hash. Reads all of it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def write_atomic(path: Path, payload: bytes, mode: int = _OWN_FILE) -> Path:
    """Write `payload` so that `path` is either absent, old or complete, also after a power cut.

    `mode` holds from the first byte on, less the process's umask.
    """
    partial = path.with_name(f".{path.name}.{new_id()}.part")
    try:
        with disk_errors(), open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, _OWN_FILE)


def _make_own_folder(folder: Path) -> None:
    folder.mkdir(mode=_OWN_FOLDER, exist_ok=True)
    with suppress(PermissionError):  # it belongs to another user of a shared disk
        if stat.S_IMODE(folder.stat().st_mode) != _OWN_FOLDER:
            folder.chmod(_OWN_FOLDER)


def _age_mark(path: Path) -> float:
    """Time of the last change; for ever young when somebody else has removed it meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what a full disk raises inside the block into StorageFullError."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StorageFullError("The disk of the data folder is full.") from error
        raise


def is_disk_full(error: BaseException) -> bool:
    """Whether this is how the system says that a disk, or a share of it, is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise NotFoundError(f"Expected a name of 32 hexadecimal digits, got {name[:80]!r}.")
    return name
