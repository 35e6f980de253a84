"""HeyGem- and Duix-compatible API: `/easy/submit`, `/easy/query`, plus cancel and download."""

from __future__ import annotations

from fastapi import APIRouter

from lipwright.api.heygem.routes import HeygemRoutes
from lipwright.api.heygem.voice import HeygemVoiceRoutes
from lipwright.config import PipelineConfig
from lipwright.jobs.ports import JobService
from lipwright.speech.service import TextToSpeech
from lipwright.storage.file_store import FileStore
from lipwright.storage.key_ring import KeyRing


def heygem_routers(
    service: JobService, files: FileStore, config: PipelineConfig, keys: KeyRing, speech: TextToSpeech
) -> tuple[APIRouter, ...]:
    """Return the routers of HeyGem's API."""
    return HeygemRoutes(service, files, config, keys).router(), HeygemVoiceRoutes(files, config, keys, speech).router()
