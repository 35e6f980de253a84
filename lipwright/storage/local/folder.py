"""Files in the data folder, written atomically to a disk that may be full; keys are paths relative to it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from lipwright.errors import StorageFullError, StoredFileError
from lipwright.jobs.model.base import new_id
from lipwright.storage.file_keys import AVATARS, JOBS, UPLOADS, VOICES
from lipwright.storage.files import FileState

_PRIVATE_FOLDER_MODE: Final = 0o700
PRIVATE_FILE_MODE: Final = 0o600


def has_content(path: Path, sha256: str) -> bool:
    """Return whether a file exists and has this hash. Reads all of it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def write_atomic(path: Path, payload: bytes, mode: int = PRIVATE_FILE_MODE) -> Path:
    """Write `payload` so that `path` is either absent, old or complete, even after a power cut.

    The file has `mode`, less the process's umask, from the first byte on.
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


@contextmanager
def written_atomically(out: Path) -> Iterator[Path]:
    """Provide a path to write; it is moved to `out` if the block succeeds, and other files next to it are removed.

    After a power cut, `out` is absent, old or complete.
    """
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        part = Path(folder) / out.name
        yield part
        with disk_errors(), part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(out)


def open_private(name: str, flags: int) -> int:
    """Opener for files that other users may not read."""
    return os.open(name, flags, PRIVATE_FILE_MODE)


def make_private_folder(folder: Path) -> None:
    """Create a folder that other users may not read, or change the mode of an existing one.

    A folder of another user stays as it is, and so does one for temporary files of all users, such as /tmp.
    """
    folder.mkdir(mode=_PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode != _PRIVATE_FOLDER_MODE and not mode & stat.S_ISVTX:
        with suppress(PermissionError):
            folder.chmod(_PRIVATE_FOLDER_MODE)


_UNWRITABLE: Final = {
    errno.EROFS: "The disk of the data folder is read-only.",
    errno.EFBIG: "A file is larger than the service may write (`ulimit -f`, or a limit of the file system).",
}


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raise StorageFullError if a disk is full or read-only inside the block; see `storage_error`."""
    try:
        yield
    except OSError as error:
        if (full := storage_error(error)) is not None:
            raise full from error
        raise


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error means that a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def storage_error(error: BaseException) -> StorageFullError | None:
    """Return the error for a disk that is full or read-only; None for other errors."""
    if is_disk_full(error):
        return StorageFullError("The disk of the data folder is full.")
    reason = _UNWRITABLE.get(error.errno or 0) if isinstance(error, OSError) else None
    return None if reason is None else StorageFullError(reason)


class LocalFiles:
    """Implements `StoredFiles`. Several processes, and several machines, may share one folder."""

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
        """Leaves out names with a leading dot: what is being written, or was when a process was killed."""
        found: dict[str, float] = {}
        for path in (self._root / folder).glob("[!.]*"):
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
