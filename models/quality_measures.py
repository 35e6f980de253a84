"""What is measured of a job while its mouth is planned: sums over one block of frames, added up over all blocks.

The figures are of the planned mouth and of the tracked face, not of the encoded pixels: they cost nothing, and a job of
hours holds no more than the sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.mouth_calibration import OwnSpeech
from models.mouth_motion import Moments, lip_jitter, lip_opening
from models.pass_reason import PassReason

if TYPE_CHECKING:
    from models.avatar import Avatar
    from models.drive import Drive
    from models.speech_to_mouth import MouthBlock

OPEN_MOUTH: Final = 0.025  # eye distances between the inner lips; speech opens them by .05 on average
_DRAWN = 0.05  # share of a drawn interior that shows
_NUM_REASONS = max(PassReason) + 1


@dataclass(frozen=True)
class SourceFacts:
    """What the analysis knows of a source.

    Attributes:
        talks: Whether it shows a talking mouth.
        has_sound: Whether it has a sound track.
        shows_closed_mouth: Whether the mouth is closed anywhere; otherwise its rest is a guess.
        num_exemplars: Mouths kept as exemplars.
        is_fitted: Whether the predicted mouth was fitted to the source's own speech.
        own_speech: What was measured on that speech; None if it has no sound.
    """

    talks: bool
    has_sound: bool
    shows_closed_mouth: bool
    num_exemplars: int
    is_fitted: bool
    own_speech: OwnSpeech | None

    @classmethod
    def of(cls, avatar: Avatar) -> SourceFacts:
        """What is known of `avatar`."""
        return cls(
            talks=avatar.talks,
            has_sound=avatar.info.has_audio,
            shows_closed_mouth=not avatar.track.is_rest_closed_by_model,
            num_exemplars=len(avatar.bank) if avatar.bank is not None else 0,
            is_fitted=avatar.calibration.is_fitted,
            own_speech=avatar.calibration.own_speech,
        )


@dataclass(frozen=True)
class BlockMeasures:
    """Sums over some output frames; `+` gives those of both.

    Attributes:
        source: What is known of the source; the same for all frames of a job.
        num_frames: Output frames.
        num_passed: Frames by `PassReason` value; entry 0 counts the frames whose mouth is rewritten.
        speech: Openings of the planned mouth in speech, in frames where it is fully driven.
        silence: The same in silence.
        num_open_in_silence: How many of those exceed `OPEN_MOUTH`.
        jitter: `mouth_motion.lip_jitter` of the planned mouth in speech, without differences across block borders.
        eye_distance: Pixels between the outer eye corners, in frames with the face.
        extremes: (2, 4) lowest and highest eye distance, yaw, pitch and roll in those frames; infinite of none.
        num_drawn: Frames with a drawn mouth interior.
        used: (B,) exemplars that are shown.
    """

    source: SourceFacts
    num_frames: int
    num_passed: NDArray[np.int64]
    speech: Moments
    silence: Moments
    num_open_in_silence: int
    jitter: Moments
    eye_distance: Moments
    extremes: NDArray[np.float64]
    num_drawn: int
    used: NDArray[np.bool_]

    def __add__(self, other: BlockMeasures) -> BlockMeasures:
        pairs = zip(self.extremes, other.extremes, (np.minimum, np.maximum), strict=True)
        return BlockMeasures(
            source=self.source,
            num_frames=self.num_frames + other.num_frames,
            num_passed=self.num_passed + other.num_passed,
            speech=self.speech + other.speech,
            silence=self.silence + other.silence,
            num_open_in_silence=self.num_open_in_silence + other.num_open_in_silence,
            jitter=self.jitter + other.jitter,
            eye_distance=self.eye_distance + other.eye_distance,
            extremes=np.stack([outer(mine, its) for mine, its, outer in pairs]),
            num_drawn=self.num_drawn + other.num_drawn,
            used=self.used | other.used,
        )


def measure_block(avatar: Avatar, mouth: MouthBlock, drive: Drive) -> BlockMeasures:
    """Measures one block.

    Args:
        avatar: The presenter.
        mouth: T frames as predicted from the speech.
        drive: What `avatar.plan` made of them.
    """
    track, index = avatar.track, drive.source_index
    shape = avatar.calibration.apply(mouth.shape, mouth.gate)
    opening = lip_opening(shape, is_tracked_size=avatar.talks)
    passed = track.passed[index]
    is_driven = track.trust[index] >= 1  # elsewhere the source's own mouth is seen, or some of it
    shown = passed == PassReason.SHOWN
    speaks = is_driven & (mouth.gate >= 0.5)
    silent = opening[is_driven & (mouth.gate < 0.5)]
    scale = track.scale[index][shown]
    view = np.column_stack([scale, avatar.pose_degrees[index][shown]])  # (S, 4)
    return BlockMeasures(
        source=SourceFacts.of(avatar),
        num_frames=len(drive),
        num_passed=np.bincount(passed, minlength=_NUM_REASONS).astype(np.int64),
        speech=Moments.of(opening[speaks]),
        silence=Moments.of(silent),
        num_open_in_silence=int((silent > OPEN_MOUTH).sum()),
        jitter=lip_jitter(shape, speaks, avatar.info.fps),
        eye_distance=Moments.of(scale),
        extremes=np.stack([view.min(0, initial=np.inf), view.max(0, initial=-np.inf)]),
        num_drawn=int((drive.interior[shown] > _DRAWN).sum()),
        used=_used(avatar, drive, shown),
    )


def _used(avatar: Avatar, drive: Drive, shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    used = np.zeros(len(avatar.bank) if avatar.bank is not None else 0, np.bool_)
    rows = drive.exemplar[shown]
    used[rows[rows >= 0]] = True
    return used
