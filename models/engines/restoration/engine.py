"""Restoration on top of an engine: the same engine in every way, with its generated faces sharpened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic

from lipwright.media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from models.engines.base import read_options
from models.engines.paste.crop import BoxChunk
from models.engines.patches import FacePatches
from models.engines.protocol import (
    ChunkT,
    ComputeResources,
    Engine,
    EngineSettings,
    FaceGenerator,
    FeaturesT,
    PlanT,
    StateT,
    WeightsSpec,
    scales_movement,
    speech_context_seconds,
)
from models.engines.restoration.restorer import (
    RESTORATION_ROLE,
    FaceRestorer,
    OnnxRestoration,
    RestorationOptions,
    Surroundings,
)


class Restoration:
    """Implements `models.engines.protocol.PostProcessor`."""

    title: ClassVar[str] = "Sharpens generated faces with GFPGAN or CodeFormer; needs your weights"
    weights: ClassVar[tuple[WeightsSpec, ...]] = (RESTORATION_ROLE,)

    def __init__(self, settings: EngineSettings) -> None:
        self._weights = settings.weights
        self._options = read_options(RestorationOptions, "restoration", settings.options)

    def wrap(self, engine: Engine) -> Engine:
        """Return the engine with its faces sharpened."""
        return RestoredEngine(engine, self._restorer)

    def _restorer(self, resources: ComputeResources) -> FaceRestorer:
        network = OnnxRestoration(self._weights.path(RESTORATION_ROLE.name), resources, self._options.fidelity)
        return FaceRestorer(network, self._options.strength)


@dataclass(frozen=True)
class RestoredChunk(Generic[ChunkT]):
    """The crops of the engine, and the whole faces around them."""

    inner: ChunkT
    around: BoxChunk

    @property
    def num_frames(self) -> int:
        """Frames, those without a face included."""
        return self.inner.num_frames


class RestoredEngine(Generic[FeaturesT, PlanT, StateT, ChunkT]):
    """Implements `models.engines.protocol.Engine`; audio, analysis and plan are the inner engine's."""

    title: ClassVar[str] = Restoration.title
    weights: ClassVar[tuple[WeightsSpec, ...]] = ()

    def __init__(
        self, inner: Engine[FeaturesT, PlanT, StateT, ChunkT], load: Callable[[ComputeResources], FaceRestorer]
    ) -> None:
        self._inner, self._load = inner, load
        self.name, self.version, self.audio_features = inner.name, inner.version, inner.audio_features
        self.uses_source_audio, self.scales_movement = inner.uses_source_audio, scales_movement(inner)
        self.speech_context_seconds = speech_context_seconds(inner)
        self.audio_encoder, self.analyse, self.plan = inner.audio_encoder, inner.analyse, inner.plan

    def face_generator(self, resources: ComputeResources) -> FaceGenerator[RestoredChunk[ChunkT]]:
        """Load both networks."""
        return RestoringFaceGenerator(self._inner.face_generator(resources), self._load(resources))

    def crop(self, avatar: Avatar, plan: PlanT, frames: Sequence[YuvFrame]) -> RestoredChunk[ChunkT]:
        """Crop what the inner engine needs, and the whole faces."""
        around = avatar.remember(_SURROUNDINGS, lambda: Surroundings(avatar.track, avatar.info.colour))
        return RestoredChunk(self._inner.crop(avatar, plan, frames), around.crop(plan.source_index, frames))


class RestoringFaceGenerator(Generic[ChunkT]):
    """Generates as the inner engine does and sharpens the result."""

    def __init__(self, inner: FaceGenerator[ChunkT], restorer: FaceRestorer) -> None:
        self._inner, self._restorer = inner, restorer

    def generate(self, chunk: RestoredChunk[ChunkT], should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one finished patch for every face of `chunk`."""
        return self._restorer.restore(self._inner.generate(chunk.inner, should_stop), chunk.around, should_stop)


class _Keeper:
    name, version = "restoration", "1"


_SURROUNDINGS = _Keeper()
