"""The engine `ultralight`: a network that was trained for one person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import ConfigError
from lipwright_engines_classic.ultralight.audio import CENTRES, IDS, ROWS, UltralightFeatures, UltralightPlan
from lipwright_engines_classic.ultralight.options import UltralightOptions
from lipwright_engines_classic.ultralight.weights import GENERATOR, ROLES, SIDE, AudioKind
from models.engines.base import BoxEngine, read_options
from models.engines.paste.crop import BoxChunk, BoxPlan, BoxTrack
from models.engines.paste.landmarks68 import ibug_points, lower_face_outline
from models.engines.protocol import (
    AudioEncoder,
    ComputeResources,
    EngineSettings,
    FaceGenerator,
    FrameSpan,
    WeightsSpec,
)
from models.track.face_track import patch_share

if TYPE_CHECKING:
    from models.avatar.avatar import Avatar
    from models.track.face_track import FaceTrack


CROP: Final = 168
BORDER: Final = 4
# cv2.rectangle of x, y, width, height 5, 5, 150, 145, filled: rows 5 to 149, columns 5 to 154 of the 160.
MASK_ROWS: Final = slice(5, 150)
MASK_COLUMNS: Final = slice(5, 155)

# PFLD's jaw points 1 and 31 lie midway between the iBUG points 0 and 1, 15 and 16, but its jaw is wider than the
# mesh's: 1.671 distances of the outer eye corners on its mean face (ultralight/face_detect_utils/mean_face.txt of
# lipku/LiveTalking), 1.557 on ours (models/weights/mean_face_468.npy).
_WIDEN: Final = 1.671 / 1.557
# Its point 52 is the second of the nose's ridge from below, .244 such distances under the eyes; the iBUG points 28 and
# 29 lie .119 and .272 under them.
_RIDGE_UPPER, _RIDGE_LOWER, _RIDGE_SHARE = 28, 29, (0.244 - 0.119) / (0.272 - 0.119)
# The lower face moves down and outwards when the mouth opens wider than in the frame.
_OUTWARD: Final = 0.15


def face_boxes(points68: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (N, 4) squares x0, y0, x1, y1 of the 168 pixels, in frame pixels, for (N, 68, 2) points."""
    left, right = points68[:, [0, 1], 0].mean(1), points68[:, [15, 16], 0].mean(1)
    middle, half = (left + right) / 2, np.maximum((right - left) / 2, 1.0) * _WIDEN
    upper, lower = points68[:, _RIDGE_UPPER, 1], points68[:, _RIDGE_LOWER, 1]
    top = upper + _RIDGE_SHARE * (lower - upper)
    return np.stack([middle - half, top, middle + half, top + 2 * half], 1).astype(np.float64)


def inner_boxes(crops: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (N, 4) squares of the 160 pixels in the middle of those of 168."""
    pixel = (crops[:, 2:] - crops[:, :2]) / CROP
    return np.concatenate([crops[:, :2] + BORDER * pixel, crops[:, 2:] - BORDER * pixel], 1).astype(np.float64)


def rewritten_outline(points68: NDArray[np.floating], inner: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (N, P, 2) points around the lower face, all inside the masked rectangle."""
    pixel = (inner[:, None, 2:] - inner[:, None, :2]) / SIDE
    low = inner[:, None, :2] + pixel * np.array([MASK_COLUMNS.start, MASK_ROWS.start])
    high = inner[:, None, :2] + pixel * np.array([MASK_COLUMNS.stop, MASK_ROWS.stop])
    return np.clip(lower_face_outline(points68, _OUTWARD), low, high).astype(np.float64)


def box_track(track: FaceTrack) -> BoxTrack:
    """Place the boxes of an avatar."""
    points68 = ibug_points(track.points)
    inner = inner_boxes(face_boxes(points68))
    return BoxTrack.of(inner, rewritten_outline(points68, inner), patch_share(track.driving_weight))


def network_pictures(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Build the (N, 6, 160, 160) float32 input, 0 to 1, from (N, 160, 160, 3) uint8 BGR faces.

    The reference comes first, which is the frame itself as in inference.py, then the masked frame.
    """
    pictures = np.empty((len(faces), 6, SIDE, SIDE), np.float32)
    pictures[:, :3] = faces.transpose(0, 3, 1, 2)
    pictures[:, :3] /= 255
    pictures[:, 3:] = pictures[:, :3]
    pictures[:, 3:, MASK_ROWS, MASK_COLUMNS] = 0
    return pictures


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
        path = self._weights.path(self._kind)
        if self._kind == "hubert":
            from lipwright_engines_classic.ultralight.hubert import HubertAudioEncoder, load_hubert

            return HubertAudioEncoder(load_hubert(path, resources))
        from lipwright_engines_classic.ultralight.wenet import OnnxWenet, WenetAudioEncoder

        return WenetAudioEncoder(OnnxWenet(path, resources))

    def face_generator(self, resources: ComputeResources) -> FaceGenerator[BoxChunk]:
        # Imported here: the rest of the engine needs neither PyTorch nor onnxruntime.
        from lipwright_engines_classic.ultralight.generator import UltralightFaceGenerator, load_generator

        generator = load_generator(self._weights.path(GENERATOR), resources, self._options, self._kind)
        return UltralightFaceGenerator(generator, self._options)

    def plan_frames(
        self, features: UltralightFeatures, span: FrameSpan, source_index: NDArray[np.int32]
    ) -> UltralightPlan:
        """Combine source frames and audio features."""
        return UltralightPlan(span.first, source_index, features)

    def box_track(self, avatar: Avatar) -> BoxTrack:
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
