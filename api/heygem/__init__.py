"""HeyGem- and Duix-compatible API: `/easy/submit`, `/easy/query`, plus cancel and download."""

from __future__ import annotations

from fastapi import APIRouter

from api.heygem.routes import HeygemRoutes
from api.heygem.voice import HeygemVoiceRoutes
from config import PipelineConfig
from jobs.ports import JobService
from speech.service import TextToSpeech
from storage.file_store import FileStore
from storage.key_ring import KeyRing


def heygem_routers(
    service: JobService, files: FileStore, config: PipelineConfig, keys: KeyRing, speech: TextToSpeech
) -> tuple[APIRouter, ...]:
    """Return the routers of HeyGem's API."""
    return HeygemRoutes(service, files, config, keys).router(), HeygemVoiceRoutes(files, config, keys, speech).router()
