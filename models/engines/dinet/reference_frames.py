"""The five frames of an avatar that the original DINet takes the mouth's looks from.

The published script draws them at random, so two runs differ and all five may show the same mouth. Here they are chosen
once: from frames with a like pose, five whose mouths lie as far apart as possible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from media.frame_source import FrameSource
from media.probe import ColourTags
from media.yuv_frame import cut
from models.engines.box.box_track import BoxTrack
from models.engines.box.picture import region_rgb
from models.engines.dinet.crop_layout import CropLayout

if TYPE_CHECKING:
    from models.track.face_track import FaceTrack

NUM_REFERENCES: Final = 5
REFERENCES: Final = "references"
"""Name of their crops among a chunk's `extra`: (5, 416, 320, 3) uint8 RGB."""

# Heads turned by less are alike; otherwise the less turned half is.
_ALIKE_DEGREES: Final = 5.0


def choose_references(track: FaceTrack) -> NDArray[np.int64]:
    """Choose frames; the same track gives the same frames.

    Args:
        track: The avatar, with the face in at least one frame.

    Returns:
        (5,) ascending source frames; some more than once where there are fewer.
    """
    candidates = np.flatnonzero(track.present & (track.trust >= 1))
    if len(candidates) < NUM_REFERENCES:
        candidates = np.flatnonzero(track.present)
    pose = track.pose_degrees[candidates]
    turned = np.linalg.norm(pose - np.median(pose, 0), axis=1)
    enough = np.sort(turned)[min(NUM_REFERENCES, len(turned)) - 1]
    alike = candidates[turned <= max(_ALIKE_DEGREES, float(np.median(turned)), float(enough))]
    shape = track.shape[alike]
    chosen = [int(np.argmin(shape[:, 0]))]  # the most closed
    distance = np.linalg.norm(shape - shape[chosen[0]], axis=1)
    while len(chosen) < min(NUM_REFERENCES, len(alike)):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(shape - shape[chosen[-1]], axis=1))
        distance[chosen] = -1
    return np.resize(np.sort(alike[chosen]), NUM_REFERENCES)


def read_references(
    chosen: NDArray[np.integer], track: BoxTrack, frames: FrameSource, colour: ColourTags, layout: CropLayout
) -> NDArray[np.uint8]:
    """Read the crops of the chosen frames.

    Args:
        chosen: (5,) source frames.
        track: Where the crop lies in each.
        frames: Reads the source's frames.
        colour: The source's tags.
        layout: What the crop is resized to.

    Returns:
        (5, height, width, 3) uint8 RGB.
    """
    pictures = []
    for frame, planes in zip(chosen, frames.read(chosen.tolist()), strict=True):
        region = cut(planes, int(track.origins[frame, 0]), int(track.origins[frame, 1]), track.size)
        pictures.append(region_rgb(region, colour, track.boxes[frame], layout.size, layout.interpolation))
    return np.stack(pictures)
