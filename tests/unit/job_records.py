"""Rows of jobs for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from lipwright.config import PipelineConfig
from lipwright.jobs.model.base import UploadedFile, new_id, utc_now
from lipwright.jobs.model.plan import JobOptions, JobPlan
from lipwright.jobs.model.record import JobRecord
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.ports import Stages
from lipwright.jobs.segments.limiter import SegmentLimiter
from lipwright.jobs.services import JobServices
from lipwright.jobs.sources.avatar_submission import AvatarSubmissions
from lipwright.jobs.sources.avatars import Avatars
from lipwright.jobs.sources.backgrounds import Backgrounds
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import AvatarRecord
from models.engines.catalog import EngineCatalog

SOUND = UploadedFile(key=new_id(), sha256=hashlib.sha256(b"abc").hexdigest(), num_bytes=3, label="a.wav")
"""A file with the bytes `abc`."""


def job_record(
    options: JobOptions | None = None,
    audio: UploadedFile = SOUND,
    more_audio: Mapping[str, UploadedFile] | None = None,
    background_file: UploadedFile | None = None,
    **fields: Any,
) -> JobRecord:
    """Return a job with a complete plan; `fields` are those of its row."""
    options = options or JobOptions(engine="warp")
    plan = JobPlan(options=options, audio={"audio": audio, **(more_audio or {})}, background_file=background_file)
    defaults = {
        "id": new_id(),
        "spec": JobSpec(audio=audio, avatar_id="0" * 32),
        "avatar_key": "0" * 32,
        "created_at": utc_now(),
        "engine": options.engine,
        "format": options.format,
        "audio_label": audio.label,
        "upload_bytes": audio.num_bytes,
    }
    return JobRecord(**{**defaults, **fields}, plan=plan)


def avatar_record(key: str | None = None, **fields: Any) -> AvatarRecord:
    """Return the row of an avatar that was not analysed; `fields` are those of its row."""
    now = utc_now()
    defaults = {"key": key or new_id(), "id": new_id(), "source_sha256": "00", "created_at": now, "last_used_at": now}
    return AvatarRecord.model_validate({**defaults, **fields})


def job_services(
    config: PipelineConfig,
    stages: Stages,
    avatars: Avatars,
    table: JobTable,
    files: FileStore,
    limiter: SegmentLimiter | None = None,
) -> JobServices:
    """Return what runs of jobs share."""
    submissions = AvatarSubmissions(stages, table, files, Backgrounds(config, stages, table, files))
    limiter = limiter or SegmentLimiter(config)
    return JobServices(config, stages, avatars, table, files, submissions, limiter, EngineCatalog(config))
