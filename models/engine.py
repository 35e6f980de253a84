"""What a face engine is, and the registry of the engines there are.

Signatures (stable)::

    make_engine(name, *, device="cpu", num_threads=1, engines=ENGINES) -> Engine   # OptionError, ConfigError
    Engine.spec: EngineSpec
    Engine.synthesize(chunk: FaceChunk) -> FacePatches
    FaceChunk.num_frames: int
    FacePatches.patch(i: int) -> Patch | None     # None: no face in this frame, it passes untouched
    len(FacePatches) == FaceChunk.num_frames
    cut_faces(avatar: Avatar, drive: Drive, frames: Sequence[Planes]) -> FaceChunk
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from errors import OptionError
from models.face_chunk import FaceChunk, FacePatches
from models.warp.cut import cut_faces


@dataclass(frozen=True)
class EngineSpec:
    """What an engine needs; everything before and after it follows from this.

    Attributes:
        name: What a job calls it.
        drive: "landmarks", or the audio features that it hears.
        crop: "region" for the native-resolution square of `models.face_region`.
        colour: Colour order of the crops: "yuv420" or "rgb" or "bgr".
        weights: Names of the weights files that the user has to bring.
    """

    name: str
    drive: str
    crop: str
    colour: str
    weights: tuple[str, ...] = ()


class Engine(Protocol):
    """Turns crops and their drive into faces. Holds weights and no state."""

    spec: EngineSpec

    def synthesize(self, chunk: FaceChunk) -> FacePatches:
        """Returns one patch for every face of `chunk`."""
        ...


__all__ = [
    "ENGINES",
    "Engine",
    "EngineMaker",
    "EngineSpec",
    "FaceChunk",
    "FacePatches",
    "cut_faces",
    "engine_names",
    "make_engine",
]


def _make_warp(device: str, num_threads: int) -> Engine:
    from models.warp.engine import WarpEngine

    return WarpEngine(device, num_threads)


EngineMaker = Callable[[str, int], Engine]
"""Makes an engine for a device ("cpu", "cuda" or "cuda:N") and a number of CPU threads."""

ENGINES: Mapping[str, EngineMaker] = {"warp": _make_warp}
"""The engines there are, by the name that a job gives."""


def engine_names() -> tuple[str, ...]:
    """Returns the names that `make_engine` knows."""
    return tuple(ENGINES)


def make_engine(
    name: str, *, device: str = "cpu", num_threads: int = 1, engines: Mapping[str, EngineMaker] = ENGINES
) -> Engine:
    """Makes an engine.

    Args:
        name: One of `engines`.
        device: "cpu", "cuda" or "cuda:N".
        num_threads: Threads that it may use on the CPU.
        engines: What there is to choose from.

    Raises:
        OptionError: There is no such engine.
        ConfigError: The device was asked for and is not there.
    """
    if name not in engines:
        raise OptionError(f"engine: expected one of {', '.join(engines)}, found {name!r}")
    return engines[name](device, num_threads)
