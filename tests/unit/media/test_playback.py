from __future__ import annotations

import pytest

from media.playback import source_index


def test_pingpong_turns_without_repeating_a_frame() -> None:
    assert [source_index(k, 4, "pingpong") for k in range(9)] == [0, 1, 2, 3, 2, 1, 0, 1, 2]


def test_loop_and_hold() -> None:
    assert [source_index(k, 3, "loop") for k in range(5)] == [0, 1, 2, 0, 1]
    assert [source_index(k, 3, "hold") for k in range(5)] == [0, 1, 2, 2, 2]


@pytest.mark.parametrize("loop", ["pingpong", "loop", "hold"])
def test_one_frame_is_shown_for_ever(loop: str) -> None:
    assert {source_index(k, 1, loop) for k in range(5)} == {0}  # type: ignore[arg-type]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="num_source_frames = 0"):
        source_index(0, 0, "loop")
    with pytest.raises(ValueError, match="bounce"):
        source_index(0, 2, "bounce")  # type: ignore[arg-type]
