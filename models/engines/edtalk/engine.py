"""The EdTalk engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.engines.base import StatelessEngine, read_options
from models.engines.edtalk.options import EdTalkOptions
from models.engines.edtalk.weights import GENERATOR, GENERATOR_ROLE, SIDE
from models.engines.paste.alignment import FFHQ_512, AlignedTrack
from models.engines.paste.crop import BoxChunk, BoxPlan
from models.engines.protocol import ComputeResources, EngineSettings, FrameSpan, WeightsSpec
from models.engines.wav2lip.audio import MelAudioEncoder, MelFeatures, plan_windows

if TYPE_CHECKING:
    from media.frame_source import FrameSource
    from media.yuv_frame import YuvFrame
    from models.avatar.avatar import Avatar
    from models.engines.edtalk.generator import EdTalkFaceGenerator


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
        """Load the generator; see `models.engines.protocol.Engine.face_generator`."""
        # Imported here: the rest of the engine runs without onnxruntime.
        from models.engines.edtalk.generator import EdTalkFaceGenerator, EdTalkGenerator

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
        """Crop the regions around the faces out of full frames."""
        track: AlignedTrack = avatar.remember(self, lambda: AlignedTrack.load(avatar.folder_of(self)))
        return track.crop(avatar.info.colour, plan, frames)
