"""Builds the quality report of a job from its accumulated measures, with a summary and warnings in plain English."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from models.mouth.motion import RunningStats
from models.quality.measures import BlockMeasures, SourceFacts
from models.quality.report import (
    Calibration,
    ExemplarReport,
    FaceReport,
    MouthReport,
    OutputReport,
    QualityReport,
    SkippedFrames,
    SourceReport,
    SpeakerReport,
    TruncatedText,
)
from models.track.raw_landmarks import SkipReason

_SKIP_WORDS: Final = {
    SkipReason.NO_FACE: "no face found",
    SkipReason.OTHER_PERSON: "not clearly the chosen person",
    SkipReason.TURNED_AWAY: "head turned away",
    SkipReason.COVERED: "mouth covered",
    SkipReason.TOO_SMALL: "face too small",
}
_MEASURED_BY: Final = {
    "output": "the number of frames written and of audio samples decoded",
    "source": "the tracked mouth of the source, compared with the one predicted from its audio",
    "mouth": "the planned lip positions, before rendering; motion in silence: the rendered frames",
    "face": "the face tracker, in the source frames that the result uses",
    "exemplars": "the planned lip positions",
}
# ITU-R BT.1359-1: viewers notice sound that is 45 ms early (125 ms late).
_NOTICED_MS: Final = 45.0
# A mouth is about 0.6 eye distances wide.
_TINY_PX, _SMALL_PX, _MOUTH_WIDTH = 32.0, 64.0, 0.6
_TURNED_DEGREES: Final = 30.0
_OPEN_SHARE: Final = 0.05
# Relative brightness variation of the mouth in silence. On twelve clips in the wild: .002 to .034 for a mouth that is
# held, .044 or more if the source's own mouth shows in three of 96 frames, and .07 to .28 where the source talks.
STILL: Final = 0.04
_MAX_NAMED: Final = 10
_NOTHING: Final = RunningStats()
_JITTER_RATIO: Final = (0.5, 1.5)  # predicted mouths are slightly smoother than tracked ones: 0.7 to 0.9
_DRAWN_SHARE: Final = 0.25


@dataclass(frozen=True)
class OutputFacts:
    """The result as a whole.

    Attributes:
        num_frames: Its frames.
        fps: Its frame rate.
        audio_seconds: Duration of the submitted speech.
        speed: Source frames per frame of the result.
        audio_speed: Speed of the speech.
        cut_texts: Texts that did not fit into their time.
        missing_actions: Names and times of actions that are not shown.
    """

    num_frames: int
    fps: Fraction
    audio_seconds: float
    speed: float = 1.0
    audio_speed: float = 1.0
    cut_texts: tuple[TruncatedText, ...] = ()
    missing_actions: tuple[str, ...] = ()


def make_report(
    output: OutputFacts,
    measures: Sequence[BlockMeasures | None],
    silent_motion: RunningStats = _NOTHING,
    speakers: Sequence[str | None] = (None,),
) -> QualityReport:
    """Build the report of one job from sums over all its frames.

    Args:
        output: The result.
        measures: Those of each face; None for a face that was never shown.
        silent_motion: The mouths' motion in silence, in the rendered frames.
        speakers: The face choice of each face; warnings name it if there are several.
    """
    of_faces = [(name, each) for name, each in zip(speakers, measures, strict=True) if each is not None]
    reports = [_report_of_face(output, each, silent_motion if len(of_faces) == 1 else _NOTHING) for _, each in of_faces]
    whole = list(_output_warnings(output))
    if len(reports) == 1:
        return reports[0].model_copy(update={"warnings": [*reports[0].warnings, *whole]})
    return reports[0].model_copy(
        update={
            "speakers": [
                SpeakerReport(face=name, source=each.source, mouth=each.mouth, seen=each.face, exemplars=each.exemplars)
                for (name, _), each in zip(of_faces, reports, strict=True)
            ],
            "summary": [*reports[0].summary[:1], *_of_speakers(of_faces, [each.summary[1:] for each in reports])],
            "warnings": [*_of_speakers(of_faces, [each.warnings for each in reports]), *whole],
        }
    )


def _of_speakers(faces: Sequence[tuple[str | None, BlockMeasures]], findings: Sequence[Sequence[str]]) -> Iterator[str]:
    for (name, _), of_face in zip(faces, findings, strict=True):
        yield from (f"Face {name or 'of the job'}: {finding}" for finding in of_face)


def _report_of_face(output: OutputFacts, measures: BlockMeasures, silent_motion: RunningStats) -> QualityReport:
    numbers = QualityReport(
        output=_output(output),
        source=_source(measures.source),
        mouth=_mouth(measures, silent_motion),
        face=_face(measures, output.fps),
        exemplars=_exemplars(measures),
        summary=[],
        warnings=[],
        measured_by=_MEASURED_BY,
    )
    return numbers.model_copy(update={"summary": list(_summary(numbers)), "warnings": list(_warnings(numbers))})


def _output(output: OutputFacts) -> OutputReport:
    seconds = float(output.num_frames / output.fps)
    missing = seconds - output.audio_seconds
    return OutputReport(
        num_frames=output.num_frames,
        fps=str(output.fps),
        duration_seconds=round(seconds, 3),
        audio_seconds=round(output.audio_seconds, 3),
        speed=round(output.speed, 3),
        audio_speed=round(output.audio_speed, 3),
        cut_texts=list(output.cut_texts),
        # Audio after the last frame is cut when the file is muxed; silence follows if more than a frame is missing.
        audio_minus_video_ms=round(-1000 * missing, 1) if 0 < missing < 1 / output.fps else 0.0,
    )


def _source(source: SourceFacts) -> SourceReport:
    own = source.own_speech
    offset = own.sync.offset_seconds if own is not None else None
    average: Calibration = "average talker" if source.talks else "closed mouth"
    return SourceReport(
        talks=source.talks,
        shows_closed_mouth=source.shows_closed_mouth,
        has_sound=source.has_sound,
        audio_offset_ms=None if offset is None else round(1000 * offset, 1),
        audio_offset_confidence=round(own.sync.confidence, 2) if own is not None else None,
        audio_offset_correlation=round(own.sync.correlation, 2) if own is not None else None,
        own_speech_seconds=round(own.sync.speech_seconds, 2) if own is not None else 0.0,
        calibration="own speech" if source.is_fitted else average,
        learned_seconds=round(own.learned_seconds, 2) if own is not None else 0.0,
        own_opening_std=_round(own.opening_std) if own is not None else None,
        own_jitter=_round(own.jitter) if own is not None else None,
        frozen_seconds=round(source.frozen_seconds, 1),
    )


def _mouth(measures: BlockMeasures, silent_motion: RunningStats) -> MouthReport:
    jitter = measures.jitter.rms
    own_speech = measures.source.own_speech
    own = own_speech.jitter if own_speech is not None else None
    num_silent = measures.silence.num
    return MouthReport(
        num_speech_frames=measures.speech.num,
        num_silent_frames=num_silent,
        opening_std_speech=_round(measures.speech.std),
        opening_std_silence=_round(measures.silence.std),
        open_share_silence=_round(measures.num_open_in_silence / num_silent) if num_silent else None,
        motion_silence=_round(silent_motion.rms),
        jitter=_round(jitter),
        jitter_ratio=round(jitter / own, 2) if jitter is not None and own else None,
    )


def _face(measures: BlockMeasures, fps: Fraction) -> FaceReport:
    mean = measures.eye_distance.mean
    size: Literal["tiny", "small", "good"] | None = None
    ranges: list[tuple[float, float] | None] = [None, None, None]
    if mean is not None:
        size = "tiny" if mean < _TINY_PX else "small" if mean < _SMALL_PX else "good"
        lowest, highest = measures.extremes.round(1).tolist()
        ranges = [(low, high) for low, high in zip(lowest[1:], highest[1:], strict=True)]
    skipped = {reason.name.lower(): int(measures.num_by_reason[reason]) for reason in _SKIP_WORDS}
    return FaceReport(
        num_frames_rewritten=int(measures.num_by_reason[SkipReason.NONE]),
        num_frames_skipped={name: num for name, num in skipped.items() if num},
        skipped=[
            SkippedFrames(
                reason=run.reason.name.lower(),
                start_seconds=round(float(run.start / fps), 3),
                end_seconds=round(float(run.stop / fps), 3),
            )
            for run in measures.skipped
        ],
        num_frames_skipped_open=measures.num_skipped_open,
        eye_distance_px=None if mean is None else round(mean, 1),
        eye_distance_px_min=None if mean is None else round(float(measures.extremes[0, 0]), 1),
        size=size,
        yaw_degrees=ranges[0],
        pitch_degrees=ranges[1],
        roll_degrees=ranges[2],
    )


def _exemplars(measures: BlockMeasures) -> ExemplarReport:
    num_shown = int(measures.num_by_reason[SkipReason.NONE])
    return ExemplarReport(
        num_kept=measures.source.num_exemplars,
        num_used=int(measures.used.sum()),
        drawn_interior_share=_round(measures.num_drawn / num_shown) if num_shown else None,
    )


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _summary(report: QualityReport) -> Iterator[str]:
    output, source, mouth = report.output, report.source, report.mouth
    early_ms = abs(round(output.audio_minus_video_ms))
    end = f"the audio ends {early_ms} ms before the video" if early_ms else "audio and video end together"
    rate = f"{float(Fraction(output.fps)):.4g} fps"
    yield f"{output.num_frames} frames at {rate}, {output.duration_seconds:.2f} s; {end}."
    if output.speed != 1:
        yield f"The video plays at {output.speed:.2f} times its speed so that it ends with the speech."
    if output.audio_speed != 1:
        yield f"The speech plays at {output.audio_speed:.2f} times its speed to fit the video."
    late = output.audio_seconds - output.duration_seconds
    if abs(late) > 1 / Fraction(output.fps):
        yield (
            f"The speech is {late:.1f} s longer than the video; the rest is cut off."
            if late > 0
            else f"The speech ends {-late:.1f} s before the video."
        )
    if not source.talks:
        yield "The source shows no talking mouth, so the inside of the mouth is drawn."
    elif source.calibration == "own speech":
        yield f"The mouth opens as far as in the source's own speech (measured in {source.own_speech_seconds:.1f} s)."
        if source.learned_seconds:
            yield f"The speaking style was learned from {source.learned_seconds:.1f} s of that speech."
    else:
        why = "too little usable speech" if source.has_sound else "no audio"
        yield f"The source has {why} to learn from, so the mouth moves like that of an average speaker."
    if source.audio_offset_ms is not None and abs(source.audio_offset_ms) < _NOTICED_MS:
        yield f"Sound and lips of the source are in sync ({source.audio_offset_ms:+.0f} ms)."
    if mouth.num_speech_frames and mouth.num_silent_frames:
        share = mouth.num_silent_frames / (mouth.num_speech_frames + mouth.num_silent_frames)
        opened = mouth.open_share_silence or 0.0
        yield f"Nobody speaks in {share:.0%} of the frames; the mouth is open in {opened:.0%} of those."
    elif mouth.num_speech_frames:
        yield "There is speech in every frame."
    if mouth.jitter_ratio is not None:
        yield f"The lips jitter {mouth.jitter_ratio:.2f} times as much as in the source's own speech."


def _warnings(report: QualityReport) -> Iterator[str]:
    yield from _source_warnings(report.source)
    for reason, words in _SKIP_WORDS.items():
        if num := report.face.num_frames_skipped.get(reason.name.lower(), 0):
            yield f"{num} {'frame' if num == 1 else 'frames'} left unchanged: {words}."
    if num := report.face.num_frames_skipped_open:
        yield f"The original mouth is open in {num} of the unchanged frames although nobody speaks."
    yield from _face_warnings(report.face)
    mouth, drawn = report.mouth, report.exemplars.drawn_interior_share
    if not mouth.num_speech_frames and mouth.num_silent_frames:
        yield "No speech was found in the audio, so the mouth stays closed."
    if mouth.open_share_silence is not None and mouth.open_share_silence > _OPEN_SHARE:
        yield f"The mouth is open in {mouth.open_share_silence:.0%} of the silent frames."
    if mouth.motion_silence is not None and mouth.motion_silence > STILL:
        yield f"The mouth moves in silence: its brightness varies by {mouth.motion_silence:.0%}."
    if mouth.jitter_ratio is not None and not _JITTER_RATIO[0] <= mouth.jitter_ratio <= _JITTER_RATIO[1]:
        how = "more abruptly" if mouth.jitter_ratio > 1 else "more smoothly"
        yield f"The lips move {how} than in the source's own speech (jitter: {mouth.jitter_ratio:.2f} times as large)."
    if report.source.talks and drawn is not None and drawn > _DRAWN_SHARE:
        yield f"The inside of the mouth is drawn in {drawn:.0%} of the frames: the source rarely opens it that far."


def _output_warnings(output: OutputFacts) -> Iterator[str]:
    if num := len(output.cut_texts):
        times = _named([f"{cut.start_seconds:.1f} s" for cut in output.cut_texts])
        yield f"{num} {'text is' if num == 1 else 'texts are'} too long for the time and cut off: at {times}."
    if output.missing_actions:
        names = _named(output.missing_actions)
        yield f"Actions that are not shown because their clips could not start in time: {names}."


def _named(items: Sequence[str]) -> str:
    """Return the first items, and how many more there are."""
    more = f" and {len(items) - _MAX_NAMED} more" if len(items) > _MAX_NAMED else ""
    return ", ".join(items[:_MAX_NAMED]) + more


def _source_warnings(source: SourceReport) -> Iterator[str]:
    offset = source.audio_offset_ms
    if offset is not None and abs(offset) >= _NOTICED_MS:
        what = "this was corrected" if source.calibration == "own speech" else "its speech was not used"
        yield f"The source's sound is {abs(offset):.0f} ms {'late' if offset > 0 else 'early'}; {what}."
    if source.talks and source.has_sound and offset is None:
        yield "Whether the source's sound is late or early could not be measured; nothing was corrected."
    if source.frozen_seconds:
        yield f"The source video freezes for {source.frozen_seconds:.1f} s in total; so does the result."
    if not source.shows_closed_mouth:
        yield "The source never shows the mouth closed, so the closed lips are an estimate."


def _face_warnings(face: FaceReport) -> Iterator[str]:
    if face.eye_distance_px is not None and face.size == "tiny":
        width = face.eye_distance_px * _MOUTH_WIDTH
        eyes = face.eye_distance_px
        yield f"The face is small: {eyes:.0f} pixels between the eyes; the mouth is about {width:.0f} pixels wide."
    for angles, words in ((face.yaw_degrees, "to the side"), (face.pitch_degrees, "up or down")):
        most = max(map(abs, angles), default=0.0) if angles else 0.0
        if most > _TURNED_DEGREES:
            yield f"The head turns up to {most:.0f} degrees {words}."
