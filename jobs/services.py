"""What the parts of the Director that run jobs share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from config import PipelineConfig
from jobs.ports import Stages
from jobs.segments.limiter import SegmentLimiter
from jobs.sources.avatar_submission import AvatarSubmissions
from jobs.sources.avatars import Avatars
from models.engines.catalog import EngineCatalog
from storage.file_store import FileStore
from storage.job_table import JobTable


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
