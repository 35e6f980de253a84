"""The service with engines that fail: a Serve config names `tests.faults.graph_with_faults:build`.

Ray reads the type of `build`'s argument from its annotation, which therefore must not be a string.
"""

import ctypes
import time

from ray.serve import Application

from config import PipelineConfig
from graph import wire
from models.engines.registry import ENGINES, Engine, EngineSpec, FaceChunk, FacePatches


class HangingEngine:
    """Never comes back, as a driver that waits for a lost GPU does."""

    spec = EngineSpec(name="hangs", drive="landmarks", crop="region", colour="yuv420")

    def synthesize(self, chunk: FaceChunk) -> FacePatches:
        time.sleep(3600)
        raise AssertionError("an hour has passed")


class CrashingEngine:
    """Takes its process with it, as a fault in native code does."""

    spec = EngineSpec(name="crashes", drive="landmarks", crop="region", colour="yuv420")

    def synthesize(self, chunk: FaceChunk) -> FacePatches:
        ctypes.string_at(0)
        raise AssertionError("a dead process went on")


class RaisingEngine:
    """Raises what no engine should."""

    spec = EngineSpec(name="raises", drive="landmarks", crop="region", colour="yuv420")

    def synthesize(self, chunk: FaceChunk) -> FacePatches:
        raise ZeroDivisionError("float division by zero")


def _hangs(device: str, num_threads: int) -> Engine:
    return HangingEngine()


def _crashes(device: str, num_threads: int) -> Engine:
    return CrashingEngine()


def _raises(device: str, num_threads: int) -> Engine:
    return RaisingEngine()


def build(config: PipelineConfig) -> Application:
    """The real graph; jobs may name the failing engines beside the real ones."""
    return wire(config, {**ENGINES, "hangs": _hangs, "crashes": _crashes, "raises": _raises})
