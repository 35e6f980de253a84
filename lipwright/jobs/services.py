"""What the parts of the Director that run jobs share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lipwright.config import PipelineConfig
from lipwright.jobs.ports import Stages
from lipwright.jobs.segments.limiter import SegmentLimiter
from lipwright.jobs.sources.avatar_submission import AvatarSubmissions
from lipwright.jobs.sources.avatars import Avatars
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from models.engines.catalog import EngineCatalog


@dataclass(frozen=True)
class JobServices:
    """What all runs share. `check_texts` raises OptionError for texts that no voice can speak."""

    config: PipelineConfig
    stages: Stages
    avatars: Avatars
    table: JobTable
    files: FileStore
    avatar_submissions: AvatarSubmissions
    limiter: SegmentLimiter
    engines: EngineCatalog
    check_texts: Callable[[Sequence[str]], None] = lambda texts: None
