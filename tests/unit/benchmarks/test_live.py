import pytest

from benchmarks.live.capacity import Player


def test_player_stalls_without_new_frames() -> None:
    player = Player()
    player.add(10.0, 0.1)
    player.add(10.1, 0.2)
    player.advance(10.25)
    assert player.shown == pytest.approx(0.15)
    assert player.num_stalls == 0
    player.advance(10.4)
    assert (player.shown, player.num_stalls) == (0.2, 1)
    assert player.stalled_s == pytest.approx(0.1)
    player.add(10.5, 0.3)
    player.advance(10.6)
    assert player.shown == 0.2, "it waits until there is enough"
    player.add(10.7, 0.5)
    player.advance(10.8)
    assert player.shown == pytest.approx(0.3)
