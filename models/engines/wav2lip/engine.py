"""Wav2Lip as an engine: what it hears, keeps, plans, cuts and paints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from models.engines.options import read_options
from models.engines.paste.crop import BoxChunk, BoxPlan, BoxTrack, cut_boxes
from models.engines.protocol import EngineSettings, FrameSpan, Machine, PlannedBlock, WeightsSpec
from models.engines.wav2lip.audio import MelAudioEncoder, MelFeatures, mel_windows, window_starts
from models.engines.wav2lip.crop import track_boxes
from models.engines.wav2lip.options import Wav2LipOptions
from models.engines.wav2lip.weights import GENERATOR, GENERATOR_ROLE
from models.quality.measures import measure_view

if TYPE_CHECKING:
    from media.frame_source import FrameSource
    from media.yuv_frame import YuvFrame
    from models.avatar.avatar import Avatar
    from models.engines.wav2lip.generator import Wav2LipFaceGenerator

_BOXES_FILE: Final = "boxes.npz"


class Wav2LipEngine:
    """Satisfies `models.engines.protocol.Engine`.

    Args:
        settings: The generator's file, and the section `wav2lip` of the settings.

    Raises:
        ConfigError: An option cannot be used.
    """

    title: ClassVar[str] = (
        "Wav2Lip: the lower half of the face, painted at 96 x 96 or 256 x 256 by weights that you bring"
    )
    weights: ClassVar[tuple[WeightsSpec, ...]] = (GENERATOR_ROLE,)
    name = "wav2lip"
    version = "1"
    audio_features = "mel80"
    uses_source_audio = False

    def __init__(self, settings: EngineSettings) -> None:
        self._weights = settings.weights
        self._options = read_options(Wav2LipOptions, self.name, settings.options)

    def audio_encoder(self, machine: Machine) -> MelAudioEncoder:
        """Return what hears; it holds no network and uses no GPU."""
        return MelAudioEncoder()

    def face_generator(self, machine: Machine) -> Wav2LipFaceGenerator:
        """Load the generator; see `models.engines.protocol.Engine.face_generator`."""
        # Imported here: everything else of the engine runs where there is no PyTorch.
        from models.engines.wav2lip.generator import Wav2LipFaceGenerator, load_generator

        return Wav2LipFaceGenerator(
            load_generator(self._weights.path(GENERATOR), machine, self._options), self._options
        )

    def analyse(
        self,
        avatar: Avatar,
        frames: FrameSource,
        source_audio_features: MelFeatures | None,
        should_stop: Callable[[], bool],
    ) -> None:
        """Write the boxes of an avatar; no frame is read for them."""
        boxes = track_boxes(avatar.track, avatar.info.width, avatar.info.height)
        boxes.save(avatar.folder_of(self) / _BOXES_FILE)

    def plan(
        self, avatar: Avatar, features: MelFeatures, span: FrameSpan, source_index: NDArray[np.int32], state: None
    ) -> PlannedBlock[BoxPlan, None]:
        """Give each frame the mel window that the network hears for it."""
        plan = plan_windows(features, span, source_index, self._options.mel_offset)
        return PlannedBlock(plan, None, measure_view(avatar, source_index, features.gate))

    def cut(self, avatar: Avatar, plan: BoxPlan, frames: Sequence[YuvFrame]) -> BoxChunk:
        """Cut the regions around the boxes out of full frames."""
        boxes = avatar.remember(self, lambda: BoxTrack.load(avatar.folder_of(self) / _BOXES_FILE))
        return cut_boxes(boxes, avatar.info.colour, plan, frames)


def plan_windows(features: MelFeatures, span: FrameSpan, source_index: NDArray[np.int32], mel_offset: int) -> BoxPlan:
    """Plan the frames of a span.

    Args:
        features: What was heard around them.
        span: T output frames.
        source_index: (T,) source frames.
        mel_offset: See `models.engines.wav2lip.audio`.
    """
    windows = mel_windows(features.mel, features.first_column, window_starts(span, mel_offset))
    return BoxPlan(span.first, np.asarray(source_index, np.int32), windows)
