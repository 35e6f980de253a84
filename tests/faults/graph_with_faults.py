"""The service with engines that fail: a Serve config names `tests.faults.graph_with_faults:build`.

Ray reads the type of `build`'s argument from its annotation, which therefore must not be a string.
"""

import ctypes
import time
from collections.abc import Callable

from ray.serve import Application

from graph import wire
from lipwright.config import PipelineConfig
from models.engines.patches import FacePatches
from models.engines.protocol import ComputeResources
from models.engines.registry import ENGINES
from models.engines.warp.chunk import FaceChunk
from models.engines.warp.engine import WarpEngine
from models.engines.warp.generator import WarpFaceGenerator


class HangingFaceGenerator(WarpFaceGenerator):
    """Never comes back, as a driver that waits for a lost GPU does."""

    def generate(self, chunk: FaceChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        time.sleep(3600)
        raise AssertionError("an hour has passed")


class CrashingFaceGenerator(WarpFaceGenerator):
    """Takes its process with it, as a fault in native code does."""

    def generate(self, chunk: FaceChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        ctypes.string_at(0)
        raise AssertionError("a dead process went on")


class RaisingFaceGenerator(WarpFaceGenerator):
    """Raises what no engine should."""

    def generate(self, chunk: FaceChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        raise ZeroDivisionError("float division by zero")


class HangingEngine(WarpEngine):
    def face_generator(self, resources: ComputeResources) -> WarpFaceGenerator:
        return HangingFaceGenerator()


class CrashingEngine(WarpEngine):
    def face_generator(self, resources: ComputeResources) -> WarpFaceGenerator:
        return CrashingFaceGenerator()


class RaisingEngine(WarpEngine):
    def face_generator(self, resources: ComputeResources) -> WarpFaceGenerator:
        return RaisingFaceGenerator()


def build(config: PipelineConfig) -> Application:
    """The real graph; jobs may name the failing engines beside the real ones."""
    return wire(config, {**ENGINES, "hangs": HangingEngine, "crashes": CrashingEngine, "raises": RaisingEngine})
