"""Makes the matte of a source, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import StoredFileError
from lipwright.media.array_files import load_arrays, save_arrays
from lipwright.media.matte import ScreenColour
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame
from models.matting.person import Head, Heads, PersonSegmenter
from models.matting.refine import MatteHistory, refine, stabilised
from models.matting.report import certainty, uncertain_ranges
from models.matting.screen import find_screen, key
from models.track.face_track import FaceTrack
from models.track.shots import SceneHistory


class MatteFrame(NamedTuple):
    """The matte of one frame."""

    alpha: NDArray[np.uint8]  # (H, W)
    history: MatteHistory  # what that of the next frame depends on


@dataclass(frozen=True)
class MattePiece:
    """The finished matte of T consecutive frames, and what the next piece depends on."""

    video: NDArray[np.uint8]  # bytes of `lipwright.media.matte.MatteWriter`
    shares: NDArray[np.float32]  # (T, 2) `models.matting.report.certainty`
    presence: NDArray[np.float32]  # sum over the frames of `models.matting.report.presence`
    coarse: NDArray[np.float16]  # (h, w) of the last frame, as the following
    luma: NDArray[np.uint8]  # (h, w)
    scene: NDArray[np.uint8]  # (864,)
    changes: NDArray[np.float64]  # (C,)

    @classmethod
    def of(
        cls,
        video: bytes,
        shares: Sequence[tuple[float, float]],
        presence: NDArray[np.float32],
        last: MatteHistory,
    ) -> Self:
        """Return the piece that ends with the frame of `last`."""
        return cls(
            np.frombuffer(video, np.uint8),
            np.array(shares, np.float32).reshape(-1, 2),
            presence,
            last.coarse.astype(np.float16),
            np.rint(last.luma).astype(np.uint8),
            last.scenes.scene,
            np.array(last.scenes.changes, np.float64),
        )

    @property
    def history(self) -> MatteHistory:
        """What the matte of the frame after this piece depends on."""
        scenes = SceneHistory(self.scene, changes=tuple(self.changes.tolist()))
        return MatteHistory(self.coarse.astype(np.float32), self.luma.astype(np.float32), scenes)

    def save(self, path: Path) -> None:
        """Write the piece as an .npz."""
        save_arrays(path, self)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            StoredFileError: The file is damaged.
        """
        try:
            return cls(**load_arrays(path))
        except (OSError, ValueError, TypeError, BadZipFile) as error:
            raise StoredFileError(f"{path.name}: this piece of a matte is damaged.") from error


class MatteGenerator:
    """Makes mattes with a segmentation network, and keys screens."""

    def __init__(self, segmenter: PersonSegmenter) -> None:
        self._segmenter = segmenter

    def cut_out(self, still: YuvFrame, colour: ColourTags, track: FaceTrack) -> NDArray[np.uint8] | None:
        """Return the (H, W) alpha of a still, given its one-frame track; None if it is uncertain."""
        (frame,) = self.mattes([still], colour, None, [Heads.of(track).at(0)], None)
        shares = np.array([shares_of(frame, None)], np.float32)
        return None if uncertain_ranges(shares, Fraction(1)) else frame.alpha

    def find_screen(
        self, frames: Sequence[YuvFrame], colour: ColourTags, *, is_expected: bool = False
    ) -> ScreenColour | None:
        """Return the screen behind the person in frames of a source; see `models.matting.screen.find_screen`."""
        people = [self._segmenter(frame, colour) for frame in frames]
        return find_screen(frames, people, is_expected=is_expected)

    def mattes(
        self,
        frames: Iterable[YuvFrame],
        colour: ColourTags,
        screen: ScreenColour | None,
        heads: Iterable[Head | None],
        history: MatteHistory | None,
    ) -> Iterator[MatteFrame]:
        """Yield the mattes of consecutive frames.

        Args:
            frames: The frames.
            colour: Their colour tags.
            screen: The screen that is keyed; None: people are segmented.
            heads: The head in each of the frames, if it is known.
            history: After the frame before; None at the first frame of a source.
        """
        for frame, head in zip(frames, heads, strict=True):
            history = stabilised(frame, self._segmenter(frame, colour, head), history)
            coarse = history.coarse
            yield MatteFrame(refine(frame, coarse) if screen is None else key(frame, screen, coarse), history)


def shares_of(frame: MatteFrame, screen: ScreenColour | None) -> tuple[float, float]:
    """Return the `certainty` of a frame; that of a keyed one does not depend on the segmentation."""
    return certainty(frame.history.coarse if screen is None else frame.alpha.astype(np.float32) / np.float32(255))
