"""The Wav2Lip engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.engines.base import BoxEngine, read_options
from models.engines.paste.crop import BoxPlan, BoxTrack
from models.engines.protocol import ComputeResources, EngineSettings, FrameSpan, WeightsSpec
from models.engines.wav2lip.audio import MelAudioEncoder, MelFeatures, MelLiveAudioEncoder, plan_windows
from models.engines.wav2lip.crop import track_boxes
from models.engines.wav2lip.options import Wav2LipOptions
from models.engines.wav2lip.weights import GENERATOR, GENERATOR_ROLE

if TYPE_CHECKING:
    from models.avatar.avatar import Avatar
    from models.engines.wav2lip.generator import Wav2LipFaceGenerator


class Wav2LipEngine(BoxEngine[MelFeatures, BoxPlan]):
    """Implements `models.engines.protocol.Engine` and `LiveEngine`."""

    title: ClassVar[str] = "Wav2Lip: generates the lower half of the face at 96 x 96 or 256 x 256; needs your weights"
    weights: ClassVar[tuple[WeightsSpec, ...]] = (GENERATOR_ROLE,)
    name = "wav2lip"
    version = "1"
    audio_features = "mel80"

    def __init__(self, settings: EngineSettings) -> None:
        self._weights = settings.weights
        self._options = read_options(Wav2LipOptions, self.name, settings.options)

    def audio_encoder(self, resources: ComputeResources) -> MelAudioEncoder:
        """Return the mel spectrum's encoder; it holds no network and uses no GPU."""
        return MelAudioEncoder()

    def live_audio_encoder(self, resources: ComputeResources) -> MelLiveAudioEncoder:
        """Return the mel spectrum's encoder for live sessions."""
        return MelLiveAudioEncoder()

    def face_generator(self, resources: ComputeResources) -> Wav2LipFaceGenerator:
        """Load the generator; see `models.engines.protocol.Engine.face_generator`."""
        # Imported here: the rest of the engine needs no PyTorch.
        from models.engines.wav2lip.generator import Wav2LipFaceGenerator, load_generator

        return Wav2LipFaceGenerator(
            load_generator(self._weights.path(GENERATOR), resources, self._options), self._options
        )

    def plan_frames(self, features: MelFeatures, span: FrameSpan, source_index: NDArray[np.int32]) -> BoxPlan:
        """Give each frame the mel window that drives it."""
        return plan_windows(features, span, source_index, self._options.mel_offset)

    def box_track(self, avatar: Avatar) -> BoxTrack:
        """Return the positions of the boxes of an avatar."""
        return track_boxes(avatar.track, avatar.info.width, avatar.info.height)

    def box_plan(self, plan: BoxPlan) -> tuple[BoxPlan, Mapping[str, NDArray[Any]]]:
        """Return the plan unchanged."""
        return plan, {}
