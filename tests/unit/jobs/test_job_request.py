"""Job requests: what is checked and filled in before one reaches the Director."""

from __future__ import annotations

import pytest

from errors import ForbiddenError, OptionError, UrlRefusedError
from jobs.model.files import UploadedFile, new_id
from jobs.model.job_settings import JobSettings
from jobs.model.plan import JobOptions
from jobs.requests import Caller, JobRequestBuilder

AUDIO = UploadedFile(key=new_id(), sha256="a" * 64, num_bytes=3, label="a.wav")
VIDEO = UploadedFile(key=new_id(), sha256="b" * 64, num_bytes=3, label="v.mp4")


def _refuse(url: str) -> None:
    raise UrlRefusedError(url)


def test_defaults() -> None:
    request = JobRequestBuilder("warp").build(Caller("key"), JobSettings(), audio=AUDIO, video=VIDEO)
    assert request.options == JobOptions(engine="warp")
    assert (request.owner, request.priority, request.metadata, request.callback_url) == ("key", 0, {}, None)
    other = JobRequestBuilder("warp").build(Caller("key"), JobSettings(), audio=AUDIO, video=VIDEO, engine="musetalk")
    assert other.options.engine == "musetalk" and other.job_id != request.job_id


def test_only_what_is_set_counts_as_set() -> None:
    settings = JobSettings(expressiveness=1, loop="hold")
    request = JobRequestBuilder("warp").build(Caller(), settings, audio=AUDIO, avatar_id="a")
    assert request.options.model_fields_set & JobSettings.model_fields.keys() == {"expressiveness", "loop"}


@pytest.mark.parametrize(
    ("max_priority", "priority", "expected"),
    [(1, None, 0), (0, None, 0), (-1, None, -1), (1, 1, 1), (1, -1, -1), (-1, 0, None), (0, 1, None)],
)
def test_priority(max_priority: int, priority: int | None, expected: int | None) -> None:
    def priority_of_request() -> int:
        caller = Caller("key", max_priority)
        return (
            JobRequestBuilder("warp").build(caller, JobSettings(), audio=AUDIO, video=VIDEO, priority=priority).priority
        )

    if expected is None:
        with pytest.raises(ForbiddenError, match=f"at most {max_priority} .* found {priority}"):
            priority_of_request()
    else:
        assert priority_of_request() == expected


@pytest.mark.parametrize(("video", "avatar_id", "found"), [(None, None, "neither"), (VIDEO, "0" * 32, "both")])
def test_exactly_one_face(video: UploadedFile | None, avatar_id: str | None, found: str) -> None:
    with pytest.raises(OptionError, match=found):
        JobRequestBuilder("warp").build(Caller(), JobSettings(), audio=AUDIO, video=video, avatar_id=avatar_id)


def test_a_callback_url_is_checked() -> None:
    builder = JobRequestBuilder("warp", _refuse)
    assert builder.build(Caller(), JobSettings(), audio=AUDIO, video=VIDEO).callback_url is None
    with pytest.raises(UrlRefusedError):
        builder.build(Caller(), JobSettings(), audio=AUDIO, video=VIDEO, callback_url="http://10.0.0.1/")
