"""An avatar: one tracked source in a folder (`models.avatar.folder`), built once and used by every job and engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from lipwright.media.frame_source import FrameSource
from lipwright.media.phones import Closures
from lipwright.media.playback import Playback
from lipwright.media.probe import ColourTags, VideoInfo
from models.avatar.behaviour import USUAL_BEHAVIOURS, EyePlace, TimedBehaviour
from models.avatar.folder import (
    AVATAR_VERSION,
    INFO_FILE,
    LAYERS_FILE,
    MOTION_FILE,
    OCCLUDERS_FILE,
    TRACK_FILE,
    VersionedEngine,
    analysis_folder,
    file_hashes,
    read_info,
    write_whole,
)
from models.avatar.moving_still import MovingMatte, MovingStill
from models.avatar.still_frame import NUM_ROWS, StillFrames, turned_track
from models.avatar.still_layers import CutOut, StillLayers
from models.avatar.still_motion import StillMotion
from models.geometry.head_frame import EYE_LEFT, EYE_RIGHT
from models.mouth.lip_seam import move_inner_lips, seam_shifts
from models.speech.prosody import Prosody
from models.track.face_track import FaceTrack, finish_track
from models.track.occluder_search import find_occluders
from models.track.occluders import Occluders
from models.track.raw_landmarks import RawLandmarks
from models.track.square_pixels import pixel_aspect
from models.track.visibility import assess_visibility

# A mouth whose tracked opening varies by less (standard deviation, eye distances; speech: .03 to .09) shows nothing
# worth copying; for closed mouths that never move it varies by up to .0051 (24 films).
_TALKING_STD = 0.011
_SEAM_FRAMES = 5  # in which to search for the line where closed lips meet


def opens(track: FaceTrack) -> bool:
    """Return whether the mouth opening varies in the track, even if the mouth never closes completely."""
    return bool(track.visible.sum() > 1 and track.shape[track.visible, 0].std() > _TALKING_STD)


def own_track(
    raw: RawLandmarks, reader: FrameSource, info: VideoInfo, cuts: Sequence[int] = ()
) -> tuple[FaceTrack, Occluders | None]:
    """Return the track of a source, and the occluders of the mouth, if any.

    Covered frames are read again, and a few others if the mouth is closed and never moves. `cuts` are frames that do
    not follow those before them, however alike they are.

    Raises:
        FaceNotFoundError: The face is in no frame.
    """
    aspect = pixel_aspect(info)
    seen = assess_visibility(raw, float(info.fps), aspect)
    points, judged, occluders = find_occluders(raw, seen, reader, float(info.fps))
    finish = partial(
        finish_track,
        present=raw.present,
        shot=judged.shot + np.searchsorted(cuts, np.arange(len(judged.shot)), side="right").astype(np.int32),
        skip_reason=judged.skip_reason,
        visible=judged.visible,
        facing=judged.facing,
        fps=float(info.fps),
        pixel_aspect=aspect,
    )
    track = finish(points)
    if opens(track):
        return finish(points, lips_move=True), occluders
    if track.is_rest_closed_by_model:
        return track, occluders
    shown = np.flatnonzero(track.visible)
    looked_at = np.unique(shown[np.linspace(0, len(shown) - 1, _SEAM_FRAMES).astype(int)])
    seam = seam_shifts(list(reader.read(looked_at.tolist())), track.points[looked_at])
    return finish(move_inner_lips(points, seam)), occluders


T = TypeVar("T")


@dataclass(frozen=True)
class Avatar:
    """One tracked source."""

    folder: Path  # the avatar folder
    info: VideoInfo  # the source
    track: FaceTrack  # the face in every source frame; for a still, in each row of `models.avatar.still_frame`
    motion: StillMotion | None = None  # how a still moves; None for a video
    occluders: Occluders | None = None  # occluders of the mouth; None: none
    layers: StillLayers | None = None  # person and background of a still; None: the background moves with the head
    expressiveness: float = 1.0  # factor of the mouth's movement in one job or session, 0 to 2; closed lips stay closed
    smile: NDArray[np.float64] | None = None  # (T,) `StillFrames.smile` in the frames of a plan; None: as in the source
    closures: Closures = ()  # when the lips are known to close, in seconds of the speech
    _remembered: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def talks(self) -> bool:
        """Whether the source shows a mouth that moves, even if it never closes."""
        return opens(self.track)

    def shown_frames(
        self,
        frames: range,
        fps: float,
        playback: Playback,
        prosody: Prosody,
        behaviours: Sequence[TimedBehaviour] = USUAL_BEHAVIOURS,
    ) -> NDArray[np.int64]:
        """Return what to read from `frames` for T output frames: (T,) source frames, or frames of a moving still.

        Args:
            frames: The output frames.
            fps: Their number per second.
            playback: How the source is played.
            prosody: Of the speech in each frame; a still moves with it.
            behaviours: How a still behaves, in order of time; without any, it does not move.
        """
        if self.motion is None:
            return playback.source_frames(frames, self.info.num_frames).astype(np.int64)
        return self.motion.frames(np.array(frames) / fps, fps, prosody, behaviours, self._eyes()).index()

    def _eyes(self) -> EyePlace:
        size = np.array([self.info.width, self.info.height], np.float64)
        middle = self.track.points[0, [EYE_LEFT, EYE_RIGHT], :2].mean(0)
        return EyePlace(middle / size, size / float(self.track.scale[0]))

    def speaking(self, expressiveness: float, shown: NDArray[np.int64], closures: Closures = ()) -> Avatar:
        """Return this avatar for the plan of (T,) frames of `shown_frames`; see its attributes."""
        smile = None if self.motion is None else StillFrames.of(shown).smile
        return replace(self, expressiveness=expressiveness, smile=smile, closures=closures)

    def rows(self, shown: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the (T,) rows of `track`, the source frames of engines, that `shown_frames` stand for."""
        return np.asarray(shown if self.motion is None else shown % NUM_ROWS, np.int32)

    def frames(self, reader: FrameSource) -> FrameSource:
        """Return a reader of the avatar's frames, given a reader of its source; animates a still as it is read."""
        return reader if self.motion is None else MovingStill(reader, self.track, self.layers)

    def matte_frames(self, reader: FrameSource) -> FrameSource:
        """Return the mattes of the avatar's frames, given a `MatteFrames` of its source."""
        return reader if self.motion is None else MovingMatte(reader, self.track, self.layers)

    def folder_of(self, engine: VersionedEngine) -> Path:
        """Return the folder of an engine's analysis of this avatar."""
        return analysis_folder(self.folder, engine)

    def remember(self, engine: VersionedEngine, load: Callable[[], T]) -> T:
        """Return the result of `load`, cached for as long as this avatar is in memory."""
        key = self.folder_of(engine).name  # variants of one engine may have different analyses
        if key not in self._remembered:
            self._remembered[key] = load()
        return cast(T, self._remembered[key])

    @classmethod
    def build(
        cls,
        folder: Path,
        info: VideoInfo,
        raw: RawLandmarks,
        reader: FrameSource,
        cut_out: CutOut | None = None,
        cuts: Sequence[int] = (),
    ) -> Avatar:
        """Build an avatar from the landmarks of all frames and write its folder, `avatar.json` last.

        A few frames of the source are read again, and those in which something covers the mouth. The background of a
        still from which `cut_out` cannot cut the person, or without it, moves with the head. `cuts` as in `own_track`.

        Raises:
            FaceNotFoundError: No frame shows the face.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for stale in (INFO_FILE, MOTION_FILE, LAYERS_FILE, OCCLUDERS_FILE):
            (folder / stale).unlink(missing_ok=True)
        (track, occluders), motion, layers = own_track(raw, reader, info, cuts), None, None
        track.save(folder / TRACK_FILE)
        names = [TRACK_FILE]
        if occluders is not None:
            occluders.save(folder / OCCLUDERS_FILE)
            names.append(OCCLUDERS_FILE)
        if info.is_still:
            (still,) = reader.read([0])
            motion = StillMotion.of(still, track)
            motion.save(folder / MOTION_FILE)
            names.append(MOTION_FILE)
            alpha = None if cut_out is None else cut_out(still, info.colour, track)
            if alpha is not None:
                layers = StillLayers.of(still, alpha, float(track.scale[0]))
                layers.save(folder / LAYERS_FILE)
                names.append(LAYERS_FILE)
        content = {"version": AVATAR_VERSION, "info": _info_to_json(info), "files": file_hashes(folder, names)}
        write_whole(folder / INFO_FILE, content)
        return cls(folder, info, track if motion is None else turned_track(track), motion, occluders, layers)

    @classmethod
    def load(cls, folder: Path) -> Avatar:
        """Load a folder written by `build`."""
        content = read_info(folder)
        info = _info_from_json(content["info"])
        motion = StillMotion.load(folder / MOTION_FILE) if info.is_still else None
        track = FaceTrack.load(folder / TRACK_FILE)
        # Only if they are listed: a bucket may still have those of an earlier build.
        layers = StillLayers.load(folder / LAYERS_FILE) if LAYERS_FILE in content["files"] else None
        occluders = Occluders.load(folder / OCCLUDERS_FILE) if OCCLUDERS_FILE in content["files"] else None
        return cls(folder, info, track if motion is None else turned_track(track), motion, occluders, layers)


def _info_to_json(info: VideoInfo) -> dict[str, Any]:
    fields = asdict(info)
    return {name: str(value) if isinstance(value, Fraction) else value for name, value in fields.items()}


def _info_from_json(fields: dict[str, Any]) -> VideoInfo:
    fractions = {name: Fraction(fields[name]) for name in ("fps", "sample_aspect_ratio")}
    return VideoInfo(**{**fields, **fractions, "colour": ColourTags(**fields["colour"])})
