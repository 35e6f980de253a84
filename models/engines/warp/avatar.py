"""The warp engine's analysis of an avatar: mouth exemplars, eye whites and mouth calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError
from lipwright.media.array_files import load_arrays
from lipwright.media.kept_squares import SquareReader
from lipwright.media.probe import VideoInfo
from models.avatar.avatar import Avatar
from models.avatar.eye_white import EyeWhite, measure_eye_white
from models.avatar.face_region import FaceRegion
from models.avatar.mouth_calibration import MouthCalibration
from models.engines.warp.exemplars import (
    USUAL_BITE,
    BankBuilder,
    ExemplarBank,
    forbidden_between_shots,
    held_row,
    measure_bite,
)
from models.engines.warp.painting.fields import CONTROL_IDS, MOVED_ROWS
from models.engines.warp.painting.masks import draw_masks
from models.mouth.lip_model import LipModel
from models.track.face_track import FaceTrack
from models.track.visibility import WELL_SEEN_YAW

_TURNED_BACK_YAW = WELL_SEEN_YAW - 3.0  # measured degrees below which a turned head counts as turned back

OWN_TEETH = 0.05  # eye distances: a mouth at least this open has its own interior

_CALIBRATION_FILE, _MEASURES_FILE = "calibration.npz", "measures.npz"


@dataclass(frozen=True)
class WarpAvatar:
    """The warp engine's view of an avatar."""

    info: VideoInfo  # the source
    track: FaceTrack  # the face in every source frame
    region: FaceRegion  # the square that is rewritten, in every source frame
    bank: ExemplarBank | None  # mouth exemplars; None for a source that does not talk
    eye_white: EyeWhite  # the whites of the eyes relative to the skin
    bite: float  # where the jaws meet in the mouths of a source that does not talk, see `exemplars.measure_bite`
    # Correction of the predicted mouth for this speaker
    calibration: MouthCalibration = field(default_factory=MouthCalibration.default)

    @property
    def talks(self) -> bool:
        """Whether the source shows a talking mouth, whose images are then used."""
        return self.bank is not None

    @cached_property
    def masks(self) -> NDArray[np.uint8]:
        """(160, 160, 2) uint8 mask textures of a frontal face, see `models.engines.warp.painting.masks`."""
        return draw_masks(self.track.rest)

    @cached_property
    def lip_model(self) -> LipModel:
        """The shipped lip model."""
        return LipModel.load()

    def control_points(self, frames: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the (T, L, 3) head-frame landmarks `painting.fields.CONTROL_IDS` of T source frames, on the skin."""
        shape = self.track.shape[frames]
        if not self.talks:
            shape = shape * self.own_form(frames)[:, None]
        return self.on_skin(self.track.head_points[frames][:, CONTROL_IDS], shape)

    def own_form(self, frames: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return (T,) how far the own lips of T source frames keep their form, 0 to 1.

        Closed lips get the form of rest, because their landmarks jitter; the more they are open, the more of their own
        form they keep.
        """
        return np.asarray((self.track.shape[frames, 0] / OWN_TEETH).clip(0, 1))

    def on_skin(self, head: NDArray[np.float32], shape: NDArray[np.float32]) -> NDArray[np.float32]:
        """Move (T, L, 3) landmarks of cheeks and chin to where the skin is in (T, 8) mouth shapes."""
        moved = head.copy()
        moved[:, MOVED_ROWS] += self.lip_model.skin_motion(shape)
        return moved

    @cached_property
    def forbidden_in_shot(self) -> NDArray[np.bool_] | None:
        """(S, B) bool, see `forbidden_between_shots`; None for a single shot or without exemplars."""
        if self.bank is None or self.track.shot[-1] == 0:
            return None
        return forbidden_between_shots(self.bank, self.track)

    @cached_property
    def is_turned(self) -> NDArray[np.bool_]:
        """(N,) whether the head is turned too far for exemplars, which would have to fold.

        It stays turned until it has turned back by a few degrees: at the limit, the mouth would flicker.
        """
        yaw, shot = np.abs(self.track.pose_degrees[:, 0]), self.track.shot
        starts = np.flatnonzero(np.diff(yaw > _TURNED_BACK_YAW, prepend=False) | (np.diff(shot, prepend=shot[0]) != 0))
        starts = np.union1d(starts, [0])
        farthest = np.maximum.reduceat(yaw, starts)
        return np.repeat(farthest > WELL_SEEN_YAW, np.diff(starts, append=len(yaw)))

    @cached_property
    def held(self) -> NDArray[np.intp]:
        """(S,) the exemplar that each shot holds in silence, see `held_row`; empty without exemplars."""
        if self.bank is None:
            return np.zeros(0, np.intp)
        num_shots, forbidden = int(self.track.shot[-1]) + 1, self.forbidden_in_shot
        if forbidden is None:
            return np.full(num_shots, held_row(self.bank))
        # A shot without exemplars shows none, not even in silence.
        return np.array([0 if rows.all() else held_row(self.bank, ~rows) for rows in forbidden])

    @classmethod
    def analyse(
        cls,
        avatar: Avatar,
        folder: Path,
        frames: SquareReader,
        max_bank_frames: int,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> WarpAvatar:
        """Collect at most `max_bank_frames` exemplars of a tracked avatar into `folder`.

        Raises:
            CancelledJobError: `should_stop`, polled between frames, returned True.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for stale in (_CALIBRATION_FILE, _MEASURES_FILE):
            (folder / stale).unlink(missing_ok=True)
        track, region = avatar.track, FaceRegion.of(avatar.track)
        eye_white = measure_eye_white(track, float(avatar.info.fps), frames)
        bite = USUAL_BITE if avatar.talks else measure_bite(track, frames)
        np.savez(folder / _MEASURES_FILE, light=eye_white.light, chroma=eye_white.chroma, bite=bite)
        if not avatar.talks:
            return cls(avatar.info, track, region, None, eye_white, bite)
        builder = BankBuilder(folder, track, region, max_bank_frames)
        for square in frames.squares([(frame, region.square(frame)) for frame in builder.frames.tolist()]):
            if should_stop():
                raise CancelledJobError("The analysis of the avatar was cancelled.")
            builder.add(square)
        builder.finish()
        return cls(avatar.info, track, region, ExemplarBank.load(folder), eye_white, bite)

    @classmethod
    def load(cls, avatar: Avatar, folder: Path) -> WarpAvatar:
        """Load a folder written by `analyse`."""
        path = folder / _CALIBRATION_FILE
        calibration = MouthCalibration.load(path) if path.exists() else MouthCalibration.default()
        measures = load_arrays(folder / _MEASURES_FILE)
        eye_white, bite = EyeWhite(float(measures["light"]), measures["chroma"]), float(measures["bite"])
        bank = ExemplarBank.load(folder) if avatar.talks else None
        return cls(avatar.info, avatar.track, FaceRegion.of(avatar.track), bank, eye_white, bite, calibration)


def save_calibration(calibration: MouthCalibration, folder: Path) -> None:
    """Add a calibration to a folder written by `WarpAvatar.analyse`."""
    calibration.save(folder / _CALIBRATION_FILE)
