"""MuseTalk as one of the engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from models.engines.musetalk.crop import box_track
from models.engines.musetalk.options import MuseTalkOptions
from models.engines.musetalk.plan import MuseTalkPlan, WhisperFeatures
from models.engines.musetalk.weights import ROLES
from models.engines.options import read_options
from models.engines.paste.crop import BoxChunk, BoxTrack, cut_boxes
from models.engines.protocol import EngineSettings, FrameSpan, Machine, PlannedBlock, WeightsSpec
from models.quality.measures import measure_view

if TYPE_CHECKING:
    from media.frame_source import FrameSource
    from media.yuv_frame import YuvFrame
    from models.avatar.avatar import Avatar
    from models.engines.musetalk.audio import WhisperAudioEncoder
    from models.engines.musetalk.generator import MuseTalkFaceGenerator

_BOXES_FILE: Final = "boxes.npz"
_ANALYSIS_VERSION: Final = "1"


class MuseTalkEngine:
    """MuseTalk 1.5, and 1, whose U-Net has the same shape; satisfies `models.engines.protocol.Engine`.

    Args:
        settings: The user's files, and the options of `MuseTalkOptions`.

    Raises:
        ConfigError: An option cannot be used.
    """

    title: ClassVar[str] = "MuseTalk: the lower half of the face, at 256 pixels, by weights that you bring; wants a GPU"
    weights: ClassVar[tuple[WeightsSpec, ...]] = ROLES
    name = "musetalk"
    uses_source_audio = False

    def __init__(self, settings: EngineSettings) -> None:
        self.options = read_options(MuseTalkOptions, self.name, settings.options)
        self._weights = settings.weights
        self.audio_features = f"whisper-tiny:{self._weights.fingerprint('whisper')}"
        # What is written of an avatar are boxes, and these options move them.
        self.version = f"{_ANALYSIS_VERSION}-{self.options.model}-{self.options.bbox_shift:g}"

    def audio_encoder(self, machine: Machine) -> WhisperAudioEncoder:
        """Load Whisper's encoder; see the contract."""
        from models.engines.musetalk.audio import load_audio_encoder

        return load_audio_encoder(self._weights, machine)

    def face_generator(self, machine: Machine) -> MuseTalkFaceGenerator:
        """Load the U-Net and the VAE; see the contract."""
        from models.engines.musetalk.generator import load_face_generator

        return load_face_generator(self._weights, self.options, machine)

    def analyse(
        self,
        avatar: Avatar,
        frames: FrameSource,
        source_audio_features: WhisperFeatures | None,
        should_stop: Callable[[], bool],
    ) -> None:
        """Write the boxes: they follow from the track alone, so no frame is read.

        The latents of the frames need the networks: the face generator makes them, and keeps them.
        """
        box_track(avatar.track, self.options).save(avatar.folder_of(self) / _BOXES_FILE)

    def plan(
        self, avatar: Avatar, features: WhisperFeatures, span: FrameSpan, source_index: NDArray[np.int32], state: None
    ) -> PlannedBlock[MuseTalkPlan, None]:
        """Choose the rows of every frame; no block depends on the one before."""
        heard = span.first - features.first_frame
        gate = features.gate[heard : heard + span.num]
        plan = MuseTalkPlan.of(features, span, source_index)
        return PlannedBlock(plan, None, measure_view(avatar, plan.source_index, gate))

    def cut(self, avatar: Avatar, plan: MuseTalkPlan, frames: Sequence[YuvFrame]) -> BoxChunk:
        """Cut the regions of the boxes; see the contract."""
        boxes = avatar.remember(self, lambda: BoxTrack.load(avatar.folder_of(self) / _BOXES_FILE))
        return cut_boxes(boxes, avatar.info.colour, plan.with_features(), frames)
