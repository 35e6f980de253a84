"""The schema of the tables: what creates them, and the migrations of later versions.

It is written for SQLite; `lipwright.storage.postgres.database` translates it.
"""

from __future__ import annotations

from typing import Final

from lipwright.errors import ConfigError

_FIRST_VERSION: Final = 26
"""Tables of lower versions were made before the first entry of `_STEPS`, and cannot be migrated."""

_STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE jobs (
            number            INTEGER PRIMARY KEY AUTOINCREMENT,
            id                TEXT NOT NULL UNIQUE,
            version           INTEGER NOT NULL,
            status            TEXT NOT NULL,
            stage             TEXT NOT NULL,
            progress          REAL NOT NULL,
            num_frames        INTEGER,
            num_frames_done   INTEGER NOT NULL,
            num_cues          INTEGER,
            num_cues_done     INTEGER NOT NULL,
            priority          INTEGER NOT NULL,
            owner             TEXT,
            idempotency_key   TEXT,
            request_digest    TEXT,
            base_url          TEXT NOT NULL,
            callback_url      TEXT,
            metadata          TEXT NOT NULL,
            engine            TEXT NOT NULL,
            format            TEXT NOT NULL,
            audio_label       TEXT NOT NULL,
            source_label      TEXT NOT NULL,
            upload_bytes      INTEGER NOT NULL,
            avatar_key        TEXT NOT NULL,
            turn_avatar_keys  TEXT NOT NULL,
            audio_seconds     REAL NOT NULL,
            result_seconds    REAL NOT NULL,
            disk_bytes        INTEGER NOT NULL,
            stored_bytes      INTEGER NOT NULL,
            watermark_id      TEXT,
            reviewed_at       TEXT,
            revision_of       TEXT,
            attempts          INTEGER NOT NULL,
            error             TEXT,
            trace             TEXT NOT NULL,
            created_at        TEXT NOT NULL,
            started_at        TEXT,
            finished_at       TEXT,
            report            TEXT,
            spec              TEXT NOT NULL,
            plan              TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX jobs_by_status ON jobs (status, priority DESC, number)",
        "CREATE INDEX jobs_by_end ON jobs (finished_at) WHERE finished_at IS NOT NULL",
        "CREATE INDEX jobs_by_outcome ON jobs (status, finished_at) WHERE finished_at IS NOT NULL",
        "CREATE INDEX jobs_by_watermark ON jobs (watermark_id) WHERE watermark_id IS NOT NULL",
        # Has all that the sum of an owner needs, so that no row is read.
        "CREATE INDEX jobs_by_owner ON jobs (owner, stored_bytes)",
        """
        CREATE UNIQUE INDEX jobs_by_idempotency_key ON jobs (coalesce(owner, ''), idempotency_key)
            WHERE idempotency_key IS NOT NULL
        """,
        """
        CREATE TABLE segments (
            job_id         TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
            number         INTEGER NOT NULL,
            start          INTEGER NOT NULL,
            stop           INTEGER NOT NULL,
            status         TEXT NOT NULL,
            num_bytes      INTEGER NOT NULL,
            sha256         TEXT NOT NULL,
            encoding       TEXT NOT NULL,
            identity       TEXT NOT NULL,
            silent_motion  TEXT NOT NULL,
            attempts       INTEGER NOT NULL,
            PRIMARY KEY (job_id, number)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE callbacks (
            job_id    TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
            status    TEXT NOT NULL,
            attempts  INTEGER NOT NULL,
            next_at   TEXT NOT NULL,
            error     TEXT
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX callbacks_by_time ON callbacks (status, next_at)",
        """
        CREATE TABLE avatars (
            key                TEXT PRIMARY KEY,
            id                 TEXT NOT NULL UNIQUE,
            version            INTEGER NOT NULL,
            status             TEXT NOT NULL,
            pinned             INTEGER NOT NULL,
            analyse_on_create  INTEGER NOT NULL,
            owner              TEXT,
            label              TEXT NOT NULL,
            face               TEXT NOT NULL,
            source_sha256      TEXT NOT NULL,
            source_info        TEXT,
            analysed_for       TEXT NOT NULL,
            info               TEXT,
            settings           TEXT NOT NULL,
            error              TEXT,
            clips              TEXT NOT NULL,
            belongs_to         TEXT,
            parts              TEXT NOT NULL,
            graph              TEXT,
            created_at         TEXT NOT NULL,
            last_used_at       TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX avatars_by_use ON avatars (pinned, last_used_at)",
        "CREATE INDEX avatars_by_avatar ON avatars (belongs_to) WHERE belongs_to IS NOT NULL",
        # The leader: its fencing token, and its lease, which SQLite does not need; `held_until` is in seconds since
        # 1970 by the clock of the database. `virtual_time` is that of the fair queue of jobs.
        """
        CREATE TABLE writer (
            generation    INTEGER NOT NULL,
            holder        TEXT NOT NULL,
            held_until    REAL NOT NULL,
            virtual_time  REAL NOT NULL
        ) STRICT
        """,
        "INSERT INTO writer VALUES (0, '', 0, 0)",
        # Start-time fair queueing of jobs: when the last job of an owner ends.
        "CREATE TABLE fair_shares (owner TEXT PRIMARY KEY, virtual_end REAL NOT NULL) STRICT",
        """
        CREATE TABLE usage (
            owner           TEXT NOT NULL,
            day             TEXT NOT NULL,
            jobs_submitted  INTEGER NOT NULL,
            jobs_succeeded  INTEGER NOT NULL,
            jobs_failed     INTEGER NOT NULL,
            jobs_cancelled  INTEGER NOT NULL,
            video_seconds   REAL NOT NULL,
            live_seconds    REAL NOT NULL,
            cpu_seconds     REAL NOT NULL,
            gpu_seconds     REAL NOT NULL,
            PRIMARY KEY (owner, day)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE live_sessions (
            id            TEXT PRIMARY KEY,
            owner         TEXT NOT NULL,
            live_seconds  REAL NOT NULL,
            cpu_seconds   REAL NOT NULL,
            gpu_seconds   REAL NOT NULL,
            is_over       INTEGER NOT NULL,
            seen_at       TEXT NOT NULL
        ) STRICT
        """,
        # `expires_at` is in seconds since 1970.
        """
        CREATE TABLE token_sessions (
            session_id  TEXT PRIMARY KEY,
            token_id    TEXT NOT NULL,
            seconds     INTEGER NOT NULL,
            expires_at  INTEGER NOT NULL
        ) STRICT
        """,
        "CREATE INDEX token_sessions_by_token ON token_sessions (token_id)",
        """
        CREATE TABLE api_keys (
            id            TEXT PRIMARY KEY,
            name          TEXT NOT NULL,
            hash          TEXT NOT NULL,
            created_at    TEXT NOT NULL,
            max_priority  INTEGER NOT NULL,
            weight        INTEGER NOT NULL,
            limits        TEXT NOT NULL
        ) STRICT
        """,
        "CREATE TABLE secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    ),
)

SCHEMA_VERSION: Final = _FIRST_VERSION + len(_STEPS) - 1


def statements_after(found: int) -> tuple[str, ...]:
    """Return what brings tables of version `found` to `SCHEMA_VERSION`; 0 if there are none.

    Raises:
        ConfigError: A newer program made the tables, or one so old that they cannot be migrated.
    """
    if found > SCHEMA_VERSION:
        raise ConfigError(f"Expected a job table of version {SCHEMA_VERSION}, found {found}; update Lipwright.")
    if 0 < found < _FIRST_VERSION:
        raise ConfigError(
            f"Expected a job table of version {_FIRST_VERSION} or later, found {found} of an older Lipwright, which "
            "cannot be migrated; start with a new data folder (--data-dir) or a new database (state)."
        )
    return sum(_STEPS[max(0, found + 1 - _FIRST_VERSION) :], ())
