"""Cloned voices in a folder and in a bucket."""

from __future__ import annotations

import pytest

from errors import NotFoundError, StateError
from jobs.model.files import utc_now
from storage.file_store import FileStore
from storage.voices import VoiceRecord, VoiceStore


def _add(voices: VoiceStore, owner: str | None, name: str, wav: bytes = b"RIFF") -> VoiceRecord:
    record = VoiceRecord(name=name, duration_seconds=1.5, created_at=utc_now())
    with voices.written_sample(owner, name) as path:
        path.write_bytes(wav)
    voices.add(owner, record)
    return record


def test_voices_are_found_by_owner_and_name(store: FileStore) -> None:
    voices = VoiceStore(store.stored)
    anna, zoe = _add(voices, "a", "zoe", b"zoe"), _add(voices, "a", "../anna", b"anna")
    _add(voices, None, "zoe", b"other")
    assert voices.list("a") == [zoe, anna] and voices.count("a") == 2 and voices.list("b") == []
    found = voices.find("a", "zoe")
    assert found is not None and (found.record, found.wav) == (anna, b"zoe")
    assert voices.find("b", "zoe") is None
    voices.delete("a", "zoe")
    assert voices.list("a") == [zoe] and not voices.has("a", "zoe") and voices.has(None, "zoe")
    with pytest.raises(NotFoundError, match="no cloned voice 'zoe'"):
        voices.delete("a", "zoe")


def test_a_voice_is_not_replaced_and_a_failure_leaves_nothing(store: FileStore) -> None:
    voices = VoiceStore(store.stored)
    _add(voices, "a", "anna")
    with pytest.raises(StateError, match="already a voice 'anna'"), voices.written_sample("a", "anna"):
        pass
    with pytest.raises(RuntimeError), voices.written_sample("a", "zoe"):
        raise RuntimeError
    assert voices.count("a") == 1


def test_a_failed_replacement_leaves_the_voice_as_it_was(store: FileStore) -> None:
    voices = VoiceStore(store.stored)
    record = _add(voices, "a", "anna", b"old")
    with pytest.raises(RuntimeError), voices.written_sample("a", "anna", replaces=True) as path:
        path.write_bytes(b"half")
        raise RuntimeError
    found = voices.find("a", "anna")
    assert found is not None and (found.record, found.wav) == (record, b"old")
    with voices.written_sample("a", "anna", replaces=True) as path:
        path.write_bytes(b"new")
    voices.add("a", record.model_copy(update={"transcript": "Hello."}))
    found = voices.find("a", "anna")
    assert found is not None and (found.record.transcript, found.wav) == ("Hello.", b"new")


def test_delete_voice_by_id_removes_it_for_its_owner_only(store: FileStore) -> None:
    voices = VoiceStore(store.stored)
    kept, gone = _add(voices, "a", "zoe"), _add(voices, "a", "heygem:/code/data/J\u00fcrgen 1.wav")
    with pytest.raises(NotFoundError):
        voices.delete("b", gone.id)
    voices.delete("a", gone.id)
    assert voices.list("a") == [kept]


def test_voice_record_without_id_has_the_one_of_its_name(store: FileStore) -> None:
    record = VoiceRecord.model_validate_json(
        '{"name": "zoe", "duration_seconds": 1, "created_at": "2026-01-01T00:00:00Z"}'
    )
    voices = VoiceStore(store.stored)
    with voices.written_sample(None, "zoe") as path:
        path.write_bytes(b"RIFF")
    voices.add(None, record)
    voices.delete(None, record.id)
    assert not voices.list(None)
