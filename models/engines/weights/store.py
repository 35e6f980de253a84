"""The weights that users add, in one folder that several processes may share.

index.json                                          what there is
{engine}[:{variant}]/{role}/{sha256[:16]}-{label}   a file, with its external_data beside it
.stage/{token}/...                               a file that is being added
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lipwright.errors import NotFoundError, OptionError, StateError, WeightsError
from models.engines.protocol import EngineClass, TensorTable, WeightsSpec
from models.engines.registry import ENGINES, POST_PROCESSORS, weights_specs
from models.engines.weights.index import WeightsEntry, WeightsIndex, add_command, clean_label, join_name, split_name
from models.engines.weights.inspection import inspect_weights, read_contents
from models.engines.weights.recognition import AddRequest, RoleMatch, candidates, recognise
from models.engines.weights.upload import StagedFile, external_data_paths

_STAGING: Final = ".stage"


@dataclass(frozen=True)
class Found:
    """A recognised file that is not in the store yet."""

    staged: StagedFile  # the file
    label: str  # the name that it came with, made harmless
    name: str  # engine and variant that it is for
    role: WeightsSpec  # its role there
    table: TensorTable  # what it holds
    source: str | None  # URL that it came from, without credentials


class WeightsStore:
    """Adds, finds, checks and removes weights files in `weights` of the data folder, made when something is added."""

    def __init__(self, folder: Path, engines: Mapping[str, str | EngineClass] = ENGINES) -> None:
        self.folder = folder
        self._index = WeightsIndex(folder)
        self.engines = engines

    def add(self, file: Path, engine: str | None = None, name: str | None = None) -> WeightsEntry:
        """Copy a file into the store.

        Args:
            file: Torch, safetensors or ONNX.
            engine: Engine to use it; None tries all engines.
            name: Name of the variant that it belongs to.

        Raises:
            WeightsError: It is damaged, dangerous, or no engine can use it.
            OptionError: There is no such engine, or several can use the file.
            StateError: The variant has another file of that role.
            StorageFullError: The disk does not hold it.
        """
        request = AddRequest(engine, variant=name)
        self.candidates(request)
        with self.stage() as staged:
            staged.copy(file)
            return self.keep(self.recognise(staged, file.name, request))

    def candidates(self, request: AddRequest) -> tuple[RoleMatch, ...]:
        """Return the engines and roles that the request alone allows.

        Raises:
            OptionError: There are none, or the name of the variant is not valid.
        """
        names = [*self.engines, *POST_PROCESSORS] if request.engine is None else [request.engine]
        for name in names:
            join_name(name, request.variant)
        return candidates({name: weights_specs(name, self.engines) for name in names}, request)

    @contextmanager
    def stage(self) -> Iterator[StagedFile]:
        """Open a staged file; its folder is removed after the block unless it was kept."""
        folder = self.folder / _STAGING / secrets.token_hex(8)
        with ExitStack() as stack:
            with self._index.lock():
                self._sweep()
                folder.mkdir(parents=True)
                stack.enter_context(_lock(folder))  # tells a cleanup that this folder is being written
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            staged = StagedFile(folder)
            stack.callback(staged.close)
            yield staged

    def recognise(self, staged: StagedFile, file_name: str, request: AddRequest, source: str | None = None) -> Found:
        """Inspect a file that was written, and find the engine that can use it. External data files are copied.

        Args:
            staged: The whole file.
            file_name: The name that it came with.
            request: The request.
            source: URL that it came from, without credentials.

        Raises:
            WeightsError: It does not match the request, is damaged or dangerous, or no engine can use it.
            OptionError: There is no such engine or role, or several can use the file.
            StateError: The variant has another file of that role.
        """
        label = clean_label(file_name)
        staged.finish()
        if request.sha256 is not None and request.sha256.lower() != staged.sha256:
            raise WeightsError(f"{label}: expected sha256 {request.sha256.lower()[:80]}, found {staged.sha256}.")
        contents = read_contents(staged.path, label)
        match = recognise(label, contents.table, self.candidates(request))
        found = Found(staged, label, join_name(match.engine, request.variant), match.spec, contents.table, source)
        staged.copy_external_data(external_data_paths(label, contents.external_data, staged.origin))
        self._find_known(found)
        return found

    def keep(self, found: Found) -> WeightsEntry:
        """Move a recognised file to its place; an intact one that is already there stays.

        Raises:
            StateError: The variant has another file of that role.
        """
        staged = found.staged
        entry = WeightsEntry(
            name=found.name,
            role=found.role.name,
            label=found.label,
            format=found.table.format,
            sha256=staged.sha256,
            num_bytes=staged.num_bytes,
            external_data=staged.external_data,
            source=found.source,
            added_at=datetime.now(UTC),
        )
        with self._index.lock():
            known = self._find_known(found)
            if known is not None and file_fault(self.path_of(known), known) is None:
                return known
            target = self.path_of(entry)
            staged.path.rename(staged.folder / target.name)
            target.parent.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(
                target.parent, ignore_errors=True
            )  # a damaged copy of this file, or of an add that was killed
            staged.folder.rename(target.parent)
            others = [each for each in self._index.entries() if (each.name, each.role) != (entry.name, entry.role)]
            self._index.replace([*others, entry])
        return entry

    def list(self) -> tuple[WeightsEntry, ...]:
        """All entries, by name and role.

        Raises:
            WeightsError: The index cannot be read.
        """
        return self._index.entries()

    def find(self, name: str, role: str) -> WeightsEntry | None:
        """The entry of a role of a variant, if there is one."""
        return next((each for each in self.list() if (each.name, each.role) == (name, role)), None)

    def path_of(self, entry: WeightsEntry) -> Path:
        """Where the file of an entry lies; it is not checked."""
        return self.folder / entry.name / entry.role / entry.file_name

    def verify(self, name: str | None = None) -> dict[WeightsEntry, str | None]:
        """Verify the checksums of files, all or those of an engine and variant, and check their engines again.

        Returns:
            The problem of each file; None if there is none.

        Raises:
            NotFoundError: There is no file of that name.
        """
        return {entry: self._fault(entry) for entry in self._choose(name, None)}

    def remove(self, name: str, role: str | None = None) -> tuple[WeightsEntry, ...]:
        """Remove the files of a variant, or the one of a role.

        Raises:
            NotFoundError: There is none.
        """
        with self._index.lock():
            gone = self._choose(name, role)
            self._index.replace([entry for entry in self.list() if entry not in gone])
            for entry in gone:
                shutil.rmtree(self.path_of(entry).parent, ignore_errors=True)
            with suppress(OSError):  # other roles are left
                (self.folder / name).rmdir()
        return gone

    def for_engine(self, name: str) -> InstalledWeights:
        """The files of a variant, for its engine."""
        return InstalledWeights(self, name)

    def role(self, name: str, role: str) -> WeightsSpec:
        """The role of that name of an engine.

        Raises:
            OptionError: There is no such engine.
            WeightsError: The engine has no such role.
        """
        roles = {each.name: each for each in weights_specs(name, self.engines)}
        if role not in roles:
            raise WeightsError(f"{name}: expected a role of {', '.join(roles) or 'none'}, found {role!r}.")
        return roles[role]

    def _choose(self, name: str | None, role: str | None) -> tuple[WeightsEntry, ...]:
        chosen = tuple(each for each in self.list() if name in (None, each.name) and role in (None, each.role))
        if name is not None and not chosen:
            raise NotFoundError(
                f"There are no weights of {name[:80]!r}{f' of the role {role[:80]!r}' if role else ''}."
            )
        return chosen

    def _find_known(self, found: Found) -> WeightsEntry | None:
        """Return the entry of the same file if it was added before."""
        known = self.find(found.name, found.role.name)
        new = (found.staged.sha256, found.staged.external_data)
        if known is not None and (known.sha256, known.external_data) != new:
            engine, _ = split_name(found.name)
            raise StateError(
                f"{found.label}: {found.name} has another {found.role.name} already ({known.label}). Add this one to a "
                f"variant with `--engine {engine} --name VARIANT`, or remove that one with "
                f"`lipwright models remove {found.name} --role {found.role.name}`."
            )
        return known

    def _fault(self, entry: WeightsEntry) -> str | None:
        path = self.path_of(entry)
        try:
            if fault := file_fault(path, entry):
                return f"{fault} Add it again: {add_command(entry.name, entry.role)}"
            fault = self.role(entry.name, entry.role).mismatch(inspect_weights(path))
        except (WeightsError, OptionError) as error:
            return f"{entry.name} {entry.role}: {error}"
        return f"{entry.name} {entry.role}: {fault}" if fault else None

    def _sweep(self) -> None:
        """Remove staging folders left by killed processes."""
        for folder in (self.folder / _STAGING).glob("*"):
            # BlockingIOError: another process writes there. FileNotFoundError: it has just ended.
            with suppress(BlockingIOError, FileNotFoundError), _lock(folder, fcntl.LOCK_NB):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _lock(folder: Path, flags: int = 0) -> Iterator[None]:
    """Hold an exclusive lock on a folder during the block."""
    mark = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(mark)


class InstalledWeights:
    """`protocol.EngineWeights` over a store, for an engine and variant such as `wav2lip:gan`.

    A file is hashed when it is first asked for, and again only after it was changed.
    """

    def __init__(self, store: WeightsStore, name: str) -> None:
        self._store = store
        self._name = name
        self._sound: set[tuple[Path, int, int, int]] = set()

    def has(self, role: str) -> bool:
        """Whether there is a file of that role; it is not hashed."""
        entry = self._store.find(self._name, role)
        return entry is not None and self._store.path_of(entry).is_file()

    def fingerprint(self, role: str) -> str:
        """Return the sum of the files of a role as they were added, empty if there are none; they are not hashed."""
        entry = self._store.find(self._name, role)
        if entry is None or not entry.external_data:
            return "" if entry is None else entry.sha256
        sums = [entry.sha256, *(f"{each.location} {each.sha256}" for each in entry.external_data)]
        return hashlib.sha256("\n".join(sums).encode()).hexdigest()

    def path(self, role: str) -> Path:
        """Return the file of a role.

        Raises:
            WeightsError: There is none, or it is not the one that was added; the message says how to fix that.
        """
        entry = self._store.find(self._name, role)
        if entry is None:
            title = self._store.role(self._name, role).title
            raise WeightsError(f"{self._name} has no {role} ({title}). Add it: {add_command(self._name, role)}")
        marks = set(_marks(self._store.path_of(entry), entry))
        if not marks or not marks <= self._sound:
            if fault := file_fault(self._store.path_of(entry), entry):
                raise WeightsError(f"{fault} Add it again: {add_command(self._name, role)}")
            self._sound |= marks
        return self._store.path_of(entry)


def file_fault(path: Path, entry: WeightsEntry) -> str | None:
    """Return the first fault of an entry's files, of which `path` is the main one; None if all checksums match."""
    parts = [(path, entry.label, entry.sha256)]
    parts += [(path.parent / each.location, each.location, each.sha256) for each in entry.external_data]
    for part, label, expected in parts:
        try:
            with part.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return f"{entry.name} {entry.role}: expected the file {label}, it cannot be read: {error.strerror}."
        if found != expected:
            return f"{entry.name} {entry.role}: expected {label} with sha256 {expected}, found {found}."
    return None


def _marks(path: Path, entry: WeightsEntry) -> Iterator[tuple[Path, int, int, int]]:
    """Yield values that change when one of the files is written."""
    for part in (path, *(path.parent / each.location for each in entry.external_data)):
        try:
            state = part.stat()
        except OSError:
            yield part, -1, -1, -1
        else:
            yield part, state.st_mtime_ns, state.st_ino, state.st_size
