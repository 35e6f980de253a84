"""The engine's section of the settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lipwright_engines_classic.dinet.crop import Fit
from models.engines.base import EngineOptions

Paste = Literal["face", "mask", "rectangle"]
"""Which part of the generated crop is shown: the lower face with a soft edge, the whole masked area with a soft edge,
or the crop as a hard rectangle, as the published scripts do."""


def _check_ascending(edges: tuple[int, int]) -> tuple[int, int]:
    if edges[0] >= edges[1]:
        raise ValueError("Expected the first before the last")
    return edges


_Edge = Annotated[int, Field(ge=0, le=255)]
_Edges = Annotated[tuple[_Edge, _Edge], AfterValidator(_check_ascending)]


class DinetOptions(EngineOptions):
    """The engine's section of the settings.

    Attributes:
        paste: See `Paste`. "face" keeps the sharp pixels of hair, neck and background, which the generator blurs.
        batch_size: Frames that the generator makes at a time; 0 is 1 on the CPU and 4 on a GPU. An ONNX file with a
            fixed batch has its own.
        precision: Original: "auto" computes in half precision if the user's weights then give nearly the same picture.
        exact_chunks: HeyGem: cut the speech every 35 s and stretch it over the job as HeyGem does. If false, each piece
            has context on both sides and every row of features keeps its time, so there is no step at the borders, and
            no frame gets audio up to 40 ms too early or too late.
        fit: HeyGem: whether the crop of 266 pixels is resized to 256 or cut; the readable versions of it resize.
        mask_rows: HeyGem: first and last row of the rectangle that is black in the masked crop.
        mask_columns: HeyGem: first and last column.
    """

    paste: Paste = "face"
    batch_size: int = Field(0, ge=0, le=64)
    precision: Literal["auto", "fp32"] = "auto"
    exact_chunks: bool = False
    fit: Fit = "resize"
    mask_rows: _Edges = (86, 251)
    mask_columns: _Edges = (37, 217)
