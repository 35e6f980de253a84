"""The published shapes of ComfyUI's V3 interface (docs.comfy.org, "V3 migration"), as far as the node uses them.

Strict where ComfyUI is: schemas check names and types, and values pass by the names of the inputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

progress: list[tuple[float, float]] = []


@dataclass(frozen=True)
class Socket:
    id: str
    kind: str
    is_optional: bool = False
    default: Any = None
    options: Any = None


def _kind(kind: str, *options: str) -> SimpleNamespace:
    known = {"optional", "tooltip", "display_name", *options}

    def make_input(id: str, **given: Any) -> Socket:
        assert set(given) <= known, f"{kind}.Input takes no {set(given) - known}"
        return Socket(id, kind, given.get("optional", False), given.get("default"), given.get("options"))

    def make_output(id: str | None = None, display_name: str | None = None, tooltip: str | None = None) -> Socket:
        return Socket(id or kind, kind)

    return SimpleNamespace(Input=make_input, Output=make_output)


class Schema:
    def __init__(
        self,
        node_id: str,
        display_name: str | None = None,
        category: str = "sd",
        inputs: list[Socket] | None = None,
        outputs: list[Socket] | None = None,
        description: str = "",
    ) -> None:
        self.node_id, self.category, self.inputs, self.outputs = node_id, category, inputs or [], outputs or []
        names = [socket.id for socket in self.inputs]
        assert len(names) == len(set(names))


class NodeOutput:
    def __init__(self, *args: Any) -> None:
        self.args = args


class ComfyNode(ABC):
    @classmethod
    @abstractmethod
    def define_schema(cls) -> Schema: ...

    @classmethod
    @abstractmethod
    def execute(cls, **inputs: Any) -> Any: ...


io = SimpleNamespace(
    ComfyNode=ComfyNode,
    Schema=Schema,
    NodeOutput=NodeOutput,
    Audio=_kind("AUDIO"),
    Video=_kind("VIDEO"),
    Image=_kind("IMAGE"),
    String=_kind("STRING", "default", "multiline"),
    Float=_kind("FLOAT", "default", "min", "max", "step"),
    Combo=_kind("COMBO", "default", "options"),
)


class ComfyExtension(ABC):
    @abstractmethod
    async def get_node_list(self) -> list[type[ComfyNode]]: ...


class _Execution:
    async def set_progress(self, value: float, max_value: float, node_id: str | None = None) -> None:
        progress.append((value, max_value))


class ComfyAPI:
    execution = _Execution()


class VideoFromFile:
    def __init__(self, file: str) -> None:
        self.file = file

    def save_to(self, path: str) -> None:
        Path(path).write_bytes(Path(self.file).read_bytes())


@dataclass(kw_only=True)
class VideoComponents:
    images: torch.Tensor
    frame_rate: Fraction
    audio: Any = None


class VideoFromComponents:
    def __init__(self, components: VideoComponents) -> None:
        assert components.images.ndim == 4 and components.images.shape[3] == 3
        self.components = components

    def save_to(self, path: str) -> None:
        Path(path).write_text(f"{tuple(self.components.images.shape)} at {self.components.frame_rate}", "ascii")


InputImpl = SimpleNamespace(VideoFromFile=VideoFromFile, VideoFromComponents=VideoFromComponents)
Types = SimpleNamespace(VideoComponents=VideoComponents)
