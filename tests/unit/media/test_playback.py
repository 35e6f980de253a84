from __future__ import annotations

import pytest

from media.playback import LoopMode, Playback, fit, fit_audio


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


def test_fit_extends_a_short_source_or_a_still_to_the_speech() -> None:
    for loop in ("pingpong", "loop", "hold"):
        assert fit(loop, 100, 30) == (100, Playback(loop))
        assert fit(loop, 30, 100) == (30, Playback(loop))
    others: tuple[LoopMode, ...] = ("cut", "source", "retime")
    for other in others:
        assert fit(other, 77, None) == (77, Playback())


def test_fit_cut_is_the_shorter_and_source_the_source() -> None:
    assert fit("cut", 100, 30)[0] == fit("cut", 30, 100)[0] == fit("source", 100, 30)[0] == 30
    assert fit("source", 30, 100)[0] == 100


@pytest.mark.parametrize(("num_speech", "num_source"), [(100, 60), (60, 100), (100, 100), (997, 1000), (299, 150)])
def test_fit_retime_shows_the_source_at_an_even_pace(num_speech: int, num_source: int) -> None:
    num, playback = fit("retime", num_speech, num_source)
    shown = playback.source_frames(range(num), num_source)
    assert num == num_speech
    assert shown[0] in (0, 1)
    assert shown[-1] in (num_source - 2, num_source - 1)
    steps = shown[1:] - shown[:-1]
    assert steps.min() >= int(playback.speed)
    assert steps.max() <= int(playback.speed) + 1


def test_fit_retime_is_between_half_and_double_speed() -> None:
    num, slow = fit("retime", 100, 20)
    assert slow == Playback("pingpong", 0.5)
    assert slow.source_frames(range(num), 20).max() == 19
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
