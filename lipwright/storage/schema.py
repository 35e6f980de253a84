"""The schema of the tables, as migrations that are applied in order, once each.

It is written for SQLite; `lipwright.storage.postgres.database` translates it.
"""

from __future__ import annotations

from lipwright.errors import ConfigError

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE jobs (
            number           INTEGER PRIMARY KEY AUTOINCREMENT,
            id               TEXT NOT NULL UNIQUE,
            version          INTEGER NOT NULL,
            status           TEXT NOT NULL,
            stage            TEXT NOT NULL,
            progress         REAL NOT NULL,
            num_frames       INTEGER,
            num_frames_done  INTEGER NOT NULL,
            priority         INTEGER NOT NULL,
            owner            TEXT,
            idempotency_key  TEXT,
            callback_url     TEXT,
            options          TEXT NOT NULL,
            audio            TEXT NOT NULL,
            video            TEXT,
            avatar_key       TEXT NOT NULL,
            attempts         INTEGER NOT NULL,
            error            TEXT,
            created_at       TEXT NOT NULL,
            started_at       TEXT,
            finished_at      TEXT
        ) STRICT
        """,
        "CREATE INDEX jobs_by_status ON jobs (status, priority DESC, number)",
        """
        CREATE UNIQUE INDEX jobs_by_idempotency_key ON jobs (coalesce(owner, ''), idempotency_key)
            WHERE idempotency_key IS NOT NULL
        """,
        """
        CREATE TABLE segments (
            job_id     TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
            number     INTEGER NOT NULL,
            start      INTEGER NOT NULL,
            stop       INTEGER NOT NULL,
            status     TEXT NOT NULL,
            num_bytes  INTEGER NOT NULL,
            attempts   INTEGER NOT NULL,
            PRIMARY KEY (job_id, number)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE avatars (
            key            TEXT PRIMARY KEY,
            id             TEXT NOT NULL UNIQUE,
            version        INTEGER NOT NULL,
            status         TEXT NOT NULL,
            pinned         INTEGER NOT NULL,
            owner          TEXT,
            label          TEXT NOT NULL,
            face           TEXT NOT NULL,
            source_sha256  TEXT NOT NULL,
            info           TEXT,
            error          TEXT,
            created_at     TEXT NOT NULL,
            last_used_at   TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX avatars_by_use ON avatars (pinned, last_used_at)",
    ),
    ("ALTER TABLE jobs ADD COLUMN report TEXT",),
    (
        "ALTER TABLE jobs ADD COLUMN audio_seconds REAL NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN disk_bytes INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX jobs_by_end ON jobs (finished_at) WHERE finished_at IS NOT NULL",
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
        "CREATE TABLE writer (generation INTEGER NOT NULL) STRICT",
        "INSERT INTO writer VALUES (0)",
    ),
    ("CREATE INDEX jobs_by_turn ON jobs (coalesce(owner, ''), started_at)",),
    (
        "ALTER TABLE jobs ADD COLUMN source_label TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE jobs ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}'",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN request_digest TEXT",
        "ALTER TABLE jobs ADD COLUMN base_url TEXT NOT NULL DEFAULT ''",
    ),
    ("ALTER TABLE segments ADD COLUMN sha256 TEXT NOT NULL DEFAULT ''",),
    (
        "ALTER TABLE writer ADD COLUMN holder TEXT NOT NULL DEFAULT ''",
        # Seconds since 1970 by the clock of the database; SQLite needs no lease.
        "ALTER TABLE writer ADD COLUMN held_until REAL NOT NULL DEFAULT 0",
        """
        CREATE TABLE api_keys (
            id            TEXT PRIMARY KEY,
            name          TEXT NOT NULL,
            hash          TEXT NOT NULL,
            created_at    TEXT NOT NULL,
            max_priority  INTEGER NOT NULL
        ) STRICT
        """,
        "CREATE TABLE secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    ),
    (
        "CREATE INDEX jobs_by_outcome ON jobs (status, finished_at) WHERE finished_at IS NOT NULL",
        "ALTER TABLE writer ADD COLUMN heir TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE writer ADD COLUMN asked_until REAL NOT NULL DEFAULT 0",
    ),
    ("ALTER TABLE avatars ADD COLUMN awaited INTEGER NOT NULL DEFAULT 0", "UPDATE avatars SET awaited = pinned"),
    (
        "ALTER TABLE avatars ADD COLUMN source_info TEXT",
        "ALTER TABLE avatars ADD COLUMN analysed_for TEXT NOT NULL DEFAULT '{}'",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN result_seconds REAL NOT NULL DEFAULT 0",
        "UPDATE jobs SET result_seconds = audio_seconds",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN watermark_id TEXT",
        "CREATE INDEX jobs_by_watermark ON jobs (watermark_id) WHERE watermark_id IS NOT NULL",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN more_audio TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE jobs ADD COLUMN turn_avatar_keys TEXT NOT NULL DEFAULT '{}'",
    ),
    ("ALTER TABLE jobs ADD COLUMN background_file TEXT",),
    ("ALTER TABLE avatars ADD COLUMN background TEXT",),
    ("ALTER TABLE segments ADD COLUMN encoding TEXT NOT NULL DEFAULT ''",),
    (
        # What lists show has columns of its own; the rest of a job is its spec and its plan. Jobs of older versions are
        # planned completely and have no spec.
        "ALTER TABLE jobs ADD COLUMN num_cues INTEGER",
        "ALTER TABLE jobs ADD COLUMN num_cues_done INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN engine TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE jobs ADD COLUMN format TEXT NOT NULL DEFAULT 'mp4'",
        "ALTER TABLE jobs ADD COLUMN audio_label TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE jobs ADD COLUMN upload_bytes INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN reviewed_at TEXT",
        "ALTER TABLE jobs ADD COLUMN revision_of TEXT",
        "ALTER TABLE jobs ADD COLUMN spec TEXT",
        "ALTER TABLE jobs ADD COLUMN plan TEXT NOT NULL DEFAULT ''",
        """
        UPDATE jobs SET
            engine = (options ->> 'engine'),
            format = coalesce((options ->> 'format'), 'mp4'),
            audio_label = (audio ->> 'label'),
            upload_bytes = CAST((audio ->> 'num_bytes') AS INTEGER)
                + coalesce(CAST((video ->> 'num_bytes') AS INTEGER), 0),
            source_label = coalesce(nullif(source_label, ''), (video ->> 'label'), ''),
            plan = '{"options": ' || options || ', "audio": {"audio": ' || audio
                || CASE more_audio WHEN '{}' THEN '' ELSE ', ' || substr(more_audio, 2, length(more_audio) - 2) END
                || '}, "background_file": ' || coalesce(background_file, 'null') || '}'
        """,
        *(f"ALTER TABLE jobs DROP COLUMN {name}" for name in ("options", "audio", "video", "more_audio")),
        "ALTER TABLE jobs DROP COLUMN background_file",
        "ALTER TABLE segments ADD COLUMN identity TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE segments ADD COLUMN silent_motion TEXT NOT NULL DEFAULT '{}'",
    ),
    (
        "ALTER TABLE writer RENAME COLUMN heir TO successor",
        "ALTER TABLE avatars RENAME COLUMN awaited TO analyse_on_create",
        "ALTER TABLE avatars RENAME COLUMN background TO settings",
    ),
    (
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
    ),
    ("ALTER TABLE jobs ADD COLUMN trace TEXT NOT NULL DEFAULT '{}'",),
    (
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
        "ALTER TABLE api_keys ADD COLUMN weight INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE api_keys ADD COLUMN limits TEXT NOT NULL DEFAULT '{}'",
        # Start-time fair queueing of jobs: when the last job of an owner ends, and the time of the server.
        "CREATE TABLE fair_shares (owner TEXT PRIMARY KEY, virtual_end REAL NOT NULL) STRICT",
        "ALTER TABLE writer ADD COLUMN virtual_time REAL NOT NULL DEFAULT 0",
        "DROP INDEX jobs_by_turn",
    ),
    (
        "ALTER TABLE avatars ADD COLUMN clips TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE avatars ADD COLUMN parts TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE avatars ADD COLUMN graph TEXT",
        "ALTER TABLE avatars ADD COLUMN belongs_to TEXT",
        "CREATE INDEX avatars_by_avatar ON avatars (belongs_to) WHERE belongs_to IS NOT NULL",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN stored_bytes INTEGER NOT NULL DEFAULT 0",
        "UPDATE jobs SET stored_bytes = upload_bytes",
        # Has all that the sum of an owner needs, so that no row is read.
        "CREATE INDEX jobs_by_owner ON jobs (owner, stored_bytes)",
    ),
    ("ALTER TABLE writer DROP COLUMN successor", "ALTER TABLE writer DROP COLUMN asked_until"),
)

SCHEMA_VERSION = len(MIGRATIONS)


def steps_after(found: int) -> tuple[tuple[str, ...], ...]:
    """Return the migrations that a database of version `found` lacks; ConfigError if a newer program wrote it."""
    if found > SCHEMA_VERSION:
        raise ConfigError(f"Expected a job table of version {SCHEMA_VERSION}, found {found}; update Lipwright.")
    return MIGRATIONS[found:]
