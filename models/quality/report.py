"""The quality report of a job: what was measured, by whom, in numbers and words. `quality_findings` makes it.

Reports are stored with their jobs as they were made: a field that is added here needs a default.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Calibration = Literal["own speech", "average talker", "closed mouth"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class OutputReport(_Section):
    """The result. Counted: frames that were planned and joined, samples that were decoded."""

    num_frames: int
    fps: str = Field(description="Exact rate as a fraction, `30000/1001`.")
    duration_seconds: float = Field(description="Of the picture.")
    audio_seconds: float = Field(description="Of the speech that was sent.")
    audio_minus_video_ms: float = Field(description="By how much the result's sound ends after its picture.")


class SourceReport(_Section):
    """The source. Measured by the analysis on the tracked mouth and on the source's own sound."""

    talks: bool = Field(description="Whether it shows a talking mouth, whose pictures are then used.")
    shows_closed_mouth: bool = Field(description="Whether the mouth is closed anywhere; otherwise its rest is a guess.")
    has_sound: bool
    audio_offset_ms: float | None = Field(
        description="How much later its sound comes than its picture (negative: earlier); null if not known."
    )
    audio_offset_confidence: float | None = Field(
        description="0 to 1, how clearly the offset stands out; null where nothing could be compared."
    )
    audio_offset_correlation: float | None = Field(
        description="Tracked mouth against the one predicted from the sound, at the offset that fits best."
    )
    own_speech_seconds: float = Field(description="Speech of the source that its mouth was compared with.")
    calibration: Calibration = Field(
        description="Where the size of the mouth's movement comes from: the source's `own speech`, an `average talker`"
        " in its place, or true sizes for a `closed mouth`."
    )
    learned_seconds: float = Field(
        0.0, description="Of that, speech that its own way of speaking was learned from; 0 where none was."
    )
    own_opening_std: float | None = Field(description="Std of its mouth's opening in its own speech, eye distances.")
    own_jitter: float | None = Field(description="Jitter of its mouth in its own speech, eye distances.")
    frozen_seconds: float = Field(0.0, description="Time in which its picture stands still; those frames are held.")


class MouthReport(_Section):
    """The mouth of the result. Measured on the planned lips, before they are drawn, but for `motion_silence`.

    Lengths are in eye distances.
    The opening is the gap between the inner lips. Frames that pass through or fade do not count.
    """

    num_speech_frames: int
    num_silent_frames: int
    opening_std_speech: float | None = Field(description="Standard deviation; about 0.05 in lively speech.")
    opening_std_silence: float | None = Field(description="Standard deviation; near 0 for a mouth that rests.")
    open_share_silence: float | None = Field(description="Share of silent frames with an open mouth.")
    motion_silence: float | None = Field(
        None,
        description="How much the finished picture of the mouth changes in silence, RMS, as a share of its light: .01"
        " to .04 where one mouth is held, .09 and more where it talks; null where it was not measured.",
    )
    jitter: float | None = Field(
        description="RMS second difference of the lip points from frame to frame in speech, scaled to 25 fps."
    )
    jitter_ratio: float | None = Field(description="Against the source's own speech; null if it has none.")


class FaceReport(_Section):
    """The face in the frames of the result. Measured by the face tracker."""

    num_frames_rewritten: int
    num_frames_passed: dict[str, int] = Field(description="Frames that came out as they went in, by the reason.")
    eye_distance_px: float | None = Field(description="Mean distance of the outer eye corners, pixels.")
    eye_distance_px_min: float | None
    size: Literal["tiny", "small", "good"] | None
    yaw_degrees: tuple[float, float] | None = Field(description="Smallest and largest; positive is picture-right.")
    pitch_degrees: tuple[float, float] | None = Field(description="Smallest and largest; positive is up.")
    roll_degrees: tuple[float, float] | None = Field(description="Smallest and largest; positive is clockwise.")


class ExemplarReport(_Section):
    """The real mouths that are shown. Counted on the plan."""

    num_kept: int = Field(description="Mouths of the source to choose from; 0 for a source that does not talk.")
    num_used: int = Field(description="Of those, shown at least once.")
    drawn_interior_share: float | None = Field(description="Share of rewritten frames with a drawn mouth interior.")


class QualityReport(_Section):
    """What is known of the quality of one job's result."""

    output: OutputReport
    source: SourceReport
    mouth: MouthReport
    face: FaceReport
    exemplars: ExemplarReport
    summary: list[str] = Field(description="What was found, in plain sentences.")
    warnings: list[str] = Field(description="What may be seen or heard in the result, in plain sentences.")
    measured_by: dict[str, str] = Field(description="Where the numbers of each section come from.")
