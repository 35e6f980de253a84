"""Routes under /v1, one module per resource."""

from __future__ import annotations

from fastapi import APIRouter

from lipwright.api.v1.routes.avatars import AvatarRoutes
from lipwright.api.v1.routes.backgrounds import BackgroundRoutes
from lipwright.api.v1.routes.drafts import DraftRoutes
from lipwright.api.v1.routes.engines import EngineRoutes
from lipwright.api.v1.routes.inspect import InspectRoutes
from lipwright.api.v1.routes.jobs import JobRoutes
from lipwright.api.v1.routes.media import MediaRoutes
from lipwright.api.v1.routes.status import StatusRoutes
from lipwright.api.v1.routes.subtitles import SubtitlesRoutes
from lipwright.api.v1.routes.usage import UsageRoutes
from lipwright.api.v1.routes.voices import VoiceRoutes
from lipwright.config import PipelineConfig
from lipwright.jobs.ports import JobService
from lipwright.speech.service import TextToSpeech
from lipwright.storage.file_store import FileStore


def v1_routers(
    service: JobService, files: FileStore, config: PipelineConfig, speech: TextToSpeech
) -> tuple[APIRouter, ...]:
    """Return the routers of all resources under /v1."""
    return (
        StatusRoutes(service).router(),
        UsageRoutes(service).router(),
        JobRoutes(service, files, config).router(),
        DraftRoutes(service, files).router(),
        MediaRoutes(service, files, config.labels).router(),
        AvatarRoutes(service, files, config).router(),
        BackgroundRoutes(service, files, config).router(),
        EngineRoutes(files, config).router(),
        SubtitlesRoutes(service, files, config).router(),
        VoiceRoutes(service, files, config, speech).router(),
        InspectRoutes(service, files, config).router(),
    )
