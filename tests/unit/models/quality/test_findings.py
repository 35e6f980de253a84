from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from models.avatar.mouth_calibration import OwnSpeech
from models.avatar.source_sync import SourceSync
from models.mouth.motion import RunningStats
from models.quality.findings import OutputFacts, make_report
from models.quality.measures import BlockMeasures, SkippedRun, SourceFacts
from models.quality.report import QualityReport, TruncatedText
from models.track.raw_landmarks import SkipReason

OUTPUT = OutputFacts(100, Fraction(25), 3.99)
OWN = OwnSpeech(SourceSync(0.004, 0.9, 0.75, 10.0), 0.05, 0.01)
SOURCE = SourceFacts(True, True, True, 500, True, OWN)


def stats(num: int, mean: float, std: float) -> RunningStats:
    return RunningStats(num, num * mean, num * (mean**2 + std**2))


def skipped(**frames: int) -> np.ndarray:
    counts = np.zeros(len(SkipReason), np.int64)
    for name, num in frames.items():
        counts[SkipReason[name]] = num
    return counts


GOOD = BlockMeasures(
    source=SOURCE,
    num_frames=100,
    num_by_reason=skipped(NONE=100),
    skipped=(),
    num_skipped_open=0,
    speech=stats(80, 0.06, 0.05),
    silence=stats(20, 0.0, 0.001),
    num_open_in_silence=0,
    jitter=stats(70, 0.009, 0.002),
    eye_distance=stats(100, 90, 2),
    extremes=np.array([[85, -5, -8, -2], [95, 12, 3, 2.0]]),
    num_drawn=5,
    used=np.arange(500) < 60,
)


def report(measures: BlockMeasures = GOOD, output: OutputFacts = OUTPUT) -> QualityReport:
    return make_report(output, [measures])


def of_source(**changes: object) -> QualityReport:
    return report(replace(GOOD, source=replace(SOURCE, **changes)))  # type: ignore[arg-type]


def with_offset(seconds: float | None) -> OwnSpeech:
    return replace(OWN, sync=replace(OWN.sync, offset_seconds=seconds))


def test_report_of_a_good_job_has_no_warnings() -> None:
    good = report()
    assert good.warnings == []
    assert (good.output.duration_seconds, good.output.audio_minus_video_ms) == (4.0, -10.0)
    assert (good.mouth.opening_std_speech, good.mouth.opening_std_silence) == (0.05, 0.001)
    assert good.mouth.open_share_silence == 0 and good.mouth.jitter_ratio == pytest.approx(0.92)
    assert (good.source.audio_offset_ms, good.source.audio_offset_confidence) == (4.0, 0.9)
    assert (good.source.calibration, good.source.own_speech_seconds) == ("own speech", 10.0)
    assert (good.face.size, good.face.eye_distance_px, good.face.eye_distance_px_min) == ("good", 90, 85)
    assert (good.face.yaw_degrees, good.face.pitch_degrees) == ((-5, 12), (-8, 3))
    assert (good.exemplars.num_kept, good.exemplars.num_used, good.exemplars.drawn_interior_share) == (500, 60, 0.05)
    assert set(good.measured_by) == {"output", "source", "mouth", "face", "exemplars"}
    assert any("in sync" in line for line in good.summary)
    assert QualityReport.model_validate_json(good.model_dump_json()) == good


OFFSETS = {0.12: "120 ms late; this was corrected", -0.2: "200 ms early; this was corrected", None: "not be measured"}


@pytest.mark.parametrize(("seconds", "words"), OFFSETS.items())
def test_report_source_offset_is_told(seconds: float | None, words: str) -> None:
    found = of_source(own_speech=with_offset(seconds))
    (line,) = found.warnings
    assert words in line and not any("in sync" in line for line in found.summary)
    in_sync = of_source(own_speech=with_offset(0.03))
    assert not in_sync.warnings and any("in sync" in line for line in in_sync.summary)
    (line,) = of_source(talks=False, is_fitted=False, own_speech=with_offset(0.12)).warnings
    assert line == "The source's sound is 120 ms late; its speech was not used."


def test_report_skipped_frames_are_counted_by_reason() -> None:
    runs = (SkippedRun(SkipReason.COVERED, 10, 35), SkippedRun(SkipReason.NO_FACE, 90, 100))
    counts = skipped(NONE=77, NO_FACE=12, COVERED=1, TURNED_AWAY=10)
    found = report(replace(GOOD, num_by_reason=counts, skipped=runs))
    told = {"12 frames": "no face found", "1 frame": "mouth covered", "10 frames": "head turned away"}
    assert set(found.warnings) == {f"{num} left unchanged: {reason}." for num, reason in told.items()}
    assert sum(found.face.num_frames_skipped.values()) + found.face.num_frames_rewritten == 100
    times = [(run.reason, run.start_seconds, run.end_seconds) for run in found.face.skipped]
    assert times == [("covered", 0.4, 1.4), ("no_face", 3.6, 4.0)]
    all_reasons = replace(GOOD, num_by_reason=np.ones(len(SkipReason), np.int64), num_drawn=0)
    assert len(report(all_reasons).warnings) == len(SkipReason) - 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_skipped_open": 1}, "mouth is open in 1 of the unchanged frames"),
        ({"num_open_in_silence": 5}, "open in 25% of the silent frames"),
        ({"jitter": stats(70, 0.02, 0.0)}, "more abruptly"),
        ({"num_drawn": 60}, "drawn in 60% of the frames"),
        ({"speech": RunningStats(), "jitter": RunningStats()}, "No speech was found"),
        ({"eye_distance": stats(100, 20, 1)}, "small: 20 pixels between the eyes; the mouth is about 12 pixels wide"),
        ({"extremes": np.array([[85, -44, -8, -2], [95, 12, 3, 2.0]])}, "up to 44 degrees to the side"),
        ({"source": replace(SOURCE, shows_closed_mouth=False)}, "never shows the mouth closed"),
    ],
)
def test_report_visible_defect_is_a_warning(changes: dict[str, object], words: str) -> None:
    (line,) = report(replace(GOOD, **changes)).warnings  # type: ignore[arg-type]
    assert words in line


@pytest.mark.parametrize(
    ("changes", "calibration", "words"),
    [
        ({"is_fitted": False}, "average talker", "too little usable speech"),
        ({"is_fitted": False, "has_sound": False, "own_speech": None}, "average talker", "no audio"),
        ({"talks": False, "is_fitted": False, "own_speech": None}, "closed mouth", "no talking mouth"),
    ],
)
def test_report_names_the_calibration(changes: dict[str, object], calibration: str, words: str) -> None:
    found = of_source(**changes)
    assert found.source.calibration == calibration
    assert any(words in line for line in found.summary)
    assert report().source.learned_seconds == report().source.frozen_seconds == 0
    assert not any("learned" in line for line in report().summary)
    learned = of_source(own_speech=replace(OWN, learned_seconds=9.52))
    assert learned.source.learned_seconds == 9.52
    assert "The speaking style was learned from 9.5 s of that speech." in learned.summary
    frozen = of_source(frozen_seconds=59.54)
    assert frozen.source.frozen_seconds == 59.5
    assert frozen.warnings == ["The source video freezes for 59.5 s in total; so does the result."]


def test_report_without_a_face_has_no_measures() -> None:
    changes: dict[str, object] = dict.fromkeys(("speech", "silence", "jitter", "eye_distance"), RunningStats())
    changes |= {"num_by_reason": skipped(NO_FACE=100), "num_drawn": 0}
    changes["extremes"] = np.array([[np.inf] * 4, [-np.inf] * 4])
    found = report(replace(GOOD, **changes))  # type: ignore[arg-type]
    assert (found.face.size, found.face.yaw_degrees, found.mouth.jitter) == (None, None, None)
    assert found.warnings == ["100 frames left unchanged: no face found."]
    assert "Infinity" not in found.model_dump_json()


def test_report_of_output_tells_motion_cut_texts_and_actions() -> None:
    still, moving = (make_report(OUTPUT, [GOOD], RunningStats.of(np.full(20, level))) for level in (0.02, 0.06))
    assert (still.mouth.motion_silence, moving.mouth.motion_silence) == (0.02, 0.06)
    assert not any("moves in silence" in line for line in still.warnings)
    assert "The mouth moves in silence: its brightness varies by 6%." in moving.warnings
    assert report(GOOD).mouth.motion_silence is None
    cuts = tuple(TruncatedText(start_seconds=second, cut_seconds=0.5, text="long") for second in range(12))
    whole = make_report(replace(OUTPUT, cut_texts=cuts), [GOOD])
    assert whole.output.cut_texts == list(cuts)
    times = ", ".join(f"{second}.0 s" for second in range(10))
    assert whole.warnings == [f"12 texts are too long for the time and cut off: at {times} and 2 more."]
    several = make_report(replace(OUTPUT, cut_texts=cuts[:1]), [GOOD, GOOD], speakers=["0", "1"])
    assert several.warnings == ["1 text is too long for the time and cut off: at 0.0 s."]
    late = make_report(replace(OUTPUT, missing_actions=("wave at 3.1 s", "nod at 4.0 s")), [GOOD])
    expected = "Actions that are not shown because their clips could not start in time: wave at 3.1 s, nod at 4.0 s."
    assert late.warnings == [expected]
