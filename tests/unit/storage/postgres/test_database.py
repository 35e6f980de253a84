"""A PostgreSQL behind the tables: one that goes, comes back or hangs, and who may write to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial

import pytest

from lipwright.errors import StandbyError, TableUnreachableError
from lipwright.storage.postgres.database import Database, bounded
from tests.postgres import PostgresServer, running_postgres, server_programs
from tests.waiting import wait_until

_BACK_S = 60.0


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.new_database()


@pytest.fixture
def three(url: str) -> Iterator[tuple[Database, Database, Database]]:
    """Connections to one database."""
    three = Database(url), Database(url), Database(url)
    yield three
    for database in three:
        database.close()


@pytest.fixture(scope="module")
def mortal(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A server that only these tests use: they stop it."""
    assert server_programs() is not None
    with running_postgres() as server:
        yield server


def change(database: Database) -> None:
    with database.transaction():
        database.execute("UPDATE writer SET holder = holder")


def changes_again(database: Database) -> None:
    """Wait until the database is back, and is found."""

    def has_changed() -> bool:
        with suppress(TableUnreachableError):
            change(database)
            return True
        return False

    wait_until(has_changed, _BACK_S)


def test_try_claim_succeeds_when_the_lease_has_ended(three: tuple[Database, Database, Database]) -> None:
    first, second, _ = three
    assert first.try_claim("a", 60.0)
    began = time.monotonic()
    assert not second.try_claim("b", 60.0)
    first.renew(2.0)
    wait_until(lambda: second.try_claim("b", 60.0), _BACK_S)
    assert time.monotonic() - began > 1.9, "a lease that was renewed holds"
    too_late: tuple[Callable[[], object], ...] = (first.check_claim, lambda: change(first), lambda: first.renew(2.0))
    for late in too_late:
        with pytest.raises(StandbyError, match="Another Director has taken over"):
            late()
    change(second)
    second.release()
    assert first.try_claim("a", 2.0), "what was given back is not waited for"


def test_try_claim_of_a_successor_takes_its_own_lease(three: tuple[Database, Database, Database]) -> None:
    old, new, _ = three
    assert old.try_claim("a", 60.0)
    assert not new.try_claim("b", 60.0, is_successor=True), "another service has the lease"
    assert not new.try_claim("a", 60.0), "a second Director of that service does not claim what the first has"
    assert new.try_claim("a", 60.0, is_successor=True)
    with pytest.raises(StandbyError):
        change(old)


def test_try_claim_waits_for_a_running_transaction(three: tuple[Database, Database, Database]) -> None:
    first, second, watch = three
    assert first.try_claim("a", 0.01)
    time.sleep(0.05)
    with ThreadPoolExecutor(1) as pool:
        with first.transaction():
            claim = pool.submit(second.try_claim, "b", 60.0)
            while not watch.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
                assert not claim.done()
            first.execute("UPDATE writer SET holder = 'in time'")
        assert claim.result(_BACK_S)
    with pytest.raises(StandbyError):
        change(first)


def test_database_rolls_back_and_reconnects_after_a_restart(mortal: PostgresServer) -> None:
    with closing(Database(mortal.new_database())) as database:
        assert database.try_claim("a", 60.0)
        before = database.query("SELECT holder FROM writer")
        with pytest.raises(TableUnreachableError), database.transaction():  # noqa: PT012
            database.execute("UPDATE writer SET holder = 'b'")
            mortal.stop()
            database.execute("UPDATE writer SET holder = 'c'")
        with pytest.raises(TableUnreachableError):
            change(database)
        with pytest.raises(TableUnreachableError):
            database.query("SELECT 1")
        mortal.start()
        changes_again(database)
        database.check_claim()
        assert database.query("SELECT holder FROM writer") == before
        mortal.stop()
        mortal.start()
        change(database)  # nobody has noticed


def test_call_to_a_hanging_server_times_out(mortal: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Database(mortal.new_database())) as database:
        change(database)
        monkeypatch.setattr("lipwright.storage.postgres.database.bounded", partial(bounded, timeout_s=1.0))
        mortal.freeze()
        began = time.monotonic()
        try:
            with pytest.raises(TableUnreachableError):
                change(database)
            assert time.monotonic() - began < 30
        finally:
            mortal.thaw()
        changes_again(database)


def test_transaction_of_a_suspended_process_is_rolled_back(three: tuple[Database, Database, Database]) -> None:
    first, second, _ = three
    with pytest.raises(TableUnreachableError), first.transaction():  # noqa: PT012
        (row,) = first.query("SELECT pg_backend_pid() AS pid")
        first.query("SET idle_in_transaction_session_timeout = 1")
        wait_until(lambda: not second.query("SELECT 1 FROM pg_stat_activity WHERE pid = ?1", row["pid"]))
        change(first)
    change(first)


def test_query_of_an_unreachable_server_fails_fast() -> None:
    began = time.monotonic()
    database = Database("postgresql://lipwright@127.0.0.1:1/none")
    for _ in range(20):
        with pytest.raises(TableUnreachableError, match="does not answer"):
            database.query("SELECT 1")
    assert time.monotonic() - began < 30, "requests meanwhile get an error at once"
