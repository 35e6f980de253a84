"""Backgrounds of live sessions in a folder and in a bucket."""

from __future__ import annotations

import pytest

from errors import NotFoundError
from jobs.model.files import UploadedFile
from storage.backgrounds import BackgroundStore
from storage.file_keys import background_source_key
from storage.file_store import FileStore

INFO = {"width": 64, "height": 48}


def _sent(store: FileStore, content: bytes) -> UploadedFile:
    writer = store.new_upload("office.jpg")
    writer.write(content)
    return writer.finish()


def test_the_same_file_of_the_same_owner_is_the_same_background(store: FileStore) -> None:
    backgrounds = BackgroundStore(store)
    first = backgrounds.add("a", _sent(store, b"office"), INFO)
    assert backgrounds.add("a", _sent(store, b"office"), INFO).id == first.id
    assert len({first.id, backgrounds.add("a", _sent(store, b"beach"), INFO).id}) == 2
    assert backgrounds.add("b", _sent(store, b"office"), INFO).id != first.id
    with store.stored.fetched(background_source_key(first.id)) as path:
        assert path.read_bytes() == b"office"


def test_owners_use_and_delete_only_their_own(store: FileStore) -> None:
    backgrounds = BackgroundStore(store)
    made = backgrounds.add("a", _sent(store, b"office"), INFO)
    for owner, file_id in (("b", made.id), ("a", "0" * 32), ("a", "../jobs")):
        with pytest.raises(NotFoundError, match="POST /v1/backgrounds"):
            backgrounds.use(file_id, owner)
        with pytest.raises(NotFoundError):
            backgrounds.delete(file_id, owner)
    assert backgrounds.use(made.id, "a").info == backgrounds.use(made.id, None).info == INFO
    backgrounds.delete(made.id, "a")
    with pytest.raises(NotFoundError):
        backgrounds.use(made.id, "a")


def test_what_was_not_used_for_long_is_removed(store: FileStore) -> None:
    backgrounds = BackgroundStore(store)
    made = backgrounds.add(None, _sent(store, b"office"), INFO)
    backgrounds.sweep(60)
    assert backgrounds.use(made.id, None)
    backgrounds.sweep(-60)
    with pytest.raises(NotFoundError):
        backgrounds.use(made.id, None)
    assert not store.has(background_source_key(made.id))
