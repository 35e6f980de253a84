"""Counts the live sessions that each browser token has started, and their seconds, until the token expires."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from lipwright.errors import ForbiddenError
from lipwright.jobs.model.browser_token import TokenGrant
from lipwright.storage.protocols import Database

_ADVICE: Final = "Get a new one from your site."


class TokenSessions:
    """The sessions of all tokens in a database. Methods block.

    A started session takes all seconds that it may last, and returns unused ones when it ends, so that neither sessions
    that run at the same time nor crashes exceed what a token grants.
    """

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        """Use a database; `now` is the clock."""
        self._database, self._now = database, now

    def start(self, session_id: str, grant: TokenGrant) -> int:
        """Count a session and return how many seconds it may last. Counting it again returns the same.

        Raises:
            ForbiddenError: The token grants no further session, or has expired by this clock, which forgets it then.
        """
        now = int(self._now())
        if grant.expires_at < now:
            raise ForbiddenError(f"The token has expired. {_ADVICE}")
        with self._database.transaction():
            self._database.execute("DELETE FROM token_sessions WHERE expires_at < ?1", now)
            rows = self._database.query("SELECT * FROM token_sessions WHERE token_id = ?1", grant.id)
            for row in rows:
                if row["session_id"] == session_id:
                    return int(row["seconds"])
            if len(rows) >= grant.max_sessions:
                raise ForbiddenError(f"The token has started all of its sessions ({grant.max_sessions}). {_ADVICE}")
            seconds = grant.max_session_seconds
            if grant.max_seconds is not None:
                seconds = min(seconds, grant.max_seconds - sum(row["seconds"] for row in rows))
            if seconds <= 0:
                raise ForbiddenError(f"The seconds of the token ({grant.max_seconds}) are used up. {_ADVICE}")
            counted = {"token_id": grant.id, "seconds": seconds, "expires_at": grant.expires_at}
            self._database.insert("token_sessions", {"session_id": session_id, **counted})
        return seconds

    def end(self, session_id: str, seconds: int) -> None:
        """Count only the `seconds` that a session has lasted, rounded up, if it was counted."""
        with self._database.transaction():
            self._database.update("token_sessions", "session_id", session_id, {"seconds": seconds})
