"""Fits clips to the avatar's own video: length, frame rate, size, colours, and the size of the face."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.errors import OptionError
from lipwright.media.frame_source import FrameSource
from lipwright.media.output.backdrop import fitted
from lipwright.media.playback import Playback
from lipwright.media.probe import VideoInfo
from lipwright.media.yuv_frame import YuvFrame
from models.clips.graph import OWN
from models.track.face_track import FaceTrack
from models.track.raw_landmarks import SkipReason

MIN_SECONDS: Final = 1.0
MAX_SECONDS: Final = 60.0
_MIN_FRAMES: Final = 12
MAX_OWN_SECONDS: Final = 300.0
"""What is used of the avatar's own video."""
_MIN_SEEN: Final = 0.5
"""Share of the frames of a clip in which the face is seen."""
_SAME_SIZE: Final = 1.15
"""Ratio of the sizes of two faces up to which the whole picture of a clip is shown."""
_MAX_ZOOM: Final = 2.0
_MAX_LARGER: Final = 1.5
_MAX_SHIFT: Final = 0.1
"""Share of the height of the picture by which a clip is moved at most."""
_APART: Final = 2.0
"""How far apart two places of a person are if a clip is moved, in the sum of how far it moves around each."""
_BETTER: Final = 0.9
"""Ratio to which moving a clip must reduce its difference to the avatar's own video."""
_ECC_STOP: Final = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-4)
_EDGE: Final = 4  # pixels at the edges of frames, often black, that are not shown in moved clips
_NUM_COMPARED, _COMPARED_WIDTH = 8, 320


class _Crop(NamedTuple):
    """The part of a clip's frames that is shown, in pixels, all even, and its size in the composite."""

    x: int
    y: int
    width: int
    height: int
    shown: tuple[int, int]

    def cut(self, frame: YuvFrame) -> YuvFrame:
        parts = []
        for plane, step in zip(frame, (1, 2, 2), strict=True):
            x, y = self.x // step, self.y // step
            parts.append(plane[y : y + self.height // step, x : x + self.width // step])
        return YuvFrame(*parts)

    def place(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert (..., 2) pixels of the clip to pixels of the composite."""
        factor = np.array([self.shown[0] / self.width, self.shown[1] / self.height])
        return np.asarray((points - [self.x, self.y] + 0.5) * factor - 0.5, np.float32)


@dataclass(frozen=True)
class FittedClip:
    """A clip as the composite shows it, N frames.

    Attributes:
        points: (N, 468, 2) landmarks in pixels.
        eyes: Pixels per eye distance in the middle of the clip, by height.
        is_seen: (N,) whether the face is seen.
        shot: (N,) number of the shot.
    """

    points: NDArray[np.float32]
    eyes: float
    is_seen: NDArray[np.bool_]
    shot: NDArray[np.int32]
    _rows: NDArray[np.int32]
    _crop: _Crop
    _info: VideoInfo
    _shown: VideoInfo
    _move: NDArray[np.float64] | None = None  # (2, 3) affine map of pixels

    def frames(self, reader: FrameSource) -> Iterator[YuvFrame]:
        """Yield the frames, given those of the clip."""
        yield from self._frames(reader, self._rows)

    def aligned(self, reader: FrameSource, own: FittedClip, own_reader: FrameSource) -> FittedClip:
        """Return the clip, its pictures moved so that they cover those of the avatar's own video best.

        Aligns pictures of people in front of a plain background by head and shoulders, others by the background. A clip
        in which the person is about where it is in the avatar's own video is not moved.
        """
        here, there = (clip.points.mean(1) for clip in (self, own))
        spread = sum(float(np.sqrt(places.var(0).sum())) for places in (here, there))
        if float(np.linalg.norm(here.mean(0) - there.mean(0))) < _APART * spread:
            return self
        target, picture = own._mean_picture(own_reader), self._mean_picture(reader)
        try:
            _, back = cv2.findTransformECC(  # type: ignore[call-overload]
                target, picture, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, _ECC_STOP, None, 5
            )
        except cv2.error:  # nothing in common
            return self
        covering = cv2.warpAffine(
            picture,
            back,
            target.shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        before, after = (float(((each - target) ** 2).mean()) for each in (picture, covering))
        move, factor = cv2.invertAffineTransform(back), self._shown.width / target.shape[1]
        move[:, 2] = factor * move[:, 2] + (factor - 1) / 2 * (1 - move[:, :2].sum(1))
        corners = np.array([[0, 0], [self._shown.width, 0], [0, self._shown.height]], np.float64)
        is_far = np.abs(_transform(move, corners) - corners).max() > _MAX_SHIFT * self._shown.height
        if is_far or after >= _BETTER**2 * before:
            return self
        return replace(self, points=_transform(move, self.points), _move=move)

    @property
    def margin(self) -> float:
        """Share of a side of the picture that moving the clip has left empty, at most."""
        if self._move is None:
            return 0.0
        size = np.array([self._shown.width, self._shown.height], np.float64)
        first, last = np.full(2, float(_EDGE)), size - 1 - _EDGE
        corners = _transform(self._move, np.array([first, (last[0], first[1]), (first[0], last[1]), last]))
        (a, b, c, d), (width, height) = corners, size
        inner = max(a[0], c[0]) / width, max(a[1], b[1]) / height
        outer = 1 - min(b[0], d[0]) / width, 1 - min(c[1], d[1]) / height
        return float(max(0.0, *inner, *outer))

    def enlarged(self, margin: float) -> FittedClip:
        """Return the clip without a margin of its picture, a share of each side."""
        zoom = 1 / (1 - 2 * margin)
        centre = np.array([self._shown.width - 1, self._shown.height - 1]) / 2
        enlarge = np.c_[np.eye(2) * zoom, centre * (1 - zoom)]
        move = np.eye(2, 3) if self._move is None else self._move
        both = np.c_[zoom * move[:, :2], zoom * move[:, 2] + enlarge[:, 2]]
        return replace(self, points=_transform(enlarge, self.points), eyes=self.eyes * zoom, _move=both)

    def _mean_picture(self, reader: FrameSource) -> NDArray[np.float32]:
        """Return the small mean luma of frames from all over the clip."""
        rows = self._rows[np.linspace(0, len(self._rows) - 1, _NUM_COMPARED).astype(int)]
        factor = max(1.0, self._shown.width / _COMPARED_WIDTH)
        size = round(self._shown.width / factor), round(self._shown.height / factor)
        pictures = (cv2.resize(frame.y, size, interpolation=cv2.INTER_AREA) for frame in self._frames(reader, rows))
        return np.asarray(np.mean(list(pictures), axis=0), np.float32)

    def _frames(self, reader: FrameSource, rows: NDArray[np.int32]) -> Iterator[YuvFrame]:
        shape = self._shown.height, self._shown.width
        for frame in reader.read(rows.tolist()):
            shown = fitted(self._crop.cut(frame), self._info, shape, self._shown.colour)
            yield shown if self._move is None else _moved(shown, self._move)


def _transform(move: NDArray[np.float64], points: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(points @ move[:, :2].T + move[:, 2], np.float32)


def _moved(frame: YuvFrame, move: NDArray[np.float64]) -> YuvFrame:
    """Return a frame that has moved; its edges, which `enlarged` hides, repeat."""
    planes = []
    for plane, step in zip(frame, (1, 2, 2), strict=True):
        edge = _EDGE // step
        inner = plane[edge:-edge, edge:-edge]
        # The centre of a chroma sample is that of the luma pixels it covers.
        centre = np.full(2, (step - 1) / 2)
        shift = (move[:, :2] @ (centre + _EDGE) + move[:, 2] - centre) / step
        matrix = np.c_[move[:, :2], shift]
        size = plane.shape[1], plane.shape[0]
        planes.append(cv2.warpAffine(inner, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
    return YuvFrame(*(np.asarray(plane, np.uint8) for plane in planes))


def fit_clip(name: str, info: VideoInfo, track: FaceTrack, shown: VideoInfo, own: FaceTrack) -> FittedClip:
    """Fit a clip to the avatar's own video, which `shown` and `own` describe.

    A clip of other proportions is cropped. If the face is as large in both, the rest of the picture is kept as it is;
    a smaller face is enlarged and moved to where it is in the avatar's own video.

    Raises:
        OptionError: The clip is too short or too long, does not show the face, or shows it too large or too small.
    """
    rows = _rows(name, info, shown)
    is_seen = track.skip_reason == SkipReason.NONE
    if is_seen[rows].mean() < _MIN_SEEN and name != OWN:
        raise OptionError(
            f"Clip {name!r}: the face is seen in {is_seen[rows].mean():.0%} of the frames; expected at least "
            f"{_MIN_SEEN:.0%}. Send a clip in which it is not turned away or covered."
        )
    # Pixels of the composite may not be square, either.
    aspect = info.sample_aspect_ratio / shown.sample_aspect_ratio
    crop = _crop(name, replace(info, sample_aspect_ratio=aspect), track, shown, own)
    return FittedClip(
        points=crop.place(track.points[rows, :, :2]),
        eyes=float(np.median(track.scale[rows])) * crop.shown[1] / crop.height,
        is_seen=is_seen[rows],
        shot=track.shot[rows],
        _rows=rows,
        _crop=crop,
        _info=replace(info, sample_aspect_ratio=aspect),
        _shown=shown,
    )


def _rows(name: str, info: VideoInfo, shown: VideoInfo) -> NDArray[np.int32]:
    """Return the frames of a clip, at the rate of the composite."""
    seconds = info.duration_seconds
    num = round(min(seconds, MAX_OWN_SECONDS) * float(shown.fps))
    if num < _MIN_FRAMES or seconds < MIN_SECONDS or (seconds > MAX_SECONDS and name != OWN):
        raise OptionError(
            f"{f'Clip {name!r}' if name else 'The video of the avatar'}: expected a video of {MIN_SECONDS:g} to "
            f"{MAX_SECONDS:g} s and at least {_MIN_FRAMES} frames, found {seconds:.1f} s."
        )
    return Playback("hold", float(info.fps / shown.fps)).source_frames(range(num), info.num_frames)


def _crop(name: str, info: VideoInfo, track: FaceTrack, shown: VideoInfo, own: FaceTrack) -> _Crop:
    aspect = float(info.sample_aspect_ratio)
    cover = max(shown.width / (info.width * aspect), shown.height / info.height)
    ratio = float(np.median(own.scale) / np.median(track.scale)) / cover
    if not 1 / _MAX_LARGER <= ratio <= _MAX_ZOOM:
        raise OptionError(
            f"Clip {name!r}: the face is {1 / ratio:.2g} times as large as in the avatar's own video; expected "
            f"{1 / _MAX_ZOOM:.2g} to {_MAX_LARGER:.2g} times. Film both from the same distance."
        )
    zoom = cover * (ratio if ratio > _SAME_SIZE else 1.0)
    width = min(info.width, 2 * round(shown.width / zoom / aspect / 2))
    height = min(info.height, 2 * round(shown.height / zoom / 2))
    x, y = (info.width - width) / 2, (info.height - height) / 2
    if zoom > cover:
        there, here = (np.median(each.points[..., :2], (0, 1)) for each in (own, track))
        x = here[0] - there[0] * width / shown.width
        y = here[1] - there[1] * height / shown.height
    left, top = np.clip([x, y], 0, [info.width - width, info.height - height])
    return _Crop(int(left) // 2 * 2, int(top) // 2 * 2, width, height, (shown.width, shown.height))
