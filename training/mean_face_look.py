"""Makes `weights/mean_face_look.npy`: `python -m training.mean_face_look CLIP ... OUT`.

The mean over the clips of the mean raw appearance of some frames of each: what the faces of all people have in common.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.errors import FaceNotFoundError
from lipwright.media.probe import probe_video
from lipwright.media.reader import FrameReader
from models.face.appearance import raw_appearance
from models.face.choice import FaceChoice
from models.face.finder import FaceFinder

_NUM_FRAMES = 8
_CACHE_BYTES = 2**26


def appearance_of_clip(clip: Path, finder: FaceFinder) -> NDArray[np.float32]:
    """Returns the (240,) mean raw appearance of the largest face in a few frames of a clip."""
    info = probe_video(clip, MediaLimits())
    wanted = np.unique(np.linspace(0, info.num_frames - 1, _NUM_FRAMES).astype(int)).tolist()
    appearances = []
    with FrameReader(clip, info, _CACHE_BYTES) as reader:
        for frame in reader.read(wanted):
            face, _ = finder.find(frame, info.colour, FaceChoice())
            if face is not None:
                appearances.append(raw_appearance(frame, face.points))
    if not appearances:
        raise FaceNotFoundError(f"Expected a face in {clip.name}, found none.")
    return np.asarray(np.mean(appearances, 0), np.float32)


def main() -> None:
    """Reads the clips named on the command line and writes the last name."""
    *clips, out = (Path(argument) for argument in sys.argv[1:])
    finder = FaceFinder(num_threads=1, device="cpu")
    mean = np.mean([appearance_of_clip(clip, finder) for clip in clips], 0)
    with out.open("wb") as file:
        np.save(file, mean.astype(np.float32))


if __name__ == "__main__":
    main()
