"""The service with faces that cost time and no processor: a Serve config names `tests.cluster.paced_graph:build`.

What a cluster is worth cannot be seen on one small machine with real work, because all nodes share its cores. Ray reads
the type of `build`'s argument from its annotation, which therefore must not be a string.
"""

import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from ray import serve
from ray.serve import Application

import graph
from deployments.face_synthesis import FaceSynthesis
from lipwright.config import PipelineConfig
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
    """The graph of `graph.wire`, with these faces."""
    face_synthesis = serve.deployment(FaceSynthesisOfFakeGpus, name="FaceSynthesis")
    with patch.object(graph, "FaceSynthesis", face_synthesis):
        return graph.wire(config, {**ENGINES, "paced": PacedEngine})
