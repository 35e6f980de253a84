"""The quality report of a job. `models.quality.findings` builds it.

Reports are stored with their jobs, so every field that is added here needs a default.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Calibration = Literal["own speech", "average talker", "closed mouth"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TruncatedText(_Section):
    """A text of a turn that is too long for its time even when it is spoken faster."""

    start_seconds: float = Field(description="When it starts in the result.")
    cut_seconds: float = Field(description="How much of its speech is cut off.")
    text: str


class OutputReport(_Section):
    """The result, from the count of muxed frames and decoded samples."""

    num_frames: int
    fps: str = Field(description="Exact rate as a fraction, `30000/1001`.")
    duration_seconds: float = Field(description="Duration of the video.")
    audio_seconds: float = Field(description="Duration of the submitted speech.")
    audio_minus_video_ms: float = Field(description="How much later the audio of the result ends than its video.")
    speed: float = Field(1.0, description="Playback speed of the source; 1 unless it is fitted to the speech.")
    audio_speed: float = Field(1.0, description="Playback speed of the speech; 1 unless it is fitted to the video.")
    cut_texts: list[TruncatedText] = Field([], description="Texts of turns that do not fit into their time.")


class SourceReport(_Section):
    """The source, measured by the analysis on the tracked mouth and on the source's own audio."""

    talks: bool = Field(description="Whether it shows a talking mouth, whose images are then used.")
    shows_closed_mouth: bool = Field(description="Whether it shows a closed mouth; otherwise its rest is estimated.")
    has_sound: bool
    audio_offset_ms: float | None = Field(
        description="How far the audio lags behind the video (negative: leads); null if unknown."
    )
    audio_offset_confidence: float | None = Field(
        description="0 to 1, how clearly the offset stands out; null if nothing could be compared."
    )
    audio_offset_correlation: float | None = Field(
        description="Correlation of the tracked mouth with the one predicted from the audio, at the best offset."
    )
    own_speech_seconds: float = Field(description="Speech of the source that was compared with its mouth.")
    calibration: Calibration = Field(
        description="What the mouth movement is scaled to: the source's `own speech`, an `average talker`, or true"
        " sizes for a source with a `closed mouth`."
    )
    learned_seconds: float = Field(0.0, description="Part of that speech that its speaking style was learned from.")
    own_opening_std: float | None = Field(description="Std of its mouth opening in its own speech, eye distances.")
    own_jitter: float | None = Field(description="Lip jitter in its own speech, in eye distances.")
    frozen_seconds: float = Field(0.0, description="Time in which the source video is frozen.")


class MouthReport(_Section):
    """The mouth of the result, measured on the planned lips before rendering, except `motion_silence`.

    Lengths are in eye distances. The opening is the gap between the inner lips. Frames that are left unchanged or faded
    are not counted.
    """

    num_speech_frames: int
    num_silent_frames: int
    opening_std_speech: float | None = Field(description="Standard deviation; about 0.05 in lively speech.")
    opening_std_silence: float | None = Field(description="Standard deviation; near 0 for a mouth at rest.")
    open_share_silence: float | None = Field(description="Share of silent frames with an open mouth.")
    motion_silence: float | None = Field(
        None,
        description="RMS brightness variation of the rendered mouth in silence, relative to its brightness: up to .034"
        " if one mouth is held, .07 and more if it talks; null if not measured.",
    )
    jitter: float | None = Field(
        description="RMS second difference of the lip points from frame to frame in speech, scaled to 25 fps."
    )
    jitter_ratio: float | None = Field(description="Relative to the source's own speech; null if it has none.")


class SkippedFrames(_Section):
    """A run of frames that were left unchanged."""

    reason: str
    start_seconds: float = Field(description="Time of the first frame in the result.")
    end_seconds: float = Field(description="Time at which the last frame ends.")


class FaceReport(_Section):
    """The face in the frames of the result, measured by the face tracker."""

    num_frames_rewritten: int
    num_frames_skipped: dict[str, int] = Field(description="Frames that were left unchanged, by reason.")
    skipped: list[SkippedFrames] = Field([], description="When those frames occur, in order; the first 100 runs.")
    num_frames_skipped_open: int = Field(
        0, description="How many of those frames show the source's own open mouth while nobody speaks."
    )
    eye_distance_px: float | None = Field(description="Mean distance of the outer eye corners, pixels.")
    eye_distance_px_min: float | None
    size: Literal["tiny", "small", "good"] | None
    yaw_degrees: tuple[float, float] | None = Field(description="Smallest and largest; positive is picture-right.")
    pitch_degrees: tuple[float, float] | None = Field(description="Smallest and largest; positive is up.")
    roll_degrees: tuple[float, float] | None = Field(description="Smallest and largest; positive is clockwise.")


class ExemplarReport(_Section):
    """The source's mouth images that are shown, counted on the plan."""

    num_kept: int = Field(description="Mouth images of the source to choose from; 0 for a source that does not talk.")
    num_used: int = Field(description="Those shown at least once.")
    drawn_interior_share: float | None = Field(description="Share of rewritten frames with a drawn mouth interior.")


class SpeakerReport(_Section):
    """One face of a job with turns."""

    face: str | None = Field(description="The face choice of its turns; null: the face of the job.")
    source: SourceReport
    mouth: MouthReport
    seen: FaceReport
    exemplars: ExemplarReport


class QualityReport(_Section):
    """The quality of the result of one job; of a job with turns, `source` to `exemplars` are its first speaker's."""

    output: OutputReport
    source: SourceReport
    mouth: MouthReport
    face: FaceReport
    exemplars: ExemplarReport
    summary: list[str] = Field(description="Findings, in plain sentences.")
    warnings: list[str] = Field(description="Visible or audible problems of the result, in plain sentences.")
    speakers: list[SpeakerReport] = Field([], description="Every face of a job with turns, in the order of speaking.")
    measured_by: dict[str, str] = Field(description="Where the numbers of each section come from.")
