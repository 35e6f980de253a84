"""The MuseTalk engine, the box of a face that it generates, and the part of it that is pasted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from models.engines.base import BoxEngine, read_options
from models.engines.musetalk.options import MuseTalkOptions
from models.engines.musetalk.plan import MuseTalkPlan, WhisperFeatures
from models.engines.musetalk.weights import ROLES
from models.engines.paste.crop import BoxPlan, BoxTrack
from models.engines.paste.landmarks68 import FACE_OVAL, ibug_points
from models.engines.protocol import ComputeResources, EngineSettings, FrameSpan, WeightsSpec
from models.track.face_track import FaceTrack, patch_share

if TYPE_CHECKING:
    from models.avatar.avatar import Avatar
    from models.engines.musetalk.audio import WhisperAudioEncoder
    from models.engines.musetalk.generator import MuseTalkFaceGenerator


PICTURE_SIZE: Final = 256

_NASION, _TIP = 27, 30  # of the 68
# Version 1.5 adds 10 pixels below the chin for any size of the face (scripts/inference.py, `extra_margin`). Its
# training crops are about as large as the network's picture, so here they are 10 of the picture's 256: the same share
# of a face in 4K as in a thumbnail.
_CHIN_MARGIN: Final = {"1.5": 10.0, "1": 0.0}
# The outline of the face lies on its edge, and a dropping jaw reaches beyond it: each point is moved out by this share
# of its way from the middle.
_OUTWARD: Final = 0.08
_MIN_HALF: Final = 1.0  # pixel; a head that lies on its side may have no chin below its nose
# From ear to ear below the eyes; the points above the middle are moved down to it.
_FROM_EAR, _TO_EAR = FACE_OVAL.index(454), FACE_OVAL.index(234)
_JAW: Final = FACE_OVAL[_FROM_EAR : _TO_EAR + 1]


def box_track(track: FaceTrack, options: MuseTalkOptions) -> BoxTrack:
    """Place the box in every source frame."""
    boxes = face_boxes(track.points, options)
    return BoxTrack.of(boxes, jaw_outline(track.points, boxes), patch_share(track.driving_weight))


def face_boxes(points: NDArray[np.floating], options: MuseTalkOptions) -> NDArray[np.float32]:
    """Compute the boxes of (N, 468, 3) landmarks.

    As in musetalk/utils/preprocessing.py, the box is as wide as the 68 points; point 29, on the bridge of the nose,
    stands in the middle between the top and the lowest point. Of four points evenly along the bridge 29 is the third,
    so it is placed two thirds of the way from 27 to 30; the mesh has none there (5, which lists name, lies lower by 3 %
    of the way to the chin, and the middle of the box with it). A box that begins above the frame is not cut off there,
    which would move the middle: the frame's edge is repeated.

    Returns:
        (N, 4) float32 x0, y0, x1, y1 in frame pixels.
    """
    marks = ibug_points(points)  # (N, 68, 2)
    low, high = marks.min(1), marks.max(1)
    middle = marks[:, _NASION, 1] + (marks[:, _TIP, 1] - marks[:, _NASION, 1]) * 2 / 3
    half = np.maximum(high[:, 1] - middle, _MIN_HALF)
    # Shift and margin are given in pixels of the picture that the box becomes.
    pixel = 2 * half / PICTURE_SIZE
    shift = options.bbox_shift * pixel
    middle, half = middle + shift, np.maximum(half - shift, _MIN_HALF)
    bottom = high[:, 1] + _CHIN_MARGIN[options.model] * pixel
    right = np.maximum(high[:, 0], low[:, 0] + 2 * _MIN_HALF)
    return np.stack([low[:, 0], middle - half, right, bottom], 1).astype(np.float32)


def jaw_outline(points: NDArray[np.floating], boxes: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return (N, 21, 2) float32 points around the part of faces that is generated: the jaw, below the box's middle.

    The published code asks a face parser for skin and takes the lower half of that (musetalk/utils/blending.py); the
    (N, 468, 3) landmarks know the edge of the face without another network. `boxes` are those of `face_boxes`.
    """
    jaw = points[:, list(_JAW), :2]
    middle = (jaw.min(1, keepdims=True) + jaw.max(1, keepdims=True)) / 2
    outline = np.asarray(middle + (jaw - middle) * (1 + _OUTWARD), np.float32)
    # The rows from the middle of the picture down are black in the input of the network.
    outline[..., 1] = np.maximum(outline[..., 1], boxes[:, [1, 3]].mean(1, keepdims=True))
    return outline


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
        from models.engines.musetalk.audio import WhisperAudioEncoder, load_encoder

        return WhisperAudioEncoder(load_encoder(self._weights, resources))

    def live_audio_encoder(self, resources: ComputeResources) -> WhisperAudioEncoder:
        return self.audio_encoder(resources)

    def face_generator(self, resources: ComputeResources) -> MuseTalkFaceGenerator:
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
        return BoxPlan(plan.first_frame, plan.source_index, plan.features()), {}
