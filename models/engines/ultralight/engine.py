"""The engine `ultralight`: a network that was trained for one person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from errors import ConfigError
from models.engines.base import BoxEngine, read_options
from models.engines.paste.crop import BoxChunk, BoxPlan, BoxTrack
from models.engines.protocol import (
    AudioEncoder,
    ComputeResources,
    EngineSettings,
    FaceGenerator,
    FrameSpan,
    WeightsSpec,
)
from models.engines.ultralight.audio import CENTRES, IDS, ROWS, UltralightFeatures, UltralightPlan
from models.engines.ultralight.crop import box_track
from models.engines.ultralight.options import UltralightOptions
from models.engines.ultralight.variants import AudioKind
from models.engines.ultralight.weights import GENERATOR, ROLES

if TYPE_CHECKING:
    from models.avatar.avatar import Avatar


class UltralightEngine(BoxEngine[UltralightFeatures, UltralightPlan]):
    """Implements `models.engines.protocol.Engine`.

    Raises:
        ConfigError: An option cannot be used, or it is not clear which audio features the generator takes.
    """

    title: ClassVar[str] = "Ultralight: a small network trained for a single person; needs your weights"
    name = "ultralight"
    version = "1"
    weights: ClassVar[tuple[WeightsSpec, ...]] = ROLES

    def __init__(self, settings: EngineSettings) -> None:
        self._weights = settings.weights
        self._options = read_options(UltralightOptions, self.name, settings.options)
        self._kind = self._choose_audio_kind()
        self.audio_features = f"ultralight-{self._kind}:{self._weights.fingerprint(self._kind)}"

    def audio_encoder(self, resources: ComputeResources) -> AudioEncoder[UltralightFeatures]:
        """Load HuBERT or WeNet; see `protocol.Engine.audio_encoder`."""
        path = self._weights.path(self._kind)
        if self._kind == "hubert":
            from models.engines.ultralight.hubert import HubertAudioEncoder, load_hubert

            return HubertAudioEncoder(load_hubert(path, resources))
        from models.engines.ultralight.wenet import OnnxWenet, WenetAudioEncoder

        return WenetAudioEncoder(OnnxWenet(path, resources))

    def face_generator(self, resources: ComputeResources) -> FaceGenerator[BoxChunk]:
        """Load the generator; see `protocol.Engine.face_generator`."""
        # Imported here: the rest of the engine needs neither PyTorch nor onnxruntime.
        from models.engines.ultralight.generator import UltralightFaceGenerator, load_generator

        generator = load_generator(self._weights.path(GENERATOR), resources, self._options, self._kind)
        return UltralightFaceGenerator(generator, self._options)

    def plan_frames(
        self, features: UltralightFeatures, span: FrameSpan, source_index: NDArray[np.int32]
    ) -> UltralightPlan:
        """Combine source frames and audio features."""
        return UltralightPlan(span.first, source_index, features)

    def box_track(self, avatar: Avatar) -> BoxTrack:
        """Return the boxes of an avatar."""
        return box_track(avatar.track)

    def box_plan(self, plan: UltralightPlan) -> tuple[BoxPlan, Mapping[str, NDArray[Any]]]:
        """Return a plan without features: neighbours share most rows, which are sent once per chunk."""
        features = plan.features
        nothing = np.empty((len(plan), 0), np.float32)
        boxes = BoxPlan(plan.first_frame, plan.source_index, nothing, {CENTRES: features.centres})
        return boxes, {IDS: features.ids, ROWS: features.rows}

    def _choose_audio_kind(self) -> AudioKind:
        if self._options.audio_encoder != "auto":
            return self._options.audio_encoder
        kinds: tuple[AudioKind, ...] = ("hubert", "wenet")
        brought = [kind for kind in kinds if self._weights.has(kind)]
        if len(brought) == 2:
            raise ConfigError(
                "Engine ultralight has both a hubert and a wenet file: set its option 'audio_encoder' to the one that "
                "the generator was trained with."
            )
        return brought[0] if brought else "hubert"
