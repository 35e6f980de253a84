"""Sharpens the faces of any engine's patches: only in the mask of the lower face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lipwright.errors import CancelledJobError
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import Patch, YuvFrame, paste_back
from models.engines.base import EngineOptions
from models.engines.paste.alignment import MATRIX, MTCNN_512, AlignedTrack, shift_origin
from models.engines.paste.crop import BoxChunk, BoxPlan
from models.engines.paste.upright import aligned_rgb, paste_lower_face
from models.engines.patches import FacePatches
from models.engines.protocol import ComputeResources, TensorTable, WeightsSpec
from models.engines.weights.recognition import shape_fits

if TYPE_CHECKING:
    from models.track.face_track import FaceTrack


SIDE: Final = 512

RestorationNetwork = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""(512, 512, 3) uint8 RGB of an upright face -> the same, sharper."""


class RestorationOptions(EngineOptions):
    """How generated faces are sharpened, where a restoration network was added."""

    strength: float = Field(
        0.7, ge=0, le=1, description="Opacity of the restored face in the middle of its mask; 0 turns restoration off."
    )
    fidelity: float = Field(
        0.7,
        ge=0,
        le=1,
        description="For networks with a fidelity input (CodeFormer): how closely the result follows the input face.",
    )


class Surroundings:
    """Crops the whole faces around an engine's patches, which a restoration network needs.

    An engine's own region may contain only the mouth. Cheap to make, holds no network.
    """

    def __init__(self, track: FaceTrack, colour: ColourTags) -> None:
        self._faces = AlignedTrack.of(track, MTCNN_512, SIDE)
        self._colour = colour

    def crop(self, source_index: NDArray[np.int32], frames: Sequence[YuvFrame]) -> BoxChunk:
        """Crop the faces of T output frames, which show the (T,) source frames `source_index`."""
        plan = BoxPlan(0, source_index, np.empty((len(source_index), 0), np.float32))
        return self._faces.crop(self._colour, plan, frames)


class FaceRestorer:
    """Holds a restoration network; its picture has the share `strength` in the middle of the mask, 0 to 1."""

    def __init__(self, network: RestorationNetwork, strength: float = 1.0) -> None:
        self._network = network
        self._strength = strength

    def restore(
        self, patches: FacePatches, around: BoxChunk, should_stop: Callable[[], bool] = lambda: False
    ) -> FacePatches:
        """Sharpen generated faces.

        Faces go through the network one by one, so that a frame does not depend on the other frames of its chunk.

        Args:
            patches: What an engine's face generator gave for T frames.
            around: What `Surroundings.crop` gave for the same frames.
            should_stop: Checked before every face.

        Returns:
            New patches of the same places. Outside of the lower face's mask every byte is that of `patches`.

        Raises:
            CancelledJobError: `should_stop` returned True.
        """
        if not np.array_equal(patches.row, around.row):
            raise ValueError(f"Expected surroundings of rows {patches.row.tolist()}, got {around.row.tolist()}.")
        done = replace(patches, y=patches.y.copy(), uv=patches.uv.copy())
        if self._strength == 0:
            return done
        for face in range(len(done.origins)):
            if should_stop():
                raise CancelledJobError(f"{face} of {len(done.origins)} faces were restored.")
            matrix = around.arrays[MATRIX][face]
            shown = aligned_rgb(_paint(patches, around, face), around.colour, matrix, around.boxes[face], SIDE)
            offset = patches.origins[face] - around.origins[face]
            paste_lower_face(
                done,
                face,
                self._network(shown),
                shift_origin(matrix, offset),
                around.outline[face] - offset,
                around.colour,
                opacity=self._strength * float(around.opacity[face]),
            )
        return done


def _paint(patches: FacePatches, around: BoxChunk, face: int) -> YuvFrame:
    """A face's surroundings with its patch in them."""
    region = YuvFrame(*(plane.copy() for plane in around.region(int(around.crop[face]))))
    x, y = (int(value) for value in patches.origins[face] - around.origins[face])
    paste_back(region, Patch(x, y, YuvFrame(patches.y[face], patches.uv[face, 0], patches.uv[face, 1])))
    return region


PICTURE: Final = (1, 3, 512, 512)


def restoration_mismatch(table: TensorTable) -> str | None:
    """Return why a file is not a restoration network; None if it is."""
    pictures = [shape for shape in table.inputs if shape_fits(shape, PICTURE, (0,))]
    numbers = [shape for shape in table.inputs if len(shape) <= 1]
    are_all = len(pictures) == 1 and len(pictures) + len(numbers) == len(table.inputs)
    if table.format == "onnx" and are_all and any(shape_fits(shape, PICTURE) for shape in table.outputs):
        return None
    return (
        f"expected an ONNX file with a picture {PICTURE} in and out, at most one number beside it, "
        f"found {list(table.inputs)} -> {list(table.outputs)}"
    )


RESTORATION_ROLE: Final = WeightsSpec(
    "restoration",
    "Face restoration of the kind of GFPGANv1.4.onnx (512 x 512)",
    "GFPGAN: Apache-2.0 with parts under other terms (StyleGAN2 ops); CodeFormer: S-Lab, not for commercial use.",
    restoration_mismatch,
)


class OnnxRestoration:
    """Runs the network on one face at a time.

    Pictures are (1, 3, 512, 512) RGB, (x - 127.5) / 127.5, both ways (GFPGANv1.4.onnx as HeyGem's forks run it). A
    second input of one number is how closely CodeFormer follows its input.

    Raises:
        WeightsError: The file is missing or not such a network.
        ConfigError: The device cannot be used.
    """

    def __init__(self, path: Path, resources: ComputeResources, fidelity: float) -> None:
        # Imported here: processes that only plan or crop do not load onnxruntime.
        from models.engines.runtime.onnx import OnnxNetwork

        self._network = OnnxNetwork(path, resources, restoration_mismatch, lambda shape: shape_fits(shape, PICTURE))
        self._numbers = [
            None if len(shape) > 1 else np.full([1] * len(shape), fidelity) for shape in self._network.table.inputs
        ]

    def __call__(self, face: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return (512, 512, 3) uint8 RGB for (512, 512, 3) uint8 RGB."""
        shown = (face.astype(np.float32) - 127.5) / 127.5
        picture = shown.transpose(2, 0, 1)[None]
        answer = self._network(*(picture if number is None else number for number in self._numbers))[0]
        levels = np.rint(answer.transpose(1, 2, 0) * 127.5 + 127.5)
        return np.asarray(np.nan_to_num(levels).clip(0, 255), np.uint8)
