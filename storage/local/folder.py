"""Files in the data folder; keys are paths relative to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from errors import StoredFileError
from storage.file_keys import AVATARS, JOBS, UPLOADS, VOICES
from storage.files import FileState
from storage.local.disk import has_content, make_private_folder, write_atomic, written_atomically


class LocalFiles:
    """Implements `storage.files.StoredFiles`. Several processes, and several machines, may share one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        make_private_folder(self._root)
        for name in (UPLOADS, JOBS, AVATARS, VOICES):
            make_private_folder(self._root / name)

    def find(self, key: str) -> FileState | None:
        path = self._root / key
        if not path.is_file():
            return None
        with suppress(FileNotFoundError):
            state = path.stat()
            return FileState(state.st_size, f"{state.st_mtime_ns:x}-{state.st_size:x}", state.st_mtime)
        return None

    def intact(self, contents: Mapping[str, str]) -> set[str]:
        """Reads the whole files."""
        return {key for key, sha256 in contents.items() if has_content(self._root / key, sha256)}

    @contextmanager
    def fetched(self, key: str) -> Iterator[Path]:
        yield self._existing_path(key)

    @contextmanager
    def fetched_folder(self, folder: str, parts: Sequence[str]) -> Iterator[Path]:
        yield self._root / folder

    @contextmanager
    def written(self, key: str) -> Iterator[Path]:
        """Other files left next to it are removed."""
        with written_atomically(self._root / key) as part:
            yield part

    @contextmanager
    def written_folder(self, folder: str, part: str, last: str, beside: Sequence[str] = ()) -> Iterator[Path]:
        """It is written in place."""
        (self._root / folder / part).mkdir(parents=True, exist_ok=True)
        (self._root / folder / part / last).unlink(missing_ok=True)
        yield self._root / folder

    def make_folder(self, folder: str) -> None:
        (self._root / folder).mkdir(parents=True, exist_ok=True)

    def put(self, key: str, content: bytes) -> None:
        write_atomic(self._root / key, content)

    def staging_path(self, key: str) -> Path:
        return self._root / key

    def publish(self, path: Path, key: str, sha256: str) -> None:
        """The file is already in place."""

    def move(self, key: str, target: str) -> None:
        path = self._root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        self._existing_path(key).replace(path)

    def copy(self, key: str, target: str) -> None:
        """The copy is a hard link where the disk supports it."""
        with written_atomically(self._root / target) as part:
            try:
                os.link(self._existing_path(key), part)
            except OSError:
                shutil.copyfile(self._existing_path(key), part)

    def touch(self, key: str) -> None:
        with suppress(FileNotFoundError):
            os.utime(self._root / key)

    def remove(self, key: str) -> None:
        (self._root / key).unlink(missing_ok=True)

    def remove_folder(self, folder: str) -> None:
        shutil.rmtree(self._root / folder, ignore_errors=True)

    def entries(self, folder: str) -> dict[str, float]:
        found: dict[str, float] = {}
        with suppress(FileNotFoundError):
            for path in (self._root / folder).iterdir():
                with suppress(FileNotFoundError):  # removed by another process in the meantime
                    found[path.name] = path.stat().st_mtime
        return found

    def states(self, folder: str) -> dict[str, FileState]:
        keys = (
            f"{place.removeprefix(f'{self._root}/')}/{name}"
            for place, _, names in os.walk(self._root / folder)
            for name in names
        )
        return {key: state for key in keys if (state := self.find(key)) is not None}

    def local_path(self, key: str) -> Path | None:
        return self._root / key

    def read(self, key: str, start: int, stop: int, tag: str) -> bytes:
        with self._existing_path(key).open("rb") as file:
            return os.pread(file.fileno(), stop - start, start)

    def presigned_url(self, key: str, method: str) -> str | None:
        """Local files have none."""
        return None

    def free_bytes(self) -> int | None:
        return shutil.disk_usage(self._root).free

    def _existing_path(self, key: str) -> Path:
        path = self._root / key
        if not path.is_file():
            raise StoredFileError(f"{path.name}: the stored file is missing.")
        return path
