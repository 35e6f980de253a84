from __future__ import annotations

import numpy as np
import pytest

from lipwright.media.playback import LoopMode, Playback, fit, fit_audio


@pytest.mark.parametrize(
    ("after_end", "shown"),
    [("pingpong", [0, 1, 2, 1, 0, 1]), ("loop", [0, 1, 2, 0, 1, 2]), ("hold", [0, 1, 2, 2, 2, 2])],
)
def test_source_frames_after_the_end(after_end: LoopMode, shown: list[int]) -> None:
    playback = Playback(after_end)  # type: ignore[arg-type]
    assert playback.source_frames(range(6), 3).tolist() == shown
    assert set(playback.source_frames(range(5), 1).tolist()) == {0}


def test_source_frames_of_a_part_equal_those_of_the_whole() -> None:
    playback = Playback(speed=0.7)
    assert playback.source_frames(range(40), 11).tolist()[17:] == playback.source_frames(range(17, 40), 11).tolist()


def test_fit_returns_length_and_playback_of_each_mode() -> None:
    for loop in ("pingpong", "loop", "hold"):
        assert fit(loop, 100, 30) == (100, Playback(loop))
        assert fit(loop, 30, 100) == (30, Playback(loop))
    stills: tuple[LoopMode, ...] = ("cut", "source", "retime")
    for mode in stills:
        assert fit(mode, 77, None) == (77, Playback())
    assert fit("cut", 100, 30)[0] == fit("cut", 30, 100)[0] == fit("source", 100, 30)[0] == 30
    assert fit("source", 30, 100)[0] == 100


@pytest.mark.parametrize(("num_speech", "num_source"), [(100, 60), (100, 100), (997, 1000), (299, 150), (17991, 26973)])
def test_fit_retime_shows_the_source_at_an_even_pace(num_speech: int, num_source: int) -> None:
    num, playback = fit("retime", num_speech, num_source)
    shown = playback.source_frames(range(num), num_source)
    assert num == num_speech and shown[-1] >= num_source - 2
    assert np.abs(shown - (np.arange(num) + 0.5) * num_source / num).max() <= 1
    assert set(np.diff(shown)) <= {int(playback.speed), int(playback.speed) + 1}


def test_fit_retime_is_between_half_and_double_speed() -> None:
    assert fit("retime", 100, 20) == (100, Playback("pingpong", 0.5))
    assert fit("retime", 20, 100) == (20, Playback("pingpong", 2.0))


@pytest.mark.parametrize(
    ("speech", "video", "expected"), [(10, 10, 1), (12, 10, 1.2), (20, 10, 1.35), (9, 10, 0.9), (1, 10, 1 / 1.35)]
)
def test_fit_audio_speed_is_limited(speech: float, video: float, expected: float) -> None:
    assert fit_audio(speech, video, 1.35) == pytest.approx(expected)


def test_source_frames_of_a_path_continue_from_each_of_its_pairs() -> None:
    playback = Playback(path=((0, 10), (3, 40), (4, 20)))
    assert playback.source_frames(range(7), 100).tolist() == [10, 11, 12, 40, 20, 21, 22]
    assert playback.source_frames(range(3, 5), 100).tolist() == [40, 20]
    slow, last = Playback("loop", 0.5, ((0, 10), (2, 40))), Playback("loop", 1, ((0, 8),))
    assert slow.source_frames(range(6), 100).tolist() == [10, 10, 11, 11, 40, 40]
    assert last.source_frames(range(4), 10).tolist() == [8, 9, 9, 9], "it ends with the source"
