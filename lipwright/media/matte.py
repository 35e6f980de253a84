"""Mattes: grey H.264 videos in which luma is alpha, 0 to 255, and the persons they cut out of frames.

Pixels at an outline show both the person and what was behind: `I = alpha F + (1 - alpha) B`. F and B are estimated by
blurring the opaque and the transparent pixels around, widely and narrowly, and F is corrected by what the pixel itself
shows (Forte, "Approximate fast foreground colour estimation", 2021). Only pixels between opaque and transparent are
computed; all others are copied.

It is encoded in pieces, each of which starts with a keyframe. They are raw byte streams (Annex B of ITU-T H.264), so
that joining them is joining their bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple

import av
import cv2
import numpy as np
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from lipwright.errors import StoredFileError
from lipwright.media.frame_source import FrameSource
from lipwright.media.probe import ColourTags, VideoInfo
from lipwright.media.yuv_frame import RANGE_FULL, YuvFrame, plane_rows

_Index = NDArray[np.intp]

_ESTIMATE_SIDE: Final = 240  # longest side at which the colours of person and background are estimated
_WIDE, _NARROW = 1 / 8, 1 / 30  # sides of the two blurs, in longer sides of the frame
_CERTAIN: Final = 0.95  # alpha of the person, or of the background, above which a pixel shows only that
_ENOUGH, _LITTLE = 0.01, 1e-3  # mean weights within a blur


_KEPT: Final = 9  # side of the square, in chroma pixels, in which colours next to the person stay
_GREY: Final = 128  # in each plane


class ScreenColour(NamedTuple):
    """The chroma of a green or blue screen, 0 to 255."""

    u: float
    v: float


class Foreground:
    """The person in one frame.

    Attributes:
        planes: The frame, without the colours of its background where the person is partly transparent.
        alpha: (H, W) alpha, 0 to 255.
    """

    def __init__(self, frame: YuvFrame, alpha: NDArray[np.uint8], screen: ScreenColour | None = None) -> None:
        """Cut out the person; `screen` is the colour of the screen behind them, whose light on them is removed.

        Raises:
            ValueError: `alpha` has a different size.
        """
        if alpha.shape != frame.y.shape:
            raise ValueError(f"Expected alpha of shape {frame.y.shape}, got {alpha.shape = }.")
        height, width = alpha.shape
        half = np.asarray(cv2.resize(alpha, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)
        self.alpha = alpha
        self._alphas = (alpha, half, half)
        partly = _partly(alpha), _partly(half)
        self._partly = (partly[0], partly[1], partly[1])
        self.planes = self._clean(frame)
        if screen is not None:
            _remove_spill(self.planes, half, screen)

    def alone(self) -> YuvFrame:
        """Return the person on grey: players that ignore alpha, and thumbnails, must not show what was behind.

        Next to the person the colours stay, because compression and scaling mix them into the outline.
        """
        near = np.asarray(cv2.dilate(self._alphas[1], np.ones((_KEPT, _KEPT), np.uint8)), np.uint8)
        whole = cv2.resize(near, self.alpha.shape[::-1], interpolation=cv2.INTER_NEAREST)
        for plane, kept in zip(self.planes, (whole, near, near), strict=True):
            plane[kept == 0] = _GREY
        return self.planes

    def over(self, background: YuvFrame) -> YuvFrame:
        """Return the person in front of `background`, planes of the same size, range and matrix."""
        return YuvFrame(
            *(
                _blend(own, behind, alpha, partly)
                for own, behind, alpha, partly in zip(self.planes, background, self._alphas, self._partly, strict=True)
            )
        )

    def _clean(self, frame: YuvFrame) -> YuvFrame:
        planes = YuvFrame(*(plane.copy() for plane in frame))
        if not len(self._partly[0]):
            return planes
        size = _estimate_size(self.alpha)
        share = _shrunk(self.alpha, size).astype(np.float32) / np.float32(255)
        seen = [_shrunk(plane, size).astype(np.float32) for plane in frame]
        layers = zip(_estimate(seen, share), _estimate(seen, 1 - share), strict=True)
        for plane, alpha, partly, (own, behind) in zip(planes, self._alphas, self._partly, layers, strict=True):
            rows, columns = np.divmod(partly, plane.shape[1])
            here = rows * size[1] // plane.shape[0] * size[0] + columns * size[0] // plane.shape[1]
            colour, weight = own.ravel()[here], alpha.ravel()[partly].astype(np.float32) / 255
            rest = plane.ravel()[partly] - weight * colour - (1 - weight) * behind.ravel()[here]
            plane.ravel()[partly] = np.clip(np.rint(colour + weight * rest), 0, 255).astype(np.uint8)
        return planes


def _estimate_size(alpha: NDArray[np.uint8]) -> tuple[int, int]:
    """Return width and height at which colours are estimated."""
    height, width = alpha.shape
    step = -(-max(width, height) // _ESTIMATE_SIDE)
    return max(1, width // step), max(1, height // step)


def _partly(alpha: NDArray[np.uint8]) -> _Index:
    """Return the flat indices of pixels that are neither opaque nor transparent."""
    return np.flatnonzero(alpha - np.uint8(1) < 254)  # 0 becomes 255


def _blend(
    own: NDArray[np.uint8], behind: NDArray[np.uint8], alpha: NDArray[np.uint8], partly: _Index
) -> NDArray[np.uint8]:
    out = np.asarray(cv2.copyTo(own, (alpha == 255).view(np.uint8), behind.copy()), np.uint8)
    weight = alpha.ravel()[partly].astype(np.int32)
    below = behind.ravel()[partly].astype(np.int32)
    mixed = 255 * below + weight * (own.ravel()[partly] - below) + 127
    out.ravel()[partly] = (mixed // 255).astype(np.uint8)
    return out


def _shrunk(plane: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return means of some pixels of each cell; using all would take longer than everything else."""
    step = max(1, plane.shape[1] // (2 * size[0]))
    return np.asarray(cv2.resize(plane[::step, ::step], size, interpolation=cv2.INTER_AREA), np.uint8)


def _estimate(seen: Sequence[NDArray[np.float32]], weight: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the colour of the layer with (h, w) `weight`, 0 to 1, in each pixel of the (h, w) planes `seen`."""
    sides = [max(3, round(share * max(weight.shape)) | 1) for share in (_WIDE, _NARROW)]
    certain = np.maximum(weight - _CERTAIN, 0)
    # Without anything of the layer in reach, the pixel's own colour is the best estimate.
    total = cv2.blur(weight, (sides[0], sides[0])) + _LITTLE
    colours = [(cv2.blur(weight * plane, (sides[0], sides[0])) + _LITTLE * plane) / total for plane in seen]
    for side in sides:  # pixels nearby replace those farther away where they are enough
        total = cv2.blur(certain, (side, side))
        trust, total = np.minimum(total / _ENOUGH, 1), np.maximum(total, 1e-6)
        for colour, plane in zip(colours, seen, strict=True):
            colour += trust * (cv2.blur(certain * plane, (side, side)) / total - colour)
    return [np.asarray(colour, np.float32) for colour in colours]


_SPILL_REACH: Final = 1 / 40  # how far the light of a screen reaches onto the person, in longer sides of the frame


def _remove_spill(planes: YuvFrame, alpha: NDArray[np.uint8], screen: ScreenColour) -> None:
    """Remove the screen's colour from pixels near its edge, in place: their chroma is moved towards neutral."""
    towards = np.array([screen.u - 128, screen.v - 128], np.float32)
    towards /= max(float(np.hypot(*towards)), 1.0)
    side = max(3, round(_SPILL_REACH * max(alpha.shape)) | 1)
    near = np.flatnonzero(cv2.blur(255 - alpha, (side, side)))
    near = near[alpha.ravel()[near] > 0]
    u, v = (plane.ravel()[near].astype(np.float32) - 128 for plane in planes[1:])
    spill = np.maximum(u * towards[0] + v * towards[1], 0)
    for plane, own, share in zip(planes[1:], (u, v), towards, strict=True):
        plane.ravel()[near] = np.clip(np.rint(own - spill * share + 128), 0, 255).astype(np.uint8)


_CRF: Final = 18
_GOP_FRAMES: Final = 48
# Without B-frames, packets are in the order of their frames. `stitchable` as in `lipwright.media.writer`.
_X264_PARAMS: Final = "stitchable=1:open-gop=0:bframes=0"
# What compression adds to fully opaque and fully transparent pixels is removed: alpha up to this far from 0 and 255.
_SNAP: Final = 5
_LEVELS: Final = np.rint(np.clip((np.arange(256) - _SNAP) / (255 - 2 * _SNAP), 0, 1) * 255).astype(np.uint8)


def matte_info(info: VideoInfo) -> VideoInfo:
    """Return the description of the matte of a source: one frame for each of the source's, upright."""
    return replace(
        info,
        rotation=0,
        is_mirrored=False,
        is_variable_rate=False,
        colour=ColourTags(matrix=2, full_range=True, primaries=2, transfer=2),
        codec="h264",
        pixel_format="gray",
        has_audio=False,
        frozen_seconds=0.0,
    )


class MatteWriter:
    """Encodes consecutive alpha planes into one piece of a matte, in memory."""

    def __init__(self, info: VideoInfo, num_threads: int = 1) -> None:
        self._file = io.BytesIO()
        container = av.open(self._file, "w", format="h264")
        assert isinstance(container, OutputContainer)
        self._container = container
        options = {
            "crf": str(_CRF),
            "preset": "superfast",
            "g": str(_GOP_FRAMES),
            "x264-params": _X264_PARAMS,
        }
        self._stream = container.add_stream("libx264", rate=info.fps, options=options)
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = info.width, info.height, "gray"
        context.color_range, context.thread_count = RANGE_FULL, num_threads
        self._frame = VideoFrame(info.width, info.height, "gray")
        self._frame.color_range = RANGE_FULL
        self._num_frames = 0

    def write(self, alpha: NDArray[np.uint8]) -> None:
        """Encode one (H, W) alpha plane."""
        self._frame.make_writable()
        np.copyto(plane_rows(self._frame.planes[0])[:, : alpha.shape[1]], alpha)
        self._frame.pts = self._num_frames
        self._container.mux(self._stream.encode(self._frame))
        self._num_frames += 1

    def finish(self) -> bytes:
        """End the piece and return it."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._file.getvalue()


def join_mattes(pieces: Sequence[bytes], out: Path, fps: Fraction, num_frames: int) -> None:
    """Write the pieces of a matte, in order, as an MP4 file.

    Raises:
        StoredFileError: They have another number of frames than `num_frames`.
    """
    num_written = 0
    with av.open(io.BytesIO(b"".join(pieces)), format="h264") as source, av.open(str(out), "w", format="mp4") as target:
        assert isinstance(source, InputContainer) and isinstance(target, OutputContainer)
        read = source.streams.video[0]
        stream = target.add_stream_from_template(read)
        assert isinstance(stream, VideoStream)
        stream.time_base = 1 / fps
        for packet in source.demux(read):
            if not packet.size:
                continue
            packet.stream, packet.time_base = stream, 1 / fps
            packet.pts = packet.dts = num_written
            packet.duration = 1
            target.mux(packet)
            num_written += 1
    if num_written != num_frames:
        raise StoredFileError(f"Expected {num_frames} frames of a matte, found {num_written}.")


class MatteFrames:
    """The alpha planes of a matte, as luma of its frames; a `FrameSource` around the reader of its file."""

    def __init__(self, reader: FrameSource) -> None:
        self._reader = reader

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        """Yield frames with alpha as luma and neutral chroma; see `FrameSource.read`."""
        for frame in self._reader.read(indices):
            alpha = np.asarray(cv2.LUT(frame.y, _LEVELS), np.uint8)
            alpha.flags.writeable = False
            yield frame._replace(y=alpha)

    def close(self) -> None:
        """Close the reader; frames already returned stay valid."""
        self._reader.close()
