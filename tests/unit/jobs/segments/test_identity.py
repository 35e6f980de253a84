"""The identity of a segment: equal for equal bytes, and different for every input that decides them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from config import LabelsConfig, RenderConfig
from jobs.messages import (
    AvatarRef,
    Background,
    FacePlan,
    FrameText,
    MatteRef,
    OutputPicture,
    SegmentRequest,
    SegmentWatermark,
    SourceVideo,
)
from jobs.model.base import UploadedFile
from jobs.model.job_settings import JobSettings
from jobs.model.plan import JobOptions, JobPlan
from jobs.segments.identity import digest, segment_identity
from media.probe import ColourTags, VideoInfo
from models.engines.warp.plan import MouthPlan
from models.matting.report import MatteReport

INFO = VideoInfo(64, 64, Fraction(25), 50, 2.0, 0, False, False, ColourTags(1, False, 1, 1), "h264", "yuv420p", True)
SOURCE = SourceVideo("avatars/a/source", INFO)
PICTURE = OutputPicture.of(JobSettings(), INFO)
ROWS = np.zeros(4, np.int32)
WEIGHTS = np.zeros(4, np.float32)
MOUTH = MouthPlan(0, ROWS, np.zeros((4, 3, 3), np.float32), ROWS, ROWS, WEIGHTS, WEIGHTS, WEIGHTS, WEIGHTS, WEIGHTS)
FACE = FacePlan(AvatarRef("avatars/a", SOURCE), "warp", MOUTH, WEIGHTS)
REQUEST = SegmentRequest(SOURCE, ROWS, (FACE,), picture=PICTURE, corners=np.zeros((4, 2), np.float32))
MARKS = SegmentWatermark(("bottom_right",), 4, "00" * 8, 0)
PLAN = JobPlan(options=JobOptions(engine="warp"))


def identity(request: SegmentRequest = REQUEST, watermark: SegmentWatermark = MARKS, **changes: Any) -> str:
    fields = {
        "engine": "warp 27",
        "source_sha256": "aa",
        "plan": PLAN,
        "render": RenderConfig(),
        "labels": LabelsConfig(),
    }
    return segment_identity(request, watermark, **{**fields, **changes})


def _moved(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    moved = array.copy()
    moved.flat[1] += 1
    return moved


MATTE = MatteReport(mode="person", sha256="aa", uncertain_share=0.0)
BACKGROUND = Background(
    MatteRef("avatars/a/mattes/auto-1/matte.mp4", INFO, MATTE), None, SourceVideo("jobs/1/background", INFO)
)


@pytest.mark.parametrize(
    "request_",
    [
        replace(REQUEST, source=replace(SOURCE, info=replace(INFO, rotation=90))),
        replace(REQUEST, source_index=_moved(ROWS)),
        replace(REQUEST, faces=()),
        replace(REQUEST, faces=(replace(FACE, avatar=replace(FACE.avatar, folder="avatars/b")),)),
        replace(REQUEST, faces=(replace(FACE, plan=replace(MOUTH, exemplar=_moved(ROWS))),)),
        replace(REQUEST, faces=(replace(FACE, plan=replace(MOUTH, target_head=_moved(MOUTH.target_head))),)),
        replace(REQUEST, faces=(replace(FACE, weight=_moved(WEIGHTS)),)),
        replace(REQUEST, faces=(replace(FACE, weight=None),)),
        replace(REQUEST, has_copies=True),
        replace(REQUEST, is_copy=True),
        replace(REQUEST, picture=replace(PICTURE, quality="best")),
        replace(REQUEST, corners=_moved(np.zeros((4, 2), np.float32))),
        replace(REQUEST, first_frame=25),
        replace(REQUEST, background=replace(BACKGROUND, file=None, colour="blur")),
    ],
)
def test_identity_other_request_is_different(request_: SegmentRequest) -> None:
    assert identity(request_) != identity()


@pytest.mark.parametrize(
    "watermark",
    [
        MARKS._replace(corners=("top_right",)),
        MARKS._replace(num_frames=3),
        MARKS._replace(invisible_id="11" * 8),
        MARKS._replace(first_frame=25),
        MARKS._replace(texts=(FrameText(0, 4, "Hello"),)),
    ],
)
def test_identity_other_watermark_is_different(watermark: SegmentWatermark) -> None:
    assert identity(watermark=watermark) != identity()


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": "warp 28"},
        {"source_sha256": "bb"},
        {"render": RenderConfig(crf=21)},
        {"render": RenderConfig(preset="fast")},
        {"render": RenderConfig(encoder_threads=1)},
        {"labels": LabelsConfig(visible_height=0.1)},
    ],
)
def test_identity_other_settings_are_different(changes: dict[str, Any]) -> None:
    assert identity(**changes) != identity()


def test_identity_equal_request_is_equal() -> None:
    again = replace(REQUEST, faces=(replace(FACE, plan=MOUTH.slice(0, 4), weight=WEIGHTS.copy()),))
    assert identity(again) == identity()


def test_identity_same_source_of_another_face_is_equal() -> None:
    other = replace(REQUEST, source=replace(SOURCE, key="avatars/b/source"))
    assert identity(other) == identity()


def test_identity_background_file_counts_by_content() -> None:
    def with_file(job: str, content: str) -> str:
        file = UploadedFile(key="k", sha256=content, num_bytes=1, label="b")
        video = replace(BACKGROUND, file=SourceVideo(f"jobs/{job}/background", INFO))
        return identity(replace(REQUEST, background=video), plan=PLAN.model_copy(update={"background_file": file}))

    assert with_file("1", "aa") == with_file("2", "aa") != with_file("2", "bb")


def test_digest_unknown_type_raises_type_error() -> None:
    with pytest.raises(TypeError):
        digest(object())


def test_digest_of_split_values_is_different() -> None:
    assert digest(("ab", "c")) != digest(("a", "bc"))
    assert digest(np.zeros((2, 3))) != digest(np.zeros((3, 2))) != digest(np.zeros((3, 2), np.float32))
