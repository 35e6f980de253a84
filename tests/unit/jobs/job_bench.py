"""Submissions, avatars and runs of jobs with a real table and folder, and stages in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lipwright.config import JobConfig, PipelineConfig
from lipwright.jobs.admission import AdmissionController
from lipwright.jobs.model.base import UploadedFile
from lipwright.jobs.model.record import JobRecord
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.ports import Stages
from lipwright.jobs.requests import RequestContext
from lipwright.jobs.sources.avatars import Avatars
from lipwright.jobs.sources.people import People
from lipwright.jobs.submission import Submissions
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from tests.unit.job_records import job_services

CONFIG = PipelineConfig(jobs=JobConfig(min_free_bytes=0))


class JobBench:
    """What runs of jobs share, and submissions. `sent` has the files of jobs whose tests pass none."""

    sent: Mapping[str, bytes] = {"video": b"film"}

    def __init__(
        self,
        files: FileStore,
        table: JobTable,
        stages: Stages,
        config: PipelineConfig = CONFIG,
        avatars: type[Avatars] = Avatars,
        people: type[People] | None = None,
    ) -> None:
        self.files, self.table = files, table
        self.avatars = avatars(config, stages, table, files)
        if people is not None:
            self.avatars.people = people(config, stages, table, files)
        self.services = job_services(config, stages, self.avatars, table, files)
        self.admission = AdmissionController(config, table, files)
        self.submissions = Submissions(self.services, self.admission)

    def check_texts(self, check: Callable[[Sequence[str]], None]) -> None:
        """Replace the check of texts."""
        self.services = replace(self.services, check_texts=check)
        self.submissions = Submissions(self.services, self.admission)

    def upload(self, content: bytes, name: str = "f") -> UploadedFile:
        writer = self.files.new_upload(name)
        writer.write(content)
        return writer.finish()

    def spec(self, **fields: Any) -> JobSpec:
        """A job; `bytes` are uploaded, and None leaves a field out."""
        sent = {**self.sent, **fields}
        return JobSpec(**{name: self.uploaded(value) for name, value in sent.items() if value is not None})

    def uploaded(self, value: Any) -> Any:
        """Return a value of a form; `bytes` in it are uploaded."""
        if isinstance(value, dict):
            return {name: self.uploaded(each) for name, each in value.items()}
        return self.upload(value) if isinstance(value, bytes) else value

    async def create(self, context: RequestContext | None = None, **fields: Any) -> JobRecord:
        """Create a job of these fields; see `spec`."""
        return await self.submissions.create_job(self.spec(**fields), context or RequestContext())
