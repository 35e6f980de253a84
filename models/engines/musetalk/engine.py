"""The MuseTalk engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from models.engines.base import BoxEngine, read_options
from models.engines.musetalk.crop import box_track
from models.engines.musetalk.options import MuseTalkOptions
from models.engines.musetalk.plan import MuseTalkPlan, WhisperFeatures
from models.engines.musetalk.weights import ROLES
from models.engines.paste.crop import BoxPlan, BoxTrack
from models.engines.protocol import ComputeResources, EngineSettings, FrameSpan, WeightsSpec

if TYPE_CHECKING:
    from models.avatar.avatar import Avatar
    from models.engines.musetalk.audio import WhisperAudioEncoder, WhisperLiveAudioEncoder
    from models.engines.musetalk.generator import MuseTalkFaceGenerator

_ANALYSIS_VERSION: Final = "1"


class MuseTalkEngine(BoxEngine[WhisperFeatures, MuseTalkPlan]):
    """MuseTalk 1.5, and 1, whose U-Net has the same shape; implements `protocol.Engine` and `protocol.LiveEngine`."""

    title: ClassVar[str] = "MuseTalk: generates the lower half of the face at 256 x 256; needs your weights and a GPU"
    weights: ClassVar[tuple[WeightsSpec, ...]] = ROLES
    name = "musetalk"

    def __init__(self, settings: EngineSettings) -> None:
        self.options = read_options(MuseTalkOptions, self.name, settings.options)
        self._weights = settings.weights
        self.audio_features = f"whisper-tiny:{self._weights.fingerprint('whisper')}"
        # These options move the boxes that `analyse` writes.
        self.version = f"{_ANALYSIS_VERSION}-{self.options.model}-{self.options.bbox_shift:g}"

    def audio_encoder(self, resources: ComputeResources) -> WhisperAudioEncoder:
        """Load Whisper's encoder."""
        from models.engines.musetalk.audio import WhisperAudioEncoder, load_encoder

        return WhisperAudioEncoder(load_encoder(self._weights, resources))

    def live_audio_encoder(self, resources: ComputeResources) -> WhisperLiveAudioEncoder:
        """Load Whisper's encoder for live sessions."""
        from models.engines.musetalk.audio import WhisperLiveAudioEncoder, load_encoder

        return WhisperLiveAudioEncoder(load_encoder(self._weights, resources))

    def face_generator(self, resources: ComputeResources) -> MuseTalkFaceGenerator:
        """Load the U-Net and the VAE."""
        from models.engines.musetalk.generator import load_face_generator

        return load_face_generator(self._weights, self.options, resources)

    def plan_frames(self, features: WhisperFeatures, span: FrameSpan, source_index: NDArray[np.int32]) -> MuseTalkPlan:
        """Choose the rows of every frame."""
        return MuseTalkPlan.of(features, span, source_index)

    def box_track(self, avatar: Avatar) -> BoxTrack:
        """Return the positions of the boxes of an avatar.

        The latents of its frames need the networks: the face generator computes and caches them.
        """
        return box_track(avatar.track, self.options)

    def box_plan(self, plan: MuseTalkPlan) -> tuple[BoxPlan, Mapping[str, NDArray[Any]]]:
        """Return the plan with the ten rows of every frame."""
        return plan.with_features(), {}
