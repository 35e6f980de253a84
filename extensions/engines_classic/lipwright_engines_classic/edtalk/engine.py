"""The EdTalk engine: an ONNX network that generates upright faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError, WeightsError
from lipwright_engines_classic.edtalk.options import EdTalkOptions
from models.engines.base import StatelessEngine, read_options
from models.engines.paste.alignment import FFHQ_512, MATRIX, AlignedTrack
from models.engines.paste.crop import BoxChunk, BoxPlan
from models.engines.paste.upright import aligned_rgb, paste_lower_face, paste_square
from models.engines.patches import FacePatches
from models.engines.protocol import ComputeResources, EngineSettings, FrameSpan, TensorTable, WeightsSpec
from models.engines.runtime.onnx import OnnxNetwork
from models.engines.wav2lip.audio import MelAudioEncoder, MelFeatures, plan_windows
from models.engines.weights.recognition import Shape, input_roles, shape_fits

if TYPE_CHECKING:
    from lipwright.media.frame_source import FrameSource
    from lipwright.media.yuv_frame import YuvFrame
    from models.avatar.avatar import Avatar


GENERATOR: Final = "generator"
SIDE: Final = 256
"""Pixels of the picture that the network reads and writes."""
PICTURE: Final = (1, 3, SIDE, SIDE)
_INPUTS: Final = {"mel": (1, 1, 80, 16), "picture": PICTURE, "weight": (1,)}


def edtalk_roles(inputs: Sequence[Shape]) -> list[str] | None:
    """Return the role of each input of a file, "mel", "picture" or "weight"; None if it is not this network."""
    return input_roles(inputs, _INPUTS, (0,))


def edtalk_mismatch(table: TensorTable) -> str | None:
    """Return None for a file that is this network, otherwise what was expected and found."""
    has_output = bool(table.outputs) and shape_fits(table.outputs[0], PICTURE)
    if table.format == "onnx" and has_output and edtalk_roles(table.inputs) is not None:
        return None
    return (
        f"expected an ONNX network with inputs {', '.join(map(str, _INPUTS.values()))} and an output {PICTURE}, "
        f"found {list(table.inputs)} -> {list(table.outputs)}"
    )


GENERATOR_ROLE: Final = WeightsSpec(
    name=GENERATOR,
    title="EdTalk as exported for facefusion: edtalk_256.onnx",
    licence="Apache-2.0 (tanshuai0219/EdTalk), as facefusion states it.",
    mismatch=edtalk_mismatch,
)


class EdTalkGenerator:
    """Generates whole upright faces, one at a time: the published file has batches of 1.

    `weight` says how far the lips are moved, 0 to 1.

    Raises:
        WeightsError: The file is missing or not this network.
        ConfigError: The device cannot be used.
    """

    def __init__(self, path: Path, resources: ComputeResources, weight: float) -> None:
        self._network = OnnxNetwork(path, resources, edtalk_mismatch)
        roles = edtalk_roles(self._network.table.inputs)
        assert roles is not None
        self._roles = roles
        self._weight = np.full(1, weight)

    def generate(self, face: NDArray[np.uint8], window: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Generate one face, (256, 256, 3) uint8 RGB, from the frame's and an (80, 16) float32 mel window."""
        picture = np.ascontiguousarray(face.transpose(2, 0, 1)[None], np.float32) / 255
        arrays: dict[str, NDArray[Any]] = {"mel": window[None, None], "picture": picture, "weight": self._weight}
        generated = self._network(*(arrays[role] for role in self._roles))
        if generated.shape != PICTURE:
            raise WeightsError(f"Expected {PICTURE} of the generator, got {generated.shape}.")
        levels = np.rint(np.nan_to_num(generated[0]).clip(0, 1) * 255).astype(np.uint8)
        return np.ascontiguousarray(levels.transpose(1, 2, 0)).reshape(SIDE, SIDE, 3)


class EdTalkFaceGenerator:
    """Implements `models.engines.protocol.FaceGenerator`."""

    def __init__(self, generator: EdTalkGenerator, options: EdTalkOptions) -> None:
        self._generator = generator
        self._options = options

    def generate(self, chunk: BoxChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one patch for every face of a chunk of this engine; the same chunk gives the same bytes."""
        patches = FacePatches(chunk.row, chunk.origins, chunk.y[chunk.crop], chunk.uv[chunk.crop])
        seen: dict[int, NDArray[np.uint8]] = {}
        for face in range(chunk.num_faces):
            if should_stop():
                raise CancelledJobError(f"{face} of {chunk.num_faces} faces were generated.")
            crop, matrix = int(chunk.crop[face]), chunk.arrays[MATRIX][face]
            if crop not in seen:
                seen[crop] = aligned_rgb(chunk.region(crop), chunk.colour, matrix, chunk.boxes[face], SIDE)
            self._paste(chunk, patches, face, self._generator.generate(seen[crop], chunk.features[face]))
        return patches

    def _paste(self, chunk: BoxChunk, patches: FacePatches, face: int, rgb: NDArray[np.uint8]) -> None:
        matrix, opacity = chunk.arrays[MATRIX][face], float(chunk.opacity[face])
        if self._options.paste == "square":
            paste_square(patches, face, rgb, matrix, chunk.boxes[face], chunk.colour, opacity=opacity)
        else:
            paste_lower_face(
                patches,
                face,
                rgb,
                matrix,
                chunk.outline[face],
                chunk.colour,
                opacity=opacity,
                match_colour=self._options.match_colour,
            )


class EdTalkEngine(StatelessEngine[MelFeatures, BoxPlan, BoxChunk]):
    """Implements `models.engines.protocol.Engine`.

    The mel spectrum is Wav2Lip's, on which EdTalk was trained; facefusion computes its own approximation of it, with
    other scales and another filter bank.
    """

    title: ClassVar[str] = (
        "EdTalk: generates the lower face at 256 x 256 from the whole aligned face; needs your weights"
    )
    weights: ClassVar[tuple[WeightsSpec, ...]] = (GENERATOR_ROLE,)
    name = "edtalk"
    version = "1"
    audio_features = "mel80"

    def __init__(self, settings: EngineSettings) -> None:
        self._weights = settings.weights
        self._options = read_options(EdTalkOptions, self.name, settings.options)

    def audio_encoder(self, resources: ComputeResources) -> MelAudioEncoder:
        """Return the mel spectrum's encoder; it holds no network and uses no GPU."""
        return MelAudioEncoder()

    def face_generator(self, resources: ComputeResources) -> EdTalkFaceGenerator:
        generator = EdTalkGenerator(self._weights.path(GENERATOR), resources, self._options.weight)
        return EdTalkFaceGenerator(generator, self._options)

    def analyse(
        self,
        avatar: Avatar,
        frames: FrameSource,
        source_audio_features: MelFeatures | None,
        should_stop: Callable[[], bool],
    ) -> None:
        """Align the face of an avatar upright; no frame is read."""
        AlignedTrack.of(avatar.track, FFHQ_512, SIDE).save(avatar.folder_of(self))

    def plan_frames(self, features: MelFeatures, span: FrameSpan, source_index: NDArray[np.int32]) -> BoxPlan:
        """Give each frame the mel window that drives it."""
        return plan_windows(features, span, source_index, self._options.mel_offset)

    def crop(self, avatar: Avatar, plan: BoxPlan, frames: Sequence[YuvFrame]) -> BoxChunk:
        track: AlignedTrack = avatar.remember(self, lambda: AlignedTrack.load(avatar.folder_of(self)))
        return track.crop(avatar.info.colour, plan, frames)
