"""The measurements of live sessions, on what is known before."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.live.sync import Player, measure
from lipwright_client import Lipwright
from tests.unit.api.live.live_parts import GreyAvatars
from tests.unit.api_server import MemoryService, serving


def test_measure_short_session_is_in_sync(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    service.looked_at = "face"
    with serving(service, live=GreyAvatars(service.table)) as url:
        with Lipwright(url) as client:
            client.avatars.create(video=("v.mp4", b"film"))
        found = measure(url, 0.1)
    beyond = found["sound_beyond_picture_ms"]
    assert -8 <= beyond["p50"] <= beyond["max"] <= 20, "whole packets, less what the encoder looks ahead"
    assert abs(beyond["drift_ms"]) < 1
    assert found["lost_ms"]["max"] <= 8
    assert found["onset_ms"]["turns"] >= 1
    assert found["onset_ms"]["max"] < 60


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
