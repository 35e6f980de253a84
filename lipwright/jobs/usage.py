"""Usage of API keys: compute time outside of jobs, stored bytes, and the report of all of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import date
from threading import Lock
from typing import Final

from lipwright.errors import LipwrightError, NotFoundError, OptionError
from lipwright.jobs.model.base import utc_now
from lipwright.jobs.model.compute import metered
from lipwright.jobs.model.usage import UsageRow
from lipwright.storage.backgrounds import BackgroundStore
from lipwright.storage.file_keys import AVATARS, BACKGROUNDS, VOICES, avatar_folder, is_name, voices_folder
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable

_MAX_DAYS: Final = 366
_FRESH_S: Final = 60.0


@asynccontextmanager
async def counted_compute(table: JobTable, owner: str | None) -> AsyncIterator[None]:
    """Count the compute time of the block, which is no part of a job."""
    with metered():
        try:
            yield
        finally:
            with suppress(LipwrightError):  # what is not recorded is not charged
                await table.run_in_thread(table.usage.add_compute, owner)


class StoredBytes:
    """The stored files of each owner: jobs, avatars, backgrounds and voices. Blocks on the table and the file storage.

    The job table knows the size of the files of jobs. The others are measured. A measurement lists all of them, so it
    is used for a minute.
    """

    def __init__(self, table: JobTable, files: FileStore) -> None:
        self._table, self._files = table, files
        self._backgrounds = BackgroundStore(files)
        self._measuring, self._counting = Lock(), Lock()
        self._of_owners: Counter[str | None] = Counter()
        self._added: Counter[str | None] = Counter()  # since the last measurement began
        self._of_voices: Counter[str] = Counter()  # by the folder of their owner
        self._fresh_until = 0.0

    @property
    def owners(self) -> set[str | None]:
        """Who has jobs, or had avatars or backgrounds at the last measurement."""
        return self._table.job_owners() | set(self._of_owners)

    def of(self, owner: str | None) -> int:
        """Return what the jobs of an owner have, and what else it had at the last measurement, with what was added."""
        return self._table.stored_bytes(owner) + self._of_owners[owner] + self._of_voices[voices_folder(owner)]

    def add(self, owner: str | None, num_bytes: int) -> None:
        """Count new files of an owner, other than those of jobs, until a measurement that begins later finds them."""
        with self._counting:
            self._of_owners[owner] += num_bytes
            self._added[owner] += num_bytes

    def refresh(self) -> None:
        """Measure again if the last measurement is old; calls at the same time share one."""
        with self._measuring:
            if time.monotonic() >= self._fresh_until:
                self._measure()
                self._fresh_until = time.monotonic() + _FRESH_S

    def _measure(self) -> None:
        with self._counting:
            self._added.clear()
        owners = {avatar_folder(key): owner for key, owner in self._table.avatar_owners().items()}
        of_owners, of_voices = Counter[str | None](), Counter[str]()
        for folder in (AVATARS, BACKGROUNDS, VOICES):
            for key, state in self._files.stored.states(folder).items():
                name = "/".join(key.split("/")[:2])
                if folder == BACKGROUNDS and name not in owners:
                    owners |= self._background_owner(name)
                if folder == VOICES:
                    of_voices[name] += state.num_bytes
                elif name in owners:  # otherwise it is being deleted
                    of_owners[owners[name]] += state.num_bytes
        with self._counting:
            of_owners.update(self._added)  # the listing may have missed them
            self._of_owners, self._of_voices = of_owners, of_voices

    def _background_owner(self, folder: str) -> dict[str, str | None]:
        file_id = folder.partition("/")[2]
        with suppress(NotFoundError):
            return {folder: self._backgrounds.owner_of(file_id)} if is_name(file_id) else {}
        return {}


def usage_rows(
    table: JobTable, stored: StoredBytes, first: date | None, last: date | None, owner: str | None
) -> list[UsageRow]:
    """Return the usage of the days from `first` to `last`, by default of this month; with `owner`, only that owner's.

    Raises:
        OptionError: The days are in the wrong order, or too many.
    """
    today = utc_now().date()
    last = last or today
    first = first or min(last, today).replace(day=1)
    if not 0 <= (last - first).days < _MAX_DAYS:
        raise OptionError(f"from, to: expected 1 to {_MAX_DAYS} days, found {(last - first).days + 1}.")
    rows = {(row.day, row.key): row for row in table.usage.rows(first, last, owner)}
    if first <= today <= last:
        known = {key for _, key in rows}
        stored.refresh()
        everyone = known | {key for key in {*stored.owners, None} if stored.of(key)}
        for key in everyone if owner is None else {owner}:
            row = rows.get((today, key)) or UsageRow(key=key, day=today)
            rows[today, key] = row.model_copy(update={"stored_bytes": stored.of(key)})
    return [rows[place] for place in sorted(rows, key=lambda place: (place[0], place[1] or ""))]
