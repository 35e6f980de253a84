"""Operations on the files of uploads, jobs and avatars, wherever they are stored."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from lipwright.errors import InputError, LipwrightError, NotFoundError, StorageUnreachableError, StoredFileError
from lipwright.jobs.model.base import UploadedFile, new_id
from lipwright.storage.file_keys import (
    AVATARS,
    FACE_SPEECH,
    JOBS,
    UPLOADS,
    avatar_folder,
    is_name,
    job_folder,
    segments_folder,
    speech_key,
    split,
    tracks_folder,
    upload_key,
)
from lipwright.storage.files import StoredFiles
from lipwright.storage.local.folder import LocalFiles
from lipwright.storage.uploads import UploadWriter, clean_label


class FileStore:
    """Names, moves and removes the files of one service, which are in the data folder `root`, or in `stored`."""

    def __init__(self, root: Path, stored: StoredFiles | None = None) -> None:
        self.root = root.resolve()
        self.stored: StoredFiles = LocalFiles(root) if stored is None else stored

    @property
    def table_path(self) -> Path:
        """Path of the job table in the data folder."""
        return self.root / "jobs.sqlite3"

    # Uploads

    def new_upload(self, file_name: str) -> UploadWriter:
        """Return a writer for one upload; the client's `file_name` is only kept as a label."""
        return UploadWriter(self.stored, upload_key(new_id()), clean_label(file_name))

    def find_upload(self, name: str, taken_to: str) -> str:
        """Return the key of the complete upload `name`, or `taken_to` if `take_upload` has moved it there.

        Raises:
            NotFoundError: Neither exists.
        """
        for key in (upload_key(name), taken_to):
            if self.stored.find(key) is not None:
                return key
        raise NotFoundError(f"There is no upload {name}.")

    def take_upload(self, name: str, target: str) -> None:
        """Move the upload to the key `target`, replacing a file there.

        Does nothing if it was already moved there, so that an interrupted call can be repeated.

        Raises:
            NotFoundError: There is no such upload.
        """
        if (key := self.find_upload(name, target)) != target:
            self.stored.move(key, target)

    def touch_upload(self, name: str) -> None:
        """Protect an upload that is still needed from being swept."""
        self.stored.touch(upload_key(name))

    def delete_upload(self, name: str) -> None:
        """Remove an upload, if it exists."""
        self.stored.remove(upload_key(name))

    def drop_uploads(self, *uploads: UploadedFile | None) -> None:
        """Remove the uploads of a finished request; those that cannot be reached are swept later."""
        with suppress(StorageUnreachableError):
            for upload in uploads:
                if upload is not None:
                    self.delete_upload(upload.key)

    def sweep_uploads(self, min_age_s: float) -> None:
        """Remove uploads that no job took and that are untouched for `min_age_s`.

        The age protects files that an Ingress is still writing.
        """
        for name in _older(self.stored.entries(UPLOADS), min_age_s):
            self.stored.remove(f"{UPLOADS}/{name}")

    # Stored files

    def has(self, key: str) -> bool:
        """Return whether a file exists."""
        return self.stored.find(key) is not None

    def check_size(self, key: str, num_bytes: int) -> None:
        """Raise StoredFileError if a stored file is missing or does not have its original size."""
        state = self.stored.find(key)
        if state is None or state.num_bytes != num_bytes:
            found = "no file" if state is None else f"{state.num_bytes}"
            raise StoredFileError(f"{split(key)[1]}: expected the {num_bytes} bytes that were stored, found {found}.")

    def explain_input_error(self, error: LipwrightError, key: str, sha256: str) -> LipwrightError:
        """Return `error`, or a StoredFileError if it is an InputError about a file that storage lost or damaged.

        `sha256` is the hash of the original content of the file, hexadecimal.
        """
        if not isinstance(error, InputError) or self.stored.intact({key: sha256}):
            return error
        return StoredFileError(f"{split(key)[1]}: the stored file is missing or damaged.")

    # Jobs

    def job_ids(self, min_age_s: float = 0.0) -> list[str]:
        """Return the ids of jobs with files, all unchanged for `min_age_s`."""
        return list(filter(is_name, _older(self.stored.entries(JOBS), min_age_s)))

    def delete_segments(self, job_id: str) -> None:
        """Remove what is only needed until the segments are joined: them and the 16 kHz copy."""
        self.stored.remove_folder(segments_folder(job_id))
        self.stored.remove(speech_key(job_id))

    def delete_speech(self, job_id: str) -> None:
        """Remove the 16 kHz copies of the speech."""
        folder = segments_folder(job_id)
        self.stored.remove(speech_key(job_id))
        for name in self.stored.entries(folder):
            if name.startswith(FACE_SPEECH):
                self.stored.remove(f"{folder}/{name}")

    def segment_bytes(self, job_id: str) -> int:
        """Return the size of the segments of a job and of their plans."""
        return sum(state.num_bytes for state in self.stored.states(segments_folder(job_id)).values())

    def job_bytes(self, job_id: str) -> int:
        """Return the size of all files of a job."""
        return sum(state.num_bytes for state in self.stored.states(job_folder(job_id)).values())

    def delete_job(self, job_id: str) -> None:
        """Remove all files of a job."""
        self.stored.remove_folder(job_folder(job_id))

    # Avatars

    def delete_tracks(self, key: str) -> None:
        """Remove the files of `file_keys.track_key`."""
        self.stored.remove_folder(tracks_folder(key))

    def avatar_keys(self, min_age_s: float = 0.0) -> list[str]:
        """Return the keys of avatars with files, all unchanged for `min_age_s`."""
        return list(filter(is_name, _older(self.stored.entries(AVATARS), min_age_s)))

    def delete_avatar(self, key: str) -> None:
        """Remove all files of an avatar."""
        self.stored.remove_folder(avatar_folder(key))


def _older(entries: dict[str, float], min_age_s: float) -> list[str]:
    oldest = time.time() - min_age_s
    return [name for name, changed_at in entries.items() if changed_at <= oldest]
