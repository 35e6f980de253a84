"""DINet as an engine: the original network, or HeyGem's, whichever generator the user added.

A crop of the frame is masked around the mouth and regenerated from the speech. HeyGem's generator also gets the
unmasked crop; the original gets five other frames of the avatar.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lipwright.media.array_files import load_array
from lipwright.media.frame_source import FrameSource
from lipwright.media.yuv_frame import YuvFrame
from lipwright_engines_classic.dinet.crop import (
    REFERENCES,
    CropLayout,
    choose_references,
    dinet_boxes,
    heygem_boxes,
    read_references,
    runs_of,
)
from lipwright_engines_classic.dinet.landmarks import FaceDetector, FaceLandmarks98, find_points
from lipwright_engines_classic.dinet.options import DinetOptions
from lipwright_engines_classic.dinet.weights import ROLES, kind_of
from models.engines.base import StatelessEngine, read_options
from models.engines.paste.crop import BoxChunk, BoxPlan, BoxTrack, crop_boxes
from models.engines.protocol import (
    AudioEncoder,
    ComputeResources,
    EngineSettings,
    EngineWeights,
    FaceGenerator,
    FrameSpan,
    WeightsSpec,
)
from models.speech.level import SpeechLevel, open_measured_speech
from models.track.face_track import patch_share

if TYPE_CHECKING:
    from lipwright_engines_classic.dinet.generator import HeyGemGenerator
    from lipwright_engines_classic.dinet.torch_generator import DinetGenerator
    from models.avatar.avatar import Avatar
    from models.track.face_track import FaceTrack


@dataclass(frozen=True)
class DinetFeatures:
    """The features of T output frames."""

    windows: NDArray[np.float32]  # (T, C, W), C numbers of W rows around each frame
    gate: NDArray[np.float32]  # (T,) 1 in speech, 0 in silence, between them while fading


def open_measured(speech: Path, level: SpeechLevel) -> tuple[NDArray[np.int16], Hashable]:
    """Open a speech file; return its (N,) int16 samples and a value that identifies the file.

    Raises:
        MediaError: It is not the file that was measured.
    """
    samples = open_measured_speech(speech, level)
    stat = speech.stat()
    return samples, (str(speech), stat.st_ino, stat.st_mtime_ns, stat.st_size)


_CPU_BATCH, _CUDA_BATCH = 1, 4


class HeyGemVariant:
    """HeyGem's `dinet_v1`.

    Attributes:
        audio_features: See `protocol.Engine`.
        version: Version of the positions of the crops.
        layout: Input of the generator for a crop.
        takes_references: Whether the generator gets other frames of the avatar.
    """

    takes_references = False

    def __init__(self, options: DinetOptions) -> None:
        self._options = options
        self.audio_features = "wenet-exact" if options.exact_chunks else "wenet"
        self.version = f"heygem-{options.fit}"
        self.layout = CropLayout(256, 256, options.mask_rows, options.mask_columns, 256, "cubic")

    def boxes(self, points: NDArray[np.float32], track: FaceTrack) -> NDArray[np.float64]:
        """Return the (N, 4) crops of (N, 68, 2) points."""
        return heygem_boxes(points, track.visible, track.pixel_aspect, self._options.fit)

    def audio_encoder(self, weights: EngineWeights, resources: ComputeResources) -> AudioEncoder[DinetFeatures]:
        """Load wenet's encoder."""
        from lipwright_engines_classic.dinet.wenet import WenetAudioEncoder

        return WenetAudioEncoder(weights.path("speech"), resources, exact_chunks=self._options.exact_chunks)

    def generator(self, weights: EngineWeights, resources: ComputeResources) -> HeyGemGenerator:
        """Load the generator."""
        from lipwright_engines_classic.dinet.generator import HeyGemGenerator

        return HeyGemGenerator(weights.path("generator"), resources, self.layout, _batch_size(self._options, resources))


class OriginalVariant:
    """The published DINet; see `HeyGemVariant`."""

    audio_features = "deepspeech"
    version = "original"
    takes_references = True
    # Mouth region M = 256: crop of 1.625 M x 1.25 M, black from M / 2 and M / 8 on; inference.py writes 3 / 3.25 of it.
    layout = CropLayout(416, 320, (128, 383), (32, 287), 384, "linear")

    def __init__(self, options: DinetOptions) -> None:
        self._options = options

    def boxes(self, points: NDArray[np.float32], track: FaceTrack) -> NDArray[np.float64]:
        """Return the (N, 4) crops of (N, 68, 2) points."""
        return dinet_boxes(points, runs_of(track.visible, track.shot))

    def audio_encoder(self, weights: EngineWeights, resources: ComputeResources) -> AudioEncoder[DinetFeatures]:
        """Load DeepSpeech."""
        from lipwright_engines_classic.dinet.deepspeech import DeepSpeechAudioEncoder

        return DeepSpeechAudioEncoder(weights.path("speech"), resources)

    def generator(self, weights: EngineWeights, resources: ComputeResources) -> DinetGenerator:
        """Load the generator."""
        from lipwright_engines_classic.dinet.torch_generator import DinetGenerator

        size = _batch_size(self._options, resources)
        return DinetGenerator(weights.path("generator"), resources, self.layout, size, self._options.precision)


def _batch_size(options: DinetOptions, resources: ComputeResources) -> int:
    return options.batch_size or (_CUDA_BATCH if resources.device == "cuda" else _CPU_BATCH)


_CROPS_FILE, _REFERENCES_FILE = "crops.npz", "references.npy"


class DinetEngine(StatelessEngine[DinetFeatures, BoxPlan, BoxChunk]):
    """Implements `protocol.Engine`; missing files are reported when they are loaded.

    Raises:
        ConfigError: An option cannot be used.
        WeightsError: A file is not the one that was added.
    """

    title: ClassVar[str] = (
        "DINet: generates the mouth of a face crop at 416 x 320 or, with HeyGem's files, 256 x 256; needs your weights"
    )
    name = "dinet"
    weights: ClassVar[tuple[WeightsSpec, ...]] = ROLES

    def __init__(self, settings: EngineSettings) -> None:
        options = read_options(DinetOptions, self.name, settings.options)
        self._weights, self._num_threads = settings.weights, settings.num_threads
        has, path = settings.weights.has, settings.weights.path
        is_original = has("generator") and kind_of(path("generator")) == "original"
        self._options = options
        self._kind: HeyGemVariant | OriginalVariant = (
            OriginalVariant(options) if is_original else HeyGemVariant(options)
        )
        finders = [role for role in ("landmarks", "detector") if has(role)]
        # A detector alone changes nothing, see `find_points`.
        self._finders = finders if "landmarks" in finders else []
        self.audio_features = f"{self._kind.audio_features}:{settings.weights.fingerprint('speech')}"
        found_by = [f"{role}_{settings.weights.fingerprint(role)[:8]}" for role in self._finders]
        self.version = "-".join(["1", self._kind.version, *found_by])

    def audio_encoder(self, resources: ComputeResources) -> AudioEncoder[DinetFeatures]:
        return self._kind.audio_encoder(self._weights, resources)

    def face_generator(self, resources: ComputeResources) -> FaceGenerator[BoxChunk]:
        from lipwright_engines_classic.dinet.generator import DinetFaceGenerator

        generator = self._kind.generator(self._weights, resources)
        return DinetFaceGenerator(generator, self._kind.layout, self._options.paste)

    def analyse(
        self,
        avatar: Avatar,
        frames: FrameSource,
        source_audio_features: DinetFeatures | None,
        should_stop: Callable[[], bool],
    ) -> None:
        """Write the positions of the crops, and reference frames if the generator takes them; see `protocol.Engine`.

        Raises:
            WeightsError: One of HeyGem's files is not the expected network.
        """
        folder, colour = avatar.folder_of(self), avatar.info.colour
        num = avatar.info.num_frames
        points = find_points(avatar.track, frames, colour, *self._load_finders(), should_stop, num)
        boxes = self._kind.boxes(points, avatar.track)
        outline = self._kind.layout.outline(boxes, points)
        crops = BoxTrack.of(boxes, outline, patch_share(avatar.track.driving_weight))
        crops.save(folder / _CROPS_FILE)
        if self._kind.takes_references:
            chosen = choose_references(avatar.track)
            np.save(folder / _REFERENCES_FILE, read_references(chosen, crops, frames, colour, self._kind.layout))

    def plan_frames(self, features: DinetFeatures, span: FrameSpan, source_index: NDArray[np.int32]) -> BoxPlan:
        """Give each frame the window of features that drives it."""
        return BoxPlan(span.first, source_index, features.windows)

    def crop(self, avatar: Avatar, plan: BoxPlan, frames: Sequence[YuvFrame]) -> BoxChunk:
        crops, references = avatar.remember(self, lambda: self._open(avatar.folder_of(self)))
        extra = {} if references is None else {REFERENCES: references}
        return crop_boxes(crops, avatar.info.colour, plan, frames, extra)

    def _open(self, folder: Path) -> tuple[BoxTrack, NDArray[np.uint8] | None]:
        crops = BoxTrack.load(folder / _CROPS_FILE)
        return crops, load_array(folder / _REFERENCES_FILE) if self._kind.takes_references else None

    def _load_finders(self) -> tuple[Any, Any]:
        """HeyGem's detector and landmarks where the user added them; an avatar is analysed once, on the CPU."""
        resources, path = ComputeResources(num_threads=self._num_threads), self._weights.path
        detector = FaceDetector(path("detector"), resources) if "detector" in self._finders else None
        return detector, FaceLandmarks98(path("landmarks"), resources) if "landmarks" in self._finders else None
