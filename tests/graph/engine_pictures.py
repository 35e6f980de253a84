"""What an engine changed in the pictures of the sample avatar."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from lipwright.media.playback import Playback
from models.engines.weights.store import WeightsStore
from models.track.face_track import FaceTrack
from tests.random_weights.restoration import save_restoration
from tests.random_weights.wav2lip import save_wav2lip, save_wav2lip_onnx

FRAMES = {"wav2lip": 26, "wav2lip:onnx": 10, "wav2lip+restoration": 10}
"""The engines, variants and steps on top, and how many frames each is asked for: few of the slow ones."""


def bring_weights(store: WeightsStore, folder: Path) -> None:
    """Add weights for all of `FRAMES` to a store; the files are made in `folder`."""
    files = {
        "wav2lip": (save_wav2lip(folder / "wav2lip.pth"),),
        "wav2lip:onnx": (save_wav2lip_onnx(folder / "wav2lip.onnx"),),
        "restoration": (save_restoration(folder / "GFPGANv1.4.onnx"),),
    }
    add_files(store, files)


def add_files(store: WeightsStore, files: Mapping[str, tuple[Path, ...]]) -> None:
    """Move the files of each engine or variant into a store."""
    for name, paths in files.items():
        engine, _, variant = name.partition(":")
        for path in paths:
            store.add(path, engine, variant or None)
            path.unlink()


_INNER_LIPS = (13, 14)  # of the face mesh: the middles of the upper and the lower lip


def planes_of(video: bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(T, H, W) luma and (T, 2, H / 2, W / 2) chroma of all frames."""
    with av.open(io.BytesIO(video), "r") as container:
        frames = [np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8) for frame in container.decode(video=0)]
    height, width = frames[0].shape[0] * 2 // 3, frames[0].shape[1]
    colour = [frame[height:].reshape(2, height // 2, width // 2) for frame in frames]
    return np.stack([frame[:height] for frame in frames]), np.stack(colour)


@dataclass(frozen=True)
class Change:
    """Where the frames of a result are not those of its source.

    Attributes:
        num_outside: Values, luma and chroma, that differ outside of the box around the face.
        mouth: (T,) mean difference of luma in a square around the mouth.
    """

    num_outside: int
    mouth: NDArray[np.float64]


def change(source: bytes, result: bytes, track: FaceTrack) -> Change:
    """Compare a lossless result with what the source shows, frame by frame, as it plays forth and back."""
    shown, own = planes_of(result), planes_of(source)
    index = Playback().source_frames(range(len(shown[0])), track.num_frames)
    light = np.abs(shown[0].astype(np.int16) - own[0][index])
    colour = np.abs(shown[1].astype(np.int16) - own[1][index]).max(1)
    num_outside, mouth = 0, []
    for frame, points in enumerate(track.points[index, :, :2]):
        (x0, y0), (x1, y1) = points.min(0), points.max(0)
        margin = 0.3 * (y1 - y0)  # engines take a little more than the face, none this much
        left, top, right, bottom = (int(v / 2) * 2 for v in (x0 - margin, y0 - margin, x1 + margin, y1 + margin))
        assert left > 0 and top > 0 and right < light.shape[2] and bottom < light.shape[1], "else it shows nothing"
        x, y = points[list(_INNER_LIPS)].mean(0).astype(int)
        radius = int(margin / 4)
        mouth.append(light[frame, y - radius : y + radius, x - radius : x + radius].mean())
        light[frame, top:bottom, left:right] = 0
        colour[frame, top // 2 : bottom // 2, left // 2 : right // 2] = 0
        num_outside += int(np.count_nonzero(light[frame])) + int(np.count_nonzero(colour[frame]))
    return Change(num_outside, np.array(mouth))


def track_of(avatar: Path) -> FaceTrack:
    """The track in the folder of an avatar."""
    return FaceTrack.load(avatar / "track.npz")
