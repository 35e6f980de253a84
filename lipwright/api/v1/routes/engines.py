"""The route /v1/engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from pydantic import BaseModel, Field

from lipwright.api.routing import Routes, route
from lipwright.config import PipelineConfig
from lipwright.storage.file_store import FileStore
from models.engines.catalog import EngineRecord, engine_list, post_processor_list
from models.engines.protocol import EngineClass
from models.engines.registry import ENGINES
from models.engines.weights.store import WeightsStore


class MissingWeightsView(BaseModel):
    """A weights file that an engine lacks."""

    role: str = Field(description="Role of the file in the engine.")
    title: str = Field(description="Human-readable name.")
    is_required: bool = Field(description="Whether the engine needs it to run.")
    add_command: str = Field(description="Command that installs it, to be run on the service's machine.")


class EngineView(BaseModel):
    """An engine, or a variant of one with its own weights."""

    name: str = Field(description="Value of a job's `engine`, such as `wav2lip` or `wav2lip:gan`.")
    title: str = Field(description="Human-readable name.")
    is_default: bool = Field(description="Whether it is used when a job names no engine.")
    is_installed: bool = Field(description="Whether all required weights are installed.")
    missing: list[MissingWeightsView] = Field(description="Weights that are not installed.")
    licences: list[str] = Field(description="Known licences of its weights, one line per file.")
    scales_movement: bool = Field(description="Whether jobs with it may set `expressiveness`.")

    @classmethod
    def of(cls, engine: EngineRecord, default: str) -> EngineView:
        """Return the view of `engine` for a service whose default engine is `default`."""
        return cls(**asdict(engine), is_default=engine.name == default)


class EngineList(BaseModel):
    """All engines and their variants."""

    engines: list[EngineView]
    steps: list[EngineView] = Field(
        description="Post-processors that can be added to any engine: `wav2lip+restoration`."
    )


class EngineRoutes(Routes, prefix="/v1/engines", tags=["engines"]):
    """Handlers of /v1/engines."""

    def __init__(
        self, files: FileStore, config: PipelineConfig, engines: Mapping[str, str | EngineClass] = ENGINES
    ) -> None:
        self._store = WeightsStore(files.root / "weights", engines)
        self._default = config.engine

    @route("", summary="List engines")
    def list_engines(self) -> EngineList:
        """List engines and post-processors, and the weights they lack."""
        # Not a coroutine: reads the index from disk and imports engine modules.
        return EngineList(
            engines=[EngineView.of(engine, self._default) for engine in engine_list(self._store)],
            steps=[EngineView.of(step, self._default) for step in post_processor_list(self._store)],
        )
