"""An avatar: one analysed presenter in a folder, made once, used by every job that shows that presenter.

Signatures (stable)::

    Avatar.build(folder, info, raw, reader, max_bank_frames, should_stop) -> Avatar   CancelledJobError
    Avatar.load(folder) -> Avatar            # cheap: arrays are memory-mapped
    Avatar.is_complete(folder) -> bool
    avatar.plan(mouth: MouthBlock, source_index, first_frame, state) -> (Drive, PathState | None)
    avatar.frames(reader) -> reader of the frames that it shows; a still moves
    avatar.ease(shape, source_index) -> shape   # towards the frames' own mouths where `track.trust` is below 1
    avatar.drive(shape, source_index, state, *, first_frame, forbidden)  # plan_drive, exemplars of like shots only
    avatar.save_calibration(calibration)
    avatar.info, .track, .region, .bank (None unless .talks), .talks, .masks, .pose_degrees
    plan_drive(avatar, shape, source_index, state, *, first_frame, forbidden)         # models.drive
    cut_faces(avatar, drive, frames) -> FaceChunk                                     # models.engine
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import CancelledJobError
from media.frame_source import FrameSource
from media.probe import ColourTags, VideoInfo
from models.drive import Drive, plan_drive
from models.exemplar_bank import BankBuilder, ExemplarBank
from models.exemplar_path import PathState
from models.face_points import INNER_LOWER, INNER_UPPER
from models.face_region import FaceRegion
from models.face_track import FaceTrack, RawLandmarks, finish_track
from models.idle_motion import IdleMotion
from models.lip_model import LipModel, shut_lips
from models.mouth_calibration import MouthCalibration
from models.mouth_shape import measure
from models.moving_still import MovingStill
from models.shot_exemplars import forbidden_between_shots
from models.smile import smile_release
from models.speech_to_mouth import MouthBlock
from models.track_judgement import judge
from models.trust import mouth_share
from models.warp.lip_edges import inner_lip_shifts, move_inner_lips
from models.warp.masks import draw_masks

# Part of the key of cached avatars: change it when a change here or in the tracking makes old folders wrong.
AVATAR_VERSION = "6"

# A mouth whose tracked opening varies by less (standard deviation, eye distances; speech: .015 to .05) shows nothing
# worth copying.
_TALKING_STD = 0.008
_LIP_FRAMES = 5  # in which the edges of lips that never close are looked at
# Mean gap between the lips' edges in the picture, in eye distances, above which a mouth that the mesh takes for shut is
# open: .006 to .022 on shut mouths of six talkers, .041 and more where teeth are seen between their lips.
_PARTED = 0.03
# Pixels of real footage are between these; a file may claim any, and regions grow with it.
_PIXEL_ASPECTS = (0.5, 2.0)
_INFO_FILE, _TRACK_FILE, _CALIBRATION_FILE = "avatar.json", "track.npz", "calibration.npz"
_MOTION_FILE = "motion.npz"


@dataclass(frozen=True)
class Avatar:
    """One analysed presenter.

    Attributes:
        folder: Where it lies.
        info: The source; of a still, the source of N frames that its idle motion makes of it.
        track: The face in every source frame.
        region: The square that is rewritten in every source frame.
        bank: Mouth exemplars; None for a source that does not talk.
        calibration: How this presenter's mouth differs from the average speaker's.
        motion: How a still moves; None for a video.
    """

    folder: Path
    info: VideoInfo
    track: FaceTrack
    region: FaceRegion
    bank: ExemplarBank | None
    calibration: MouthCalibration = field(default_factory=MouthCalibration.default)
    motion: IdleMotion | None = None

    @property
    def talks(self) -> bool:
        """True if the source shows a talking mouth, whose pictures are then used."""
        return self.bank is not None

    @cached_property
    def masks(self) -> NDArray[np.uint8]:
        """(160, 160, 2) uint8 mask textures of a face seen from the front, see `models.warp.masks`."""
        return draw_masks(self.track.rest)

    @cached_property
    def pose_degrees(self) -> NDArray[np.float32]:
        """(N, 3) head pose of the source frames."""
        return self.track.pose_degrees

    @cached_property
    def lip_model(self) -> LipModel:
        """The shipped lip model."""
        return LipModel.load()

    def plan(
        self, mouth: MouthBlock, source_index: NDArray[np.int32], first_frame: int, state: PathState | None
    ) -> tuple[Drive, PathState | None]:
        """Plans the output frames from `first_frame` on: see `models.drive.plan_drive`.

        Args:
            mouth: T frames as predicted from the speech, for the average speaker.
            source_index: (T,) source frames.
            first_frame: Output frame of row 0.
            state: From the block before, or None.
        """
        source_index = np.asarray(source_index, np.int32)
        shape = self.calibration.apply(mouth.shape, mouth.gate)
        if not self.talks:
            shape = shape + smile_release(
                self.track.rest
            )  # in pauses too, where a smile that comes and goes would twitch
        shape = self.ease(shape, source_index)
        return self.drive(shape, source_index, state, first_frame=first_frame)

    def ease(self, shape: NDArray[np.float32], source_index: NDArray[np.int32]) -> NDArray[np.float32]:
        """Leads (T, 8) mouth shapes to those of the (T,) source frames where the effect fades out."""
        own = self.track.shape[source_index]
        share = mouth_share(self.track.trust[source_index])[:, None]
        return np.where(share < 1, own + share * (shape - own), shape).astype(np.float32)

    def drive(
        self,
        shape: NDArray[np.float32],
        source_index: NDArray[np.int32],
        state: PathState | None,
        *,
        first_frame: int = 0,
        forbidden: NDArray[np.bool_] | None = None,
    ) -> tuple[Drive, PathState | None]:
        """Plans frames with the exemplars of their own and of like shots: see `models.drive.plan_drive`.

        A shot without any is shown as a silent source is.
        """
        if self.bank is None or self.forbidden_in_shot is None:
            return plan_drive(self, shape, source_index, state, first_frame=first_frame, forbidden=forbidden)
        elsewhere = self.forbidden_in_shot[self.track.shot[source_index]]
        forbidden = elsewhere if forbidden is None else forbidden | elsewhere
        drive, state = plan_drive(self, shape, source_index, state, first_frame=first_frame, forbidden=forbidden)
        without = np.asarray(forbidden.all(1))
        if not without.any():
            return drive, state
        silent, _ = plan_drive(replace(self, bank=None), shape, source_index, None, first_frame=first_frame)
        return silent.where(without, drive), state

    @cached_property
    def forbidden_in_shot(self) -> NDArray[np.bool_] | None:
        """(S, B) bool, see `models.shot_exemplars`; None for a source of one shot or without exemplars."""
        if self.bank is None or self.track.shot[-1] == 0:
            return None
        return forbidden_between_shots(self.bank, self.track)

    def frames(self, reader: FrameSource) -> FrameSource:
        """Returns what reads the avatar's frames, given what reads its source: a still moves while it is read."""
        return reader if self.motion is None else MovingStill(reader, self.track, self.motion)

    def save_calibration(self, calibration: MouthCalibration) -> None:
        """Adds a calibration to the folder; `load` finds it."""
        calibration.save(self.folder / _CALIBRATION_FILE)

    @classmethod
    def build(
        cls,
        folder: Path,
        info: VideoInfo,
        raw: RawLandmarks,
        reader: FrameSource,
        max_bank_frames: int,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Avatar:
        """Analyses a tracked presenter and writes the folder; the file that makes it complete is written last.

        Args:
            folder: Made if missing.
            info: The source.
            raw: Landmarks of all its frames.
            reader: Reads the source a second time, for the exemplars.
            max_bank_frames: Bound of the exemplars.
            should_stop: Asked between frames.

        Raises:
            FaceNotFoundError: The face is in no frame.
            CancelledJobError: `should_stop` said so.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for stale in (_INFO_FILE, _CALIBRATION_FILE, _MOTION_FILE):
            (folder / stale).unlink(missing_ok=True)
        track, motion = _finish_track(raw, reader, info), None
        if info.is_still:
            (still,) = reader.read([0])
            motion = IdleMotion.plan(still, track, float(info.fps))
            motion.save(folder / _MOTION_FILE)
            track = motion.move(track)
            info = replace(info, num_frames=motion.num_frames, duration_seconds=float(motion.num_frames / info.fps))
        region = FaceRegion.of(track)
        talks = _talks(track)
        if talks:
            builder = BankBuilder(folder, track, region, max_bank_frames)
            for planes in reader.read(builder.frames.tolist()):
                if should_stop():
                    raise CancelledJobError("The analysis of the presenter was cancelled.")
                builder.add(planes)
            track = builder.finish()
        track.save(folder / _TRACK_FILE)
        text = json.dumps({"version": AVATAR_VERSION, "talks": talks, "info": _info_to_json(info)}, indent=1)
        partial = folder / f"{_INFO_FILE}.part"
        partial.write_text(text)
        partial.replace(folder / _INFO_FILE)
        return cls(folder, info, track, region, ExemplarBank.load(folder) if talks else None, motion=motion)

    @classmethod
    def load(cls, folder: Path) -> Avatar:
        """Opens the folder that `build` wrote."""
        stored = json.loads((folder / _INFO_FILE).read_text())
        track = FaceTrack.load(folder / _TRACK_FILE)
        bank = ExemplarBank.load(folder) if stored["talks"] else None
        info, region, calibration = _info_from_json(stored["info"]), FaceRegion.of(track), _load_calibration(folder)
        motion = IdleMotion.load(folder / _MOTION_FILE) if info.is_still else None
        return cls(folder, info, track, region, bank, calibration, motion)

    @staticmethod
    def is_complete(folder: Path) -> bool:
        """True if the folder holds a finished avatar of this version."""
        try:
            return bool(json.loads((folder / _INFO_FILE).read_text())["version"] == AVATAR_VERSION)
        except (OSError, ValueError, KeyError):
            return False


def _load_calibration(folder: Path) -> MouthCalibration:
    path = folder / _CALIBRATION_FILE
    return MouthCalibration.load(path) if path.exists() else MouthCalibration.default()


def _finish_track(raw: RawLandmarks, reader: FrameSource, info: VideoInfo) -> FaceTrack:
    # A still is moved by what knows square pixels only.
    aspect = 1.0 if info.is_still else float(np.clip(float(info.sample_aspect_ratio), *_PIXEL_ASPECTS))
    shot, passed = judge(raw, aspect)
    finish = partial(
        finish_track, present=raw.present, shot=shot, passed=passed, fps=float(info.fps), pixel_aspect=aspect
    )
    track = finish(raw.points)
    if _opens(track) and not track.is_rest_closed_by_model:
        return track
    # The mouth is never seen to close. What closes it has to know where its lips end.
    shown = np.flatnonzero(track.present)
    looked_at = np.unique(shown[np.linspace(0, len(shown) - 1, _LIP_FRAMES).astype(int)])
    pictures = zip(looked_at, reader.read(looked_at.tolist()), strict=True)
    shifts = np.median([inner_lip_shifts(planes, track.points[frame]) for frame, planes in pictures], 0)
    seen = move_inner_lips(track.points[looked_at], shifts)[..., :2]
    gaps = np.linalg.norm(seen[:, list(INNER_LOWER)] - seen[:, list(INNER_UPPER)], axis=-1).mean(1)
    if not track.is_rest_closed_by_model and np.median(gaps / track.scale[looked_at]) < _PARTED:
        return track
    points = move_inner_lips(raw.points, shifts)
    track = finish(points)
    rest = shut_lips(track.rest)
    shape = track.shape + measure(track.rest[None]) - measure(rest[None])
    return replace(track, rest=rest, shape=shape, is_rest_closed_by_model=True)


def _talks(track: FaceTrack) -> bool:
    return not track.is_rest_closed_by_model and _opens(track)


def _opens(track: FaceTrack) -> bool:
    return bool(track.present.sum() > 1 and track.shape[track.present, 0].std() > _TALKING_STD)


def _info_to_json(info: VideoInfo) -> dict[str, Any]:
    fields = asdict(info)
    return {name: str(value) if isinstance(value, Fraction) else value for name, value in fields.items()}


def _info_from_json(fields: dict[str, Any]) -> VideoInfo:
    fractions = {name: Fraction(fields[name]) for name in ("fps", "sample_aspect_ratio")}
    return VideoInfo(**{**fields, **fractions, "colour": ColourTags(**fields["colour"])})
