from __future__ import annotations

import pytest

from media.playback import LoopMode, Playback, fit, fit_audio


def test_pingpong_turns_without_repeating_a_frame() -> None:
    assert Playback("pingpong").source_frames(range(9), 4).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]


def test_loop_and_hold() -> None:
    assert Playback("loop").source_frames(range(5), 3).tolist() == [0, 1, 2, 0, 1]
    assert Playback("hold").source_frames(range(5), 3).tolist() == [0, 1, 2, 2, 2]


@pytest.mark.parametrize("after_end", ["pingpong", "loop", "hold"])
def test_one_frame_is_shown_for_ever(after_end: str) -> None:
    assert set(Playback(after_end).source_frames(range(5), 1).tolist()) == {0}  # type: ignore[arg-type]


def test_a_part_shows_the_same_frames_as_the_whole() -> None:
    playback = Playback(speed=0.7)
    assert playback.source_frames(range(40), 11).tolist()[17:] == playback.source_frames(range(17, 40), 11).tolist()


@pytest.mark.parametrize("loop", ["pingpong", "loop", "hold"])
def test_a_shorter_source_is_extended_to_the_speech(loop: LoopMode) -> None:
    assert fit(loop, 100, 30) == (100, Playback(loop))  # type: ignore[arg-type]
    assert fit(loop, 30, 100) == (30, Playback(loop))  # type: ignore[arg-type]


def test_cut_ends_with_the_shorter_input_and_source_with_the_source() -> None:
    assert fit("cut", 100, 30)[0] == fit("cut", 30, 100)[0] == 30
    assert fit("source", 100, 30)[0] == 30
    assert fit("source", 30, 100)[0] == 100


@pytest.mark.parametrize(("num_speech", "num_source"), [(100, 60), (60, 100), (100, 100), (997, 1000), (299, 150)])
def test_retime_shows_the_whole_source_at_an_even_pace(num_speech: int, num_source: int) -> None:
    num, playback = fit("retime", num_speech, num_source)
    shown = playback.source_frames(range(num), num_source)
    assert num == num_speech
    assert shown[0] in (0, 1)
    assert shown[-1] in (num_source - 2, num_source - 1)
    steps = shown[1:] - shown[:-1]
    assert steps.min() >= int(playback.speed)
    assert steps.max() <= int(playback.speed) + 1


def test_retime_is_limited_to_half_and_twice_the_speed() -> None:
    num, slow = fit("retime", 100, 20)
    assert slow == Playback("pingpong", 0.5)
    assert slow.source_frames(range(num), 20).max() == 19
    assert fit("retime", 20, 100) == (20, Playback("pingpong", 2.0))


@pytest.mark.parametrize("loop", ["cut", "source", "retime"])
def test_a_still_lasts_as_long_as_the_speech(loop: LoopMode) -> None:
    assert fit(loop, 77, None) == (77, Playback())


@pytest.mark.parametrize(
    ("speech", "video", "expected"), [(10, 10, 1), (12, 10, 1.2), (20, 10, 1.35), (9, 10, 0.9), (1, 10, 1 / 1.35)]
)
def test_speech_is_fitted_within_a_limit(speech: float, video: float, expected: float) -> None:
    assert fit_audio(speech, video, 1.35) == pytest.approx(expected)
