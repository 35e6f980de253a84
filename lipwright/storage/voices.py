"""The voices that callers have cloned: a recording of the speaker and its record, by owner and name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from lipwright.errors import NotFoundError, StateError
from lipwright.jobs.model.base import Frozen
from lipwright.storage.file_keys import voice_folder, voice_id, voices_folder
from lipwright.storage.files import StoredFiles, read_whole

_SAMPLE: Final = "sample.wav"
_RECORD: Final = "voice.json"


class VoiceRecord(Frozen):
    """A cloned voice."""

    name: str
    id: str = Field(
        default_factory=lambda values: voice_id(values["name"]),
        description="ID, which can be used in place of the name.",
    )
    transcript: str = Field("", description="What the recording says; empty if unknown.")
    duration_seconds: float = Field(description="Duration of the recording.")
    created_at: datetime


@dataclass(frozen=True)
class VoiceSample:
    """A cloned voice with its recording.

    Attributes:
        record: Its record.
        wav: WAV file, 24 kHz mono, 16 bits.
    """

    record: VoiceRecord
    wav: bytes


class VoiceStore:
    """Cloned voices. Owners see only their own; None, without API keys, is an owner of its own. Methods block."""

    def __init__(self, files: StoredFiles) -> None:
        self._files = files

    def count(self, owner: str | None) -> int:
        """Return the number of voices of an owner."""
        return len(self._files.entries(voices_folder(owner)))

    def list(self, owner: str | None) -> list[VoiceRecord]:
        """Return the voices of an owner, by name."""
        folder = voices_folder(owner)
        found = (self._record(f"{folder}/{name}") for name in self._files.entries(folder))
        return sorted((record for record in found if record is not None), key=lambda record: record.name)

    def has(self, owner: str | None, name: str) -> bool:
        """Return whether there is a voice of that name."""
        return self._record(voice_folder(owner, name)) is not None

    def find(self, owner: str | None, name: str) -> VoiceSample | None:
        """Return a voice; None if there is none of that name."""
        folder = voice_folder(owner, name)
        record = self._record(folder)
        if record is None:
            return None
        with self._files.fetched(f"{folder}/{_SAMPLE}") as path:
            return VoiceSample(record, path.read_bytes())

    @contextmanager
    def written_sample(self, owner: str | None, name: str, replaces: bool = False) -> Iterator[Path]:
        """Provide a path for the recording of a voice. A new voice exists once it is added.

        If the block fails, an existing voice stays as it was.

        Raises:
            StateError: There is a voice of that name, and `replaces` is false.
        """
        if not replaces and self.has(owner, name):
            raise StateError(f"There is already a voice {name!r}. Delete it first, or choose another name.")
        folder = voice_folder(owner, name)
        self._files.make_folder(folder)
        try:
            with self._files.written(f"{folder}/{_SAMPLE}") as path:
                yield path
        except BaseException:
            self._remove_incomplete(owner, name)
            raise

    def add(self, owner: str | None, record: VoiceRecord) -> None:
        """Add a voice whose recording is written, or replace its record."""
        folder = voice_folder(owner, record.name)
        try:
            self._files.put(f"{folder}/{_RECORD}", record.model_dump_json().encode())
        except BaseException:
            self._remove_incomplete(owner, record.name)
            raise

    def delete(self, owner: str | None, name_or_id: str) -> None:
        """Delete a voice with its recording, or what an interrupted deletion or creation left of it.

        Raises:
            NotFoundError: There is none of that name or ID.
        """
        folder = voices_folder(owner)
        found = {name_or_id, voice_id(name_or_id)} & self._files.entries(folder).keys()
        if not found:
            raise NotFoundError(f"There is no cloned voice {name_or_id[:128]!r}.")
        for each in found:
            self._files.remove(f"{folder}/{each}/{_RECORD}")
            self._files.remove_folder(f"{folder}/{each}")

    def _remove_incomplete(self, owner: str | None, name: str) -> None:
        """Remove what a failed creation left, unless it was to replace a voice."""
        if not self.has(owner, name):
            self._files.remove_folder(voice_folder(owner, name))

    def _record(self, folder: str) -> VoiceRecord | None:
        with suppress(ValidationError):  # a damaged record is as good as none
            if (content := read_whole(self._files, f"{folder}/{_RECORD}")) is not None:
                return VoiceRecord.model_validate_json(content)
        return None
