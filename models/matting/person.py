"""Segments people in a frame, at a low resolution.

Network: `person_segmentation.onnx` (Apache-2.0, Google; the selfie segmentation of MediaPipe, a MobileNetV3 with a
small decoder). It takes the whole picture squeezed to a square, as MediaPipe's own graph does.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from media.probe import ColourTags
from media.yuv_frame import YuvFrame, to_rgb
from models.weights import weights_path
from models.weights.onnx_session import Device, make_session

SIDE: Final = 256
"""Height and width of the segmentation."""


class PersonSegmenter:
    """The segmentation network."""

    def __init__(self, num_threads: int, device: Device = "cpu") -> None:
        self._session = make_session(weights_path("person_segmentation.onnx"), num_threads=num_threads, device=device)

    def __call__(self, frame: YuvFrame, colour: ColourTags) -> NDArray[np.float32]:
        """Returns the (256, 256) probability, 0 to 1, that a part of the frame shows a person."""
        half = SIDE // 2
        small = YuvFrame(
            *(
                cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA)
                for plane, side in zip(frame, (SIDE, half, half), strict=True)
            )
        )
        picture = to_rgb(small, colour).astype(np.float32)[None] / 255
        (found,) = self._session.run(None, {"picture": picture})
        return np.asarray(found[0, :, :, 0], np.float32)
