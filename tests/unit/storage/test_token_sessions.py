"""The count of the sessions and seconds of browser tokens, on a file and on PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from errors import ForbiddenError
from jobs.model.browser_token import TokenGrant
from storage.protocols import Database
from storage.token_sessions import TokenSessions
from tests.unit.storage.conftest import Again


@pytest.fixture
def database(again: Again) -> Database:
    database = again()
    database.claim()
    return database


def grant(**limits: Any) -> TokenGrant:
    return TokenGrant(id="t1", avatar_id="a", origin="https://a.example", expires_at=1000, **limits)


def test_start_after_all_sessions_raises_forbidden(database: Database) -> None:
    sessions, token = TokenSessions(database, lambda: 0), grant(max_sessions=2, max_session_seconds=60)
    assert [sessions.start(name, token) for name in ("s1", "s1", "s2")] == [60, 60, 60]
    sessions.end("s1", 3)
    with pytest.raises(ForbiddenError, match=r"all of its sessions \(2\)"):
        TokenSessions(database, lambda: 0).start("s3", token)
    assert sessions.start("s3", token.model_copy(update={"id": "t2"})) == 60


def test_start_reserves_seconds_and_end_returns_unused(database: Database) -> None:
    sessions = TokenSessions(database, lambda: 0)
    token = grant(max_sessions=9, max_session_seconds=60, max_seconds=100)
    assert [sessions.start(name, token) for name in ("s1", "s2")] == [60, 40]
    with pytest.raises(ForbiddenError, match=r"The seconds of the token \(100\) are used up"):
        sessions.start("s3", token)
    sessions.end("s1", 5)
    assert sessions.start("s3", token) == 55


def test_start_deletes_rows_of_expired_tokens(database: Database) -> None:
    TokenSessions(database, lambda: 0).start("s1", grant())
    TokenSessions(database, lambda: 1001).start("s2", grant().model_copy(update={"id": "t2", "expires_at": 2000}))
    assert [row["session_id"] for row in database.query("SELECT * FROM token_sessions")] == ["s2"]
    with pytest.raises(ForbiddenError, match="has expired"):  # another machine's clock may say it has not
        TokenSessions(database, lambda: 1001).start("s3", grant())
