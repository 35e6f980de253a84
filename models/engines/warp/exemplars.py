"""The exemplar bank: images of the avatar's mouth in the frames of the source.

For every kept frame it stores the mouth shape, head pose, brightness, a thumbnail, and the region at native resolution.
The regions are in a memory-mapped file: loading a bank is free, and reading an exemplar is one contiguous read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.array_files import load_array, load_arrays
from lipwright.media.frame_source import FrameSource
from lipwright.media.yuv_frame import YuvFrame
from models.avatar.face_region import FaceRegion
from models.engines.warp.visible_gap import visible_gap
from models.geometry.arrays import sample_plane
from models.geometry.head_frame import INNER_LOWER, INNER_UPPER, MIDDLE_LOWER, MIDDLE_UPPER, MOUTH_MIDDLE
from models.mouth.shape import CHANNELS, CLOSED_SHARE, OPEN_MOUTH
from models.track.face_track import FaceTrack

# Scale of pose and brightness differences: exemplars that differ by more do not fit the frame.
POSE_DEGREES, LUMA_LEVELS = 12.0, 16.0
THUMB = 32  # side of a thumbnail in pixels
_THUMB_HALF_WIDTH, _THUMB_HALF_HEIGHT = 0.36, 0.30  # eye distances around the mouth
# Middle of a thumbnail: .19 eye distances above and below the middle of the lips and as much to either side.
_MIDDLE = (slice(6, 26), slice(8, 24))
_RUN_FRAMES = 50  # longer sources are sampled in runs of neighbouring frames, which make smooth paths
USUAL_BITE = 0.55
_BITE_SPREAD, _BITE_PRIOR = 0.4, 0.5
_BITE_SHARES = np.linspace(0.3, 1.0, 15)
_BITE_FRAMES = 5  # window of the median filter: jaws do not jump
_INDEX_FILE, _PATCHES_FILE = "bank.npz", "bank_patches.npy"

# The mouth that is held in silence.
_MIN_CLOSED: Final = 5
# Minimum sharpness relative to the median: a blurred mouth has little contrast as well.
_SHARP_SHARE: Final = 0.7
_CLOSED_BY: Final = [CHANNELS.index("open_in"), CHANNELS.index("open_out")]
_JAW: Final = CHANNELS.index("jaw")

# Similar shots.
_MAX_SCALE_RATIO = 1.35  # ratio of face sizes: a mouth enlarged more is blurred, one reduced more is too sharp
_MIN_CORRELATION = 0.8  # correlation of the mean thumbnails: shading, beard and light direction


@dataclass(frozen=True)
class ExemplarBank:
    """B exemplars."""

    frames: NDArray[np.int32]  # (B,) source frames, ascending
    shape: NDArray[np.float32]  # (B, 8) mouth shapes
    pose: NDArray[np.float32]  # (B, 3) degrees
    luma: NDArray[np.float32]  # (B,) mean Y around the mouth
    sharpness: NDArray[np.float32]  # (B,) Laplacian variance of the thumbnail
    # (B,) standard deviation of row brightness in the middle of the mouth, divided by the median
    bands: NDArray[np.float32]
    # (B,) where the jaws meet: darkest line between the lips, as a fraction of their gap from above
    bite: NDArray[np.float32]
    gap: NDArray[np.float32]  # (B,) height of what shows between the lips in eye distances (`visible_gap`)
    thumbs: NDArray[np.float32]  # (B, 1024) thumbnails with mean 0 and norm 1; their dot product is the correlation
    patches: NDArray[np.uint8]  # (B, R * R * 3 / 2) regions as consecutive Y, U, V
    region_size: int  # R

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def opening(self) -> NDArray[np.float32]:
        """(B,) how far the lips are apart in eye distances: by landmarks or by pixels (`gap`), whichever is larger."""
        return np.maximum(self.shape[:, 0], self.gap)

    def planes(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the (R, R) luma and (2, R / 2, R / 2) chroma of an exemplar, as views of the file."""
        size, half = self.region_size, self.region_size // 2
        flat = self.patches[row]
        return flat[: size * size].reshape(size, size), flat[size * size :].reshape(2, half, half)

    def nearest_row(self, frame: NDArray[np.integer]) -> NDArray[np.intp]:
        """Return the rows of the exemplars nearest in time to (T,) source frames."""
        after = np.searchsorted(self.frames, frame).clip(0, len(self.frames) - 1)
        before = (after - 1).clip(0)
        is_before = np.abs(self.frames[before] - frame) < np.abs(self.frames[after] - frame)
        return np.asarray(np.where(is_before, before, after))

    @classmethod
    def load(cls, folder: Path) -> ExemplarBank:
        """Load a bank written by `BankBuilder`; the patches stay on disk."""
        arrays = load_arrays(folder / _INDEX_FILE)
        size = int(arrays.pop("region_size"))
        return cls(**arrays, patches=load_array(folder / _PATCHES_FILE, "r"), region_size=size)


class BankBuilder:
    """Writes a bank of at most `max_frames` exemplars, frame by frame."""

    def __init__(self, folder: Path, track: FaceTrack, region: FaceRegion, max_frames: int) -> None:
        self._folder, self._track, self._region = folder, track, region
        self.frames = choose_frames(track.visible, max_frames)
        size = region.size
        self._patches = np.lib.format.open_memmap(
            folder / _PATCHES_FILE, "w+", np.uint8, (len(self.frames), size * size * 3 // 2)
        )
        self._thumbs = np.zeros((len(self.frames), THUMB * THUMB), np.float32)
        self._luma, self._sharpness, self._bands, self._bite, self._gap = (
            np.zeros(len(self.frames), np.float32) for _ in range(5)
        )
        self._next = 0

    def add(self, region: YuvFrame) -> None:
        """Add the region of the next frame of `frames`."""
        row, frame = self._next, int(self.frames[self._next])
        self._patches[row] = np.concatenate([plane.ravel() for plane in region])
        points = self._track.points[frame, :, :2] - self._region.origins[frame].astype(np.float32)
        thumb = self._thumb(region.y, frame)
        self._luma[row] = thumb.mean()
        self._sharpness[row] = cv2.Laplacian(thumb, cv2.CV_32F).var()
        middle = thumb[_MIDDLE] / max(float(np.median(thumb[_MIDDLE])), 1.0)
        self._bands[row] = middle.mean(1).std()
        self._bite[row], self._gap[row] = bite_line(region.y, points), visible_gap(region, points)
        centred = thumb - thumb.mean()
        self._thumbs[row] = (centred / max(float(np.linalg.norm(centred)), 1e-3)).ravel()
        self._next += 1

    def finish(self) -> None:
        """Write the index; the bank can then be loaded."""
        if self._next != len(self.frames):
            raise ValueError(f"Expected {len(self.frames)} frames, got {self._next}.")
        self._patches.flush()
        with (self._folder / _INDEX_FILE).open("wb") as file:
            np.savez(
                file,
                frames=self.frames,
                shape=self._track.shape[self.frames],
                pose=self._track.pose_degrees[self.frames],
                luma=self._luma,
                sharpness=self._sharpness,
                bands=self._bands,
                bite=_steady(self._bite, self.frames),
                gap=self._gap,
                thumbs=self._thumbs,
                region_size=self._region.size,
            )

    def _thumb(self, luma: NDArray[np.uint8], frame: int) -> NDArray[np.float32]:
        """Return the (32, 32) mouth in a head-fixed window."""
        middle = self._track.rest[list(MOUTH_MIDDLE)].mean(0)
        corners = middle + np.array([(-1, 1, 0), (1, 1, 0), (-1, -1, 0)]) * [_THUMB_HALF_WIDTH, _THUMB_HALF_HEIGHT, 0]
        placed = self._track.place(np.array([frame]), corners[None])[0] - self._region.origins[frame]
        window = cv2.getAffineTransform(
            placed.astype(np.float32), np.array([(0, 0), (THUMB, 0), (0, THUMB)], np.float32)
        )
        shrink = max(1, round(self._region.size / 96))  # warpAffine does not average, so shrink first
        small = cv2.resize(luma, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
        window[:, :2] *= shrink
        picture = cv2.warpAffine(small, window, (THUMB, THUMB), borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(picture, np.float32)


def choose_frames(present: NDArray[np.bool_], max_frames: int) -> NDArray[np.int32]:
    """Return the frames to keep: all with a face, or evenly spread runs if there are too many."""
    frames = np.flatnonzero(present).astype(np.int32)
    if len(frames) <= max_frames:
        return frames
    run = min(_RUN_FRAMES, max_frames)
    num_runs = max_frames // run
    starts = np.linspace(0, len(frames) - run, num_runs).astype(int)
    return frames[(starts[:, None] + np.arange(run)).ravel()]


def bite_line(luma: NDArray[np.uint8], points: NDArray[np.float32]) -> float:
    """Find where the jaws meet between the inner lips: the darkest line, with a prior at the usual position.

    `points` are (468, 2) landmarks in pixels. Return the fraction of the lip gap from above, .3 to 1.
    """
    return _darkest_line(luma, points)[0]


def measure_bite(track: FaceTrack, frames: FrameSource) -> float:
    """Find where the jaws meet in a source that does not talk: in its most open mouth.

    Return what `bite_line` does, but 1 if it is lighter than the lips: these are teeth, which move together.
    """
    opening = np.where(track.visible, track.shape[:, CHANNELS.index("open_in")], -np.inf)
    frame = int(opening.argmax())
    if opening[frame] <= OPEN_MOUTH:
        return USUAL_BITE
    (planes,) = frames.read([frame])
    points = track.points[frame, :, :2]
    bite, light = _darkest_line(planes.y, points)
    lips = sample_plane(planes.y, points[[*MIDDLE_UPPER[3:-3], *MIDDLE_LOWER[3:-3]]].astype(np.float64)).mean()
    return bite if light < lips else 1.0


def _darkest_line(luma: NDArray[np.uint8], points: NDArray[np.float32]) -> tuple[float, float]:
    """Return what `bite_line` returns, and the luma there."""
    upper, lower = (points[list(ids[2:-2])].astype(np.float64) for ids in (INNER_UPPER, INNER_LOWER))
    places = upper[:, None] + _BITE_SHARES[:, None] * (lower - upper)[:, None]  # (7, S, 2)
    profile = sample_plane(luma, places).mean(0, dtype=np.float64)
    light = (profile - profile.min()) / (np.ptp(profile) + 4)
    unusual = _BITE_PRIOR * ((_BITE_SHARES - USUAL_BITE) / _BITE_SPREAD) ** 2
    line = (light + unusual).argmin()
    return float(_BITE_SHARES[line]), float(profile[line])


def _steady(values: NDArray[np.float32], frames: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return medians over neighbouring source frames."""
    half = _BITE_FRAMES // 2
    near = (np.arange(len(values))[:, None] + np.arange(-half, half + 1)).clip(0, len(values) - 1)
    is_near = np.abs(frames[near] - frames[:, None]) <= half
    return np.asarray(np.nanmedian(np.where(is_near, values[near], np.nan), axis=1), np.float32)


def held_row(bank: ExemplarBank, is_allowed: NDArray[np.bool_] | None = None) -> int:
    """Return the exemplar to hold in silence.

    Exemplars measured as closed are more or less closed, and landmarks on nearly still lips jitter, so a path through
    them would keep the lips moving. Instead one exemplar is held in its own shape, and only the head moves it. Closed
    exemplars are those with the smallest lip gap and mouth height, as long as their lips are no farther apart than
    `OPEN_MOUTH` plus the smallest distance in all pictures, both by landmarks and by the pixels between them: many
    pictures of a smile show teeth. Of the sharp ones among them, the one with the most even brightness from lip to lip
    and the highest jaw is chosen (by the sum of ranks), because lips that close for a sound are stretched over a
    lowered jaw.

    An independent landmark network measures .006 eye distances on average between the lips of these mouths, and .015 at
    most (nine speakers in the wild, whole videos and their first halves, and six of the GRID corpus). Choosing by jaw
    alone gives .011 and .045; the median closed mouth gives .009 and .026.

    Args:
        bank: B > 0 exemplars.
        is_allowed: (B,) bool, with at least one allowed; None: all.
    """
    rows = np.arange(len(bank)) if is_allowed is None else np.flatnonzero(is_allowed)
    openness = bank.shape[rows][:, _CLOSED_BY]
    rank = _places(openness[:, 0]) + _places(openness[:, 1])
    is_open = bank.opening[rows] > bank.opening[rows].min() + OPEN_MOUTH
    num_closed = min(max(_MIN_CLOSED, round(CLOSED_SHARE * len(rows))), int((~is_open).sum()))
    closed = rows[np.lexsort((rank, is_open))[:num_closed]]
    is_sharp = bank.sharpness[closed] >= _SHARP_SHARE * np.median(bank.sharpness[closed])
    parted = _places(bank.bands[closed]) + _places(bank.shape[closed, _JAW])
    return int(closed[np.where(is_sharp, parted, np.inf).argmin()])


def _places(values: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return the rank of each value."""
    return values.argsort(kind="stable").argsort(kind="stable")


def forbidden_between_shots(bank: ExemplarBank, track: FaceTrack) -> NDArray[np.bool_]:
    """Return (S, B) bool: the exemplars that frames of each shot must not show.

    A frame may show exemplars of its own shot and of similar shots. Exemplars are matched to a frame by pose and
    brightness, but between shots camera, lighting and lens change as well, so a mouth from a different scene does not
    fit. Shots that only differ by a jump in time are the same scene.
    """
    num_shots = int(track.shot[-1]) + 1
    home = track.shot[bank.frames]  # (B,)
    allowed = home == np.arange(num_shots)[:, None]
    held = np.unique(home)
    rows = [np.flatnonzero(home == shot) for shot in held]
    thumbs = np.stack([_unit(bank.thumbs[own].mean(0)) for own in rows])
    luma = np.array([np.median(bank.luma[own]) for own in rows])
    pose = np.stack([np.median(bank.pose[own], 0) for own in rows])
    scale = np.array([np.median(np.log(track.scale[bank.frames[own]])) for own in rows])
    akin = (
        (thumbs @ thumbs.T > _MIN_CORRELATION)
        & (np.abs(luma[:, None] - luma) < LUMA_LEVELS)
        & (np.abs(pose[:, None] - pose).max(-1) < POSE_DEGREES)
        & (np.abs(scale[:, None] - scale) < np.log(_MAX_SCALE_RATIO))
    )
    for number, shot in enumerate(held):
        allowed[shot] |= np.isin(home, held[akin[number]])
    return np.asarray(~allowed)


def _unit(thumb: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(thumb / max(float(np.linalg.norm(thumb)), 1e-6))
