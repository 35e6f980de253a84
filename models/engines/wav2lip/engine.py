"""The Wav2Lip engine, and the input box of its network, placed by landmarks.

Training and the official script use the box of the S3FD detector, which was trained on WIDER FACE, whose annotators
drew boxes around forehead, chin and cheeks (Yang et al., 2016). The bounding box of the mesh's face oval is that box:
its topmost point lies at the hairline, its lowest at the chin. On the mean face it is .77 as wide as high, with the
eyes at 33 % of its height and the mouth at 73 %. S3FD's weights were not available for a comparison face by face.

The script adds 10 pixels below ("pads 0 10 0 0"), for faces about 200 pixels high: 5 % here, at any resolution.

A detector's box follows the chin while the source talks, and is smoothed over 5 frames to reduce noise. Here the box
is that of the talker's average face, placed by the tracked pose, which is smoothed over the whole track, so it moves
only with the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from models.engines.base import BoxEngine, read_options
from models.engines.paste.crop import BoxPlan, BoxTrack
from models.engines.paste.landmarks68 import FACE_OVAL, ibug_points, lower_face_outline
from models.engines.protocol import ComputeResources, EngineSettings, FrameSpan, WeightsSpec
from models.engines.wav2lip.audio import MelAudioEncoder, MelFeatures, plan_windows
from models.engines.wav2lip.options import Wav2LipOptions
from models.engines.wav2lip.weights import GENERATOR, GENERATOR_ROLE
from models.track.face_track import FaceTrack, patch_share

if TYPE_CHECKING:
    from models.avatar.avatar import Avatar
    from models.engines.wav2lip.generator import Wav2LipFaceGenerator


_PAD_BELOW: Final = 0.05  # of the box's height
_MIN_SIDE: Final = 8.0  # pixels of a box inside the frame; faces farther out are not rewritten anyway
# Of the outline's height: 5 % of the box. The feather is about as wide, so that the mask is nearly 1 at the jaw line.
_OUTWARD: Final = 0.13


def track_boxes(track: FaceTrack, width: int, height: int) -> BoxTrack:
    """Place the boxes of one avatar; they end at the edge of the width x height frame, as the official script's do."""
    shown = track.visible if track.visible.any() else np.ones(track.num_frames, np.bool_)
    usual = track.head_points[shown].mean(0, dtype=np.float64)  # (468, 3)
    frames = np.arange(track.num_frames)
    oval = _place(track, frames, usual[list(FACE_OVAL)])  # (N, 36, 2)
    low, high = oval.min(1), oval.max(1)
    high[:, 1] += _PAD_BELOW * (high[:, 1] - low[:, 1])
    boxes = _inside(np.concatenate([low, high], 1), width, height)
    # The rewritten area includes the frame's own jaw and the usual one, whichever is lower.
    own, placed = ibug_points(track.points), ibug_points(_place(track, frames, usual))
    outline = np.concatenate([lower_face_outline(points, _OUTWARD) for points in (own, placed)], 1)
    return BoxTrack.of(boxes, outline, patch_share(track.driving_weight))


def _place(track: FaceTrack, frames: NDArray[np.intp], head: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, P, 2) pixels of (P, 3) head-frame points that are the same in every frame."""
    return track.place(frames, np.broadcast_to(head, (len(frames), *head.shape)))


def _inside(boxes: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """(N, 4) boxes cut at the frame's edges, unless too little would be left."""
    limit = np.array([width, height, width, height], np.float32)
    clipped = boxes.clip(0, limit)
    sides = clipped[:, 2:] - clipped[:, :2]
    return np.where((sides >= _MIN_SIDE).all(1, keepdims=True), clipped, boxes)


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

    def live_audio_encoder(self, resources: ComputeResources) -> MelAudioEncoder:
        return MelAudioEncoder()

    def face_generator(self, resources: ComputeResources) -> Wav2LipFaceGenerator:
        # Imported here: the rest of the engine needs no PyTorch.
        from models.engines.wav2lip.generator import Wav2LipFaceGenerator, load_generator

        return Wav2LipFaceGenerator(
            load_generator(self._weights.path(GENERATOR), resources, self._options), self._options
        )

    def plan_frames(self, features: MelFeatures, span: FrameSpan, source_index: NDArray[np.int32]) -> BoxPlan:
        """Give each frame the mel window that drives it."""
        return plan_windows(features, span, source_index, self._options.mel_offset)

    def box_track(self, avatar: Avatar) -> BoxTrack:
        return track_boxes(avatar.track, avatar.info.width, avatar.info.height)

    def box_plan(self, plan: BoxPlan) -> tuple[BoxPlan, Mapping[str, NDArray[Any]]]:
        return plan, {}
