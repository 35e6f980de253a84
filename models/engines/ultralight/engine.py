"""The engine `ultralight`: a network that was trained for the one person it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from errors import ConfigError
from models.engines.options import read_options
from models.engines.paste.crop import BoxChunk, BoxPlan, BoxTrack, cut_boxes
from models.engines.protocol import (
    AudioEncoder,
    EngineSettings,
    FaceGenerator,
    FrameSpan,
    Machine,
    PlannedBlock,
    WeightsSpec,
)
from models.engines.ultralight.audio import CENTRES, IDS, ROWS, AudioKind, UltralightFeatures, UltralightPlan
from models.engines.ultralight.crop import box_track
from models.engines.ultralight.options import UltralightOptions
from models.engines.ultralight.weights import GENERATOR, ROLES

if TYPE_CHECKING:
    from media.frame_source import FrameSource
    from media.yuv_frame import YuvFrame
    from models.avatar.avatar import Avatar

_BOXES: Final = "boxes.npz"


class UltralightEngine:
    """Satisfies `models.engines.protocol.Engine`.

    Args:
        settings: The generator, what hears for it, and `UltralightOptions`.

    Raises:
        ConfigError: An option cannot be used, or it is not clear what the generator hears.
    """

    title: ClassVar[str] = "Ultralight: a small network that was trained for the one person it shows, which you bring"
    name = "ultralight"
    version = "1"
    uses_source_audio = False
    weights: ClassVar[tuple[WeightsSpec, ...]] = ROLES

    def __init__(self, settings: EngineSettings) -> None:
        self._weights = settings.weights
        self._options = read_options(UltralightOptions, self.name, settings.options)
        self._kind = self._choose_audio_kind()
        self.audio_features = f"ultralight-{self._kind}:{self._weights.fingerprint(self._kind)}"

    def audio_encoder(self, machine: Machine) -> AudioEncoder:
        """Load HuBERT or WeNet; see `protocol.Engine.audio_encoder`."""
        path = self._weights.path(self._kind)
        if self._kind == "hubert":
            from models.engines.ultralight.hubert import HubertAudioEncoder, load_hubert

            return HubertAudioEncoder(load_hubert(path, machine))
        from models.engines.ultralight.wenet import OnnxWenet, WenetAudioEncoder

        return WenetAudioEncoder(OnnxWenet(path, machine))

    def face_generator(self, machine: Machine) -> FaceGenerator:
        """Load the generator; see `protocol.Engine.face_generator`."""
        # Imported here: everything else of the engine runs where there is neither PyTorch nor onnxruntime.
        from models.engines.ultralight.generator import UltralightFaceGenerator, load_generator

        generator = load_generator(self._weights.path(GENERATOR), machine, self._options, self._kind)
        return UltralightFaceGenerator(generator, self._options)

    def analyse(
        self,
        avatar: Avatar,
        frames: FrameSource,
        source_audio_features: UltralightFeatures | None,
        should_stop: Callable[[], bool],
    ) -> None:
        """Lay the boxes; see `protocol.Engine.analyse`."""
        box_track(avatar.track).save(avatar.folder_of(self) / _BOXES)

    def plan(
        self,
        avatar: Avatar,
        features: UltralightFeatures,
        span: FrameSpan,
        source_index: NDArray[np.int32],
        state: None,
    ) -> PlannedBlock[UltralightPlan, None]:
        """Join source frames and sound; see `protocol.Engine.plan`."""
        from models.quality.measures import measure_view

        plan = UltralightPlan(span.first, source_index, features)
        return PlannedBlock(plan, None, measure_view(avatar, source_index, features.gate))

    def cut(self, avatar: Avatar, plan: UltralightPlan, frames: Sequence[YuvFrame]) -> BoxChunk:
        """Cut the boxes' regions; see `protocol.Engine.cut`."""
        heard = plan.features
        nothing = np.empty((len(plan), 0), np.float32)
        boxes = BoxPlan(plan.first_frame, plan.source_index, nothing, {CENTRES: heard.centres})
        return cut_boxes(self._boxes(avatar), avatar.info.colour, boxes, frames, {IDS: heard.ids, ROWS: heard.rows})

    def _boxes(self, avatar: Avatar) -> BoxTrack:
        track: BoxTrack = avatar.remember(self, lambda: BoxTrack.load(avatar.folder_of(self) / _BOXES))
        return track

    def _choose_audio_kind(self) -> AudioKind:
        if self._options.hears != "auto":
            return self._options.hears
        kinds: tuple[AudioKind, ...] = ("hubert", "wenet")
        brought = [kind for kind in kinds if self._weights.has(kind)]
        if len(brought) == 2:
            raise ConfigError(
                "Engine ultralight has both a hubert and a wenet file: set its option 'hears' to the one that the "
                "generator was trained with."
            )
        return brought[0] if brought else "hubert"
