"""The service with faces that cost time and no processor: a Serve config names `tests.cluster.paced_graph:build`.

What a cluster is worth cannot be seen on one small machine with real work, because all nodes share its cores. Ray reads
the type of `build`'s argument from its annotation, which therefore must not be a string.
"""

import time
from collections.abc import Callable
from typing import Any, cast

from ray import serve
from ray.serve import Application, Deployment

from config import PipelineConfig
from deployments.audio_features import AudioFeatures
from deployments.director import Director
from deployments.face_synthesis import FaceSynthesis
from deployments.ingress import Ingress
from deployments.landmark_generator import LandmarkGenerator
from deployments.live_session import LiveSession
from deployments.media_probe import MediaProbe
from deployments.speech_synthesis import SpeechSynthesis
from deployments.studio import Studio
from models.engines.patches import FacePatches
from models.engines.protocol import ComputeResources
from models.engines.registry import ENGINES
from models.engines.warp.chunk import FaceChunk
from models.engines.warp.engine import WarpEngine
from models.engines.warp.generator import WarpFaceGenerator

SECONDS_PER_FRAME = 0.3

_RealFaceSynthesis: Any = FaceSynthesis.func_or_class  # type: ignore[attr-defined]


class PacedFaceGenerator(WarpFaceGenerator):
    """Takes the same time for each frame, on any machine, and gives the crops back as they are."""

    def generate(self, chunk: FaceChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        time.sleep(SECONDS_PER_FRAME * chunk.num_frames)
        return FacePatches(chunk.row, chunk.origins, chunk.crops_y[chunk.base], chunk.crops_uv[chunk.base])


class PacedEngine(WarpEngine):
    name = "paced"

    def face_generator(self, resources: ComputeResources) -> WarpFaceGenerator:
        return PacedFaceGenerator()


class FaceSynthesisOfFakeGpus(_RealFaceSynthesis):  # type: ignore[misc]
    """The real one, on GPUs that only Ray believes in: there is no memory to claim."""

    def _claim_resources(self, config: PipelineConfig) -> ComputeResources:
        return ComputeResources()


def build(config: PipelineConfig) -> Application:
    """The graph of `graph.wire`."""
    engines = {**ENGINES, "paced": PacedEngine}
    media_probe = _bound(MediaProbe, config)
    audio_features = _bound(AudioFeatures, config, engines)
    landmark_generator = _bound(LandmarkGenerator, config, engines)
    face_synthesis = _bound(serve.deployment(FaceSynthesisOfFakeGpus, name="FaceSynthesis"), config, engines)
    studio = _bound(Studio, config, face_synthesis, engines)
    speech_synthesis = _bound(SpeechSynthesis, config)
    director = _bound(
        Director, config, media_probe, audio_features, landmark_generator, studio, speech_synthesis, engines
    )
    return _bound(Ingress, config, director, _bound(LiveSession, config, engines), speech_synthesis)


def _bound(deployment: object, *arguments: object) -> Application:
    """Class decorators have no types: what they return is a `Deployment`."""
    return cast(Deployment, deployment).bind(*arguments)
