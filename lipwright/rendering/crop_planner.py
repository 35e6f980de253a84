"""Plans the path of a crop that follows the faces of a job."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lipwright.jobs.messages import CropRequest
from lipwright.media.output.crop_path import PAN_SECONDS, crop_path
from lipwright.rendering.avatar_cache import AvatarCache
from models.avatar.folder import VersionedEngine
from models.track.face_boxes import face_boxes


def plan_crop(avatars: AvatarCache, engine: VersionedEngine, request: CropRequest) -> NDArray[np.float32]:
    """Return the (T, 2) left and upper edges of a crop, see `lipwright.media.output.crop_path`; blocks.

    Raises:
        StoredFileError: A face is gone or damaged.
    """
    tracks = []
    for avatar in request.avatars:
        cached = avatars.take(avatar.folder, engine)
        tracks.append(cached.avatar.track)
        avatars.put(cached)
    source, picture = request.source, request.picture
    fps = float(picture.info.fps)
    min_frames = round(PAN_SECONDS * fps)
    boxes = face_boxes(tracks, request.speaker, request.source_index, is_still=source.is_still, min_frames=min_frames)
    crop = picture.framing.crop_width, picture.framing.crop_height
    return crop_path(boxes, (source.width, source.height), crop, fps)
