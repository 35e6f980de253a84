"""The files of uploads, jobs and avatars: what is done with them as a whole, wherever they are kept."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from errors import InputError, LipwrightError, NotFoundError, StorageUnreachableError, StoredFileError
from storage.file_keys import (
    AVATARS,
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
from storage.files import StoredFiles
from storage.local.folder import LocalFiles
from storage.records import UploadedFile, new_id
from storage.uploads import UploadWriter, clean_label


class FileStore:
    """Names, moves and removes the files of one service.

    Args:
        root: The data folder of this machine.
        stored: Where the files are kept; in the data folder if None.

    Attributes:
        root: The data folder.
        stored: Where the files are kept.
    """

    def __init__(self, root: Path, stored: StoredFiles | None = None) -> None:
        self.root = root.resolve()
        self.stored: StoredFiles = LocalFiles(root) if stored is None else stored

    @property
    def table_path(self) -> Path:
        """Where the job table of this folder lies."""
        return self.root / "jobs.sqlite3"

    # Uploads

    def new_upload(self, file_name: str) -> UploadWriter:
        """A writer for one upload; `file_name` is the client's and only kept as a label."""
        return UploadWriter(self.stored, upload_key(new_id()), clean_label(file_name))

    def find_upload(self, name: str, taken_to: str) -> str:
        """The key of the complete upload `name`, or `taken_to` where `take_upload` has moved it there.

        Raises:
            NotFoundError: There is neither.
        """
        for key in (upload_key(name), taken_to):
            if self.stored.find(key) is not None:
                return key
        raise NotFoundError(f"There is no upload {name}.")

    def take_upload(self, name: str, target: str) -> None:
        """Move the upload to the key `target`, replacing what was there.

        An upload that was moved there before stays: whoever was interrupted does it again.

        Raises:
            NotFoundError: There is no such upload.
        """
        if (key := self.find_upload(name, target)) != target:
            self.stored.move(key, target)

    def touch_upload(self, name: str) -> None:
        """Say that somebody still waits with this upload, so that it is not swept."""
        self.stored.touch(upload_key(name))

    def delete_upload(self, name: str) -> None:
        """Remove an upload that nobody wants. Harmless when it is gone already."""
        self.stored.remove(upload_key(name))

    def drop_uploads(self, *uploads: UploadedFile | None) -> None:
        """Remove uploads of a request that is over; what cannot be reached at the moment is swept later."""
        with suppress(StorageUnreachableError):
            for upload in uploads:
                if upload is not None:
                    self.delete_upload(upload.key)

    def sweep_uploads(self, min_age_s: float) -> int:
        """Remove uploads that no job took and that are untouched for `min_age_s`. Returns how many.

        The age protects files that an Ingress is writing at this moment.
        """
        names = _older(self.stored.entries(UPLOADS), min_age_s)
        for name in names:
            self.stored.remove(f"{UPLOADS}/{name}")
        return len(names)

    # What was kept

    def has(self, key: str) -> bool:
        """Whether there is a file."""
        return self.stored.find(key) is not None

    def check_size(self, key: str, num_bytes: int) -> None:
        """Refuse a kept file that is gone, or has another size than when it came.

        Raises:
            StoredFileError: It is, or has.
        """
        state = self.stored.find(key)
        if state is None or state.num_bytes != num_bytes:
            found = "that it is gone" if state is None else f"{state.num_bytes}"
            raise StoredFileError(f"{split(key)[1]}: expected the {num_bytes} bytes that were kept, found {found}.")

    def explain_input_error(self, error: LipwrightError, key: str, sha256: str) -> LipwrightError:
        """What is to blame for an error about a kept file: the input, or its loss in our hands.

        Args:
            error: What its reader raised.
            key: The file.
            sha256: Its content when it came.
        """
        if not isinstance(error, InputError) or self.stored.intact({key: sha256}):
            return error
        return StoredFileError(f"{split(key)[1]}: expected the file that was kept, found another one.")

    # Jobs

    def job_ids(self, min_age_s: float = 0.0) -> list[str]:
        """Ids of the jobs that have files, and none that was changed within `min_age_s`."""
        return list(filter(is_name, _older(self.stored.entries(JOBS), min_age_s)))

    def has_segments(self, job_id: str) -> bool:
        """Whether segments of a job are there."""
        return split(segments_folder(job_id))[1] in self.stored.entries(job_folder(job_id))

    def delete_segments(self, job_id: str) -> None:
        """Remove what is only needed until the video is joined: the segments and the 16 kHz copy."""
        self.stored.remove_folder(segments_folder(job_id))
        self.stored.remove(speech_key(job_id))

    def delete_job(self, job_id: str) -> None:
        """Remove everything of a job. Harmless when it is gone already."""
        self.stored.remove_folder(job_folder(job_id))

    # Avatars

    def delete_tracks(self, key: str) -> None:
        """Remove what `file_keys.track_key` named. Harmless when it is gone already."""
        self.stored.remove_folder(tracks_folder(key))

    def avatar_keys(self, min_age_s: float = 0.0) -> list[str]:
        """Keys of the avatars that have files, and none that was changed within `min_age_s`."""
        return list(filter(is_name, _older(self.stored.entries(AVATARS), min_age_s)))

    def delete_avatar(self, key: str) -> None:
        """Remove an avatar and its source. Harmless when it is gone already."""
        self.stored.remove_folder(avatar_folder(key))


def _older(entries: dict[str, float], min_age_s: float) -> list[str]:
    oldest = time.time() - min_age_s
    return [name for name, changed_at in entries.items() if changed_at <= oldest]
