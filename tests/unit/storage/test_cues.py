"""Spoken texts in a folder and in a bucket: found in a job, in the cache, and evicted."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from errors import StoredFileError
from jobs.model.base import new_id
from storage.cues import CueStore, SpokenCue
from storage.file_keys import CUES, cue_key, cues_folder, job_folder
from storage.file_store import FileStore
from tests.unit.storage.test_file_store import text_of

FIRST, SECOND = job_folder("1" * 32), job_folder("2" * 32)
DIGEST, OTHER = "a" * 32, "b" * 32
SOUND = b"RIFF of a text"


def _cues(store: FileStore, max_bytes: int = 10_000, max_idle_s: float = 3600.0) -> CueStore:
    for folder in (FIRST, SECOND):
        store.stored.make_folder(folder)
    return CueStore(store.stored, max_bytes, max_idle_s)


def _add(store: FileStore, cues: CueStore, digest: str = DIGEST, sound: bytes = SOUND, owner: str = "a") -> SpokenCue:
    writer = store.new_upload("cue")
    writer.write(sound)
    return cues.add(writer.finish(), 1.5, owner, digest, FIRST)


def test_take_finds_a_cue_in_its_job_and_the_cache(store: FileStore) -> None:
    cues = _cues(store)
    assert cues.take("a", DIGEST, FIRST) is None
    record = _add(store, cues)
    assert record.sha256 == hashlib.sha256(SOUND).hexdigest()
    assert cues.take("a", DIGEST, FIRST) == record
    assert cues.take("a", DIGEST, SECOND) == record.model_copy(update={"key": cue_key(SECOND, DIGEST)})
    assert text_of(store.stored, cue_key(SECOND, DIGEST)) == SOUND
    assert store.stored.entries("uploads") == {}
    third = job_folder("3" * 32)
    assert cues.take("b", DIGEST, third) is None and cues.take(None, DIGEST, third) is None
    if "bucket" not in type(store.stored).__module__:
        keys = (cue_key(folder, DIGEST) for folder in (FIRST, SECOND, cues_folder("a")))
        assert len({os.stat(store.root / key).st_ino for key in keys}) == 1, "copies in a folder take no space"
    missing = SpokenCue(key=cue_key(FIRST, OTHER), sha256="0" * 64, num_bytes=1, seconds=1.0)
    with pytest.raises(StoredFileError):
        cues.copy(missing, cue_key(SECOND, OTHER))


def test_take_of_a_damaged_cue_finds_nothing(store: FileStore) -> None:
    cues = _cues(store)
    _add(store, cues)
    store.stored.put(cue_key(FIRST, DIGEST) + ".json", b'{"sha256": ')
    assert cues.find(cue_key(FIRST, DIGEST)) is None
    assert cues.take("a", DIGEST, FIRST) is not None, "it is copied from the cache again"
    store.stored.put(cue_key(cues_folder("a"), DIGEST), SOUND[::-1])
    assert cues.take("a", DIGEST, SECOND) is None
    assert store.stored.states(CUES) == {}, "the damaged file is removed"
    store.stored.put(cue_key(FIRST, DIGEST), b"")
    assert cues.take("a", DIGEST, FIRST) is None


def test_sweep_removes_the_least_recently_used(store: FileStore) -> None:
    num_bytes = 1000
    cues = _cues(store, max_bytes=3 * num_bytes)
    digests = [letter * 32 for letter in "abcd"]
    for digest in digests:
        _add(store, cues, digest, bytes(num_bytes))
        time.sleep(1.1 if "bucket" in type(store.stored).__module__ else 0.02)  # a bucket keeps times in seconds
    assert cues.take("a", digests[0], SECOND) is not None
    assert cues.sweep() == 2, "records take space as well"
    cached = {key.rpartition("/")[2] for key in store.stored.states(CUES) if not key.endswith(".json")}
    assert cached == {digests[0], digests[3]}
    assert cues.take("a", digests[1], FIRST) is not None, "the job keeps its file"
    assert cues.sweep() == 0
    assert _cues(store, max_idle_s=-1.0).sweep() == 2, "unused for too long"
    assert store.stored.states(CUES) == {}


def test_add_without_a_cache_keeps_the_cue_in_its_job(store: FileStore) -> None:
    cues = _cues(store, max_bytes=0)
    record = _add(store, cues)
    assert cues.take("a", DIGEST, FIRST) == record and cues.take("a", DIGEST, SECOND) is None
    _add(store, _cues(store), OTHER)
    assert cues.sweep() == 1 and store.stored.states(CUES) == {}, "what an earlier setting left"


def test_states_lists_all_files_below_a_folder(store: FileStore) -> None:
    key = f"avatars/{new_id()}/people/report.json"
    store.stored.make_folder(key.rpartition("/")[0])
    store.stored.put(key, b"12345")
    (state,) = store.stored.states("avatars").values()
    assert state == store.stored.find(key)
    time.sleep(1.1 if "bucket" in type(store.stored).__module__ else 0.02)
    store.stored.touch(key)
    assert store.stored.states("avatars")[key].changed_at > state.changed_at
    assert store.stored.states("jobs") == {}
