"""One quality report as a job carries it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from models.avatar.mouth_calibration import OwnSpeech
from models.avatar.source_sync import SourceSync
from models.mouth.motion import RunningStats
from models.quality.findings import OutputFacts, make_report
from models.quality.measures import BlockMeasures, SourceFacts


def example_report() -> dict[str, Any]:
    """50 frames of a talker whose sound is 120 ms late; three of them are without a face."""
    own = OwnSpeech(SourceSync(0.12, 0.93, 0.8, 10.0), 0.05, 0.01)
    measures = BlockMeasures(
        source=SourceFacts(True, True, True, 400, True, own),
        num_frames=50,
        num_by_reason=np.array([47, 3, 0, 0, 0, 0]),
        skipped=(),
        num_skipped_open=0,
        speech=RunningStats(30, 1.5, 0.1),
        silence=RunningStats(10, 0.01, 0.0001),
        num_open_in_silence=0,
        jitter=RunningStats(28, 0.28, 0.0029),
        eye_distance=RunningStats(47, 4700.0, 470100.0),
        extremes=np.array([[95, -5, -8, -2], [105, 12, 3, 2.0]]),
        num_drawn=0,
        used=np.arange(400) < 40,
    )
    report = make_report(OutputFacts(50, Fraction(25), 2.0), [measures])
    return report.model_dump(mode="json")
