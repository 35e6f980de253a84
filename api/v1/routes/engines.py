"""The route /v1/engines: what there is to make a face speak with."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter
from pydantic import BaseModel, Field

from config import PipelineConfig
from models.engines.contract import EngineClass
from models.engines.registry import ENGINES
from models.engines.room import EngineRecord, engine_list, step_list
from models.engines.weights.store import WeightsStore
from storage.file_store import FileStore


class MissingWeightsView(BaseModel):
    """A file that an engine does not have."""

    role: str = Field(description="What the engine uses it for.")
    title: str = Field(description="What it is, for people.")
    is_required: bool = Field(description="Whether the engine cannot work without it.")
    add_command: str = Field(description="The command that adds it, on a machine of the service.")


class EngineView(BaseModel):
    """An engine, or a variant of one with weights of its own."""

    name: str = Field(description="The `engine` of a job, such as `wav2lip` or `wav2lip:gan`.")
    title: str = Field(description="What it is, for people.")
    is_default: bool = Field(description="Whether jobs that name no engine are made with it.")
    is_installed: bool = Field(description="Whether it has all weights that it cannot work without.")
    missing: list[MissingWeightsView] = Field(description="The weights that it does not have.")
    licences: list[str] = Field(description="Known terms of its weights, one line for each file.")

    @classmethod
    def of(cls, engine: EngineRecord, default: str) -> EngineView:
        """The view of `engine` for a service whose engine is `default`."""
        return cls(
            name=engine.name,
            title=engine.title,
            is_default=engine.name == default,
            is_installed=engine.is_installed,
            missing=[MissingWeightsView(**vars(role)) for role in engine.missing],
            licences=list(engine.licences),
        )


class EngineList(BaseModel):
    """All engines and their variants."""

    engines: list[EngineView]
    steps: list[EngineView] = Field(description="What goes on top of any engine: `wav2lip+restoration`.")


class EngineRoutes:
    """Handlers over the weights in the data folder."""

    def __init__(
        self, files: FileStore, config: PipelineConfig, engines: Mapping[str, str | EngineClass] = ENGINES
    ) -> None:
        self._store = WeightsStore(files.root / "weights", engines)
        self._default = config.engine

    def router(self) -> APIRouter:
        """The routes with what OpenAPI says of them."""
        router = APIRouter(prefix="/v1/engines", tags=["engines"])
        router.add_api_route("", self.list_engines, summary="List engines", operation_id="list_engines")
        return router

    def list_engines(self) -> EngineList:
        """What a job's `engine` can be, and what is missing where weights have to be brought."""
        # No coroutine: the index is read from the disk, and an engine's module is imported the first time.
        return EngineList(
            engines=[EngineView.of(engine, self._default) for engine in engine_list(self._store)],
            steps=[EngineView.of(step, self._default) for step in step_list(self._store)],
        )
