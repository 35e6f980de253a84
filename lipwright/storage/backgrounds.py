"""Pictures and videos that callers have sent as backgrounds, by their ID."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from pydantic import Field, ValidationError

from lipwright.errors import NotFoundError
from lipwright.jobs.model.base import Frozen, UploadedFile, utc_now
from lipwright.storage.file_keys import BACKGROUNDS, background_folder, background_id, background_source_key, is_name
from lipwright.storage.file_store import FileStore
from lipwright.storage.files import read_whole

_RECORD: Final = "background.json"


class BackgroundRecord(Frozen):
    """A picture or video behind the person."""

    id: str
    owner: str | None = None
    file: UploadedFile
    info: dict[str, Any] = Field(
        description="What the probe found, as `lipwright.jobs.messages.encode_source_info` returns it."
    )
    created_at: datetime


class BackgroundStore:
    """Stored backgrounds. Owners see only their own; None, without API keys, sees all. Methods block."""

    def __init__(self, files: FileStore) -> None:
        self._files = files

    def add(self, owner: str | None, file: UploadedFile, info: dict[str, Any]) -> BackgroundRecord:
        """Take over an upload; the same file of the same owner keeps its ID."""
        file_id = background_id(owner, file.sha256)
        self._files.stored.make_folder(background_folder(file_id))
        self._files.take_upload(file.key, background_source_key(file_id))
        record = BackgroundRecord(id=file_id, owner=owner, file=file, info=info, created_at=utc_now())
        self._put(record)
        return record

    def use(self, file_id: str, owner: str | None) -> BackgroundRecord:
        """Return a background, which counts as used now.

        Raises:
            NotFoundError: The owner has none with this ID.
        """
        record = self._find(file_id, owner)
        self._put(record)
        return record

    def owner_of(self, file_id: str) -> str | None:
        """Return the owner of a background; NotFoundError if there is none with this ID."""
        return self._find(file_id, None).owner

    def delete(self, file_id: str, owner: str | None) -> None:
        """Remove a background.

        Raises:
            NotFoundError: The owner has none with this ID.
        """
        self._files.stored.remove_folder(background_folder(self._find(file_id, owner).id))

    def sweep(self, min_age_s: float, kept: Collection[str] = ()) -> None:
        """Remove the backgrounds that were not used for `min_age_s`, except those with the IDs `kept`."""
        oldest = time.time() - min_age_s
        for file_id, used_at in self._files.stored.entries(BACKGROUNDS).items():
            if is_name(file_id) and file_id not in kept and used_at <= oldest:
                self._files.stored.remove_folder(background_folder(file_id))

    def _put(self, record: BackgroundRecord) -> None:
        """Write the record, which also sets the time of the last change of the folder."""
        folder = background_folder(record.id)
        self._files.stored.put(f"{folder}/{_RECORD}", record.model_dump_json().encode())

    def _find(self, file_id: str, owner: str | None) -> BackgroundRecord:
        if is_name(file_id) and (content := read_whole(self._files.stored, f"{background_folder(file_id)}/{_RECORD}")):
            with suppress(ValidationError):  # a damaged record is as good as none
                record = BackgroundRecord.model_validate_json(content)
                if owner in (None, record.owner):
                    return record
        raise NotFoundError(f"There is no background {file_id[:40]!r}. Send it with POST /v1/backgrounds.")
