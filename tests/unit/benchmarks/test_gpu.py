from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.gpu import codecs_rows, largest_difference
from benchmarks.live.capacity import Player
from benchmarks.material import make_avatar


@dataclass(frozen=True)
class _Result:
    name: str
    planes: tuple[NDArray[np.uint8], NDArray[np.float32]]


def test_largest_difference_compares_arrays_inside_results() -> None:
    one = _Result("cpu", (np.array([1, 200], np.uint8), np.array([0.5, np.nan], np.float32)))
    other = _Result("cuda", (np.array([3, 199], np.uint8), np.array([0.0, np.nan], np.float32)))
    assert largest_difference(one, other) == 2
    assert largest_difference([one, one], [one, one]) == 0
    with pytest.raises(ValueError, match="zip"):
        largest_difference([one], [one, other])


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine may have NVENC and NVDEC")
def test_codecs_rows_missing_gpu_names_what_is_skipped(tmp_path: Path) -> None:
    encoders, decoders = codecs_rows(make_avatar(256, 256, 0.4, tmp_path), 8, tmp_path)
    found = {row[0]: row[2].startswith("skipped: ") for row in encoders}
    assert found == {"x264": False, "nvenc": True}
    assert {row[0]: row[1].startswith("skipped: ") for row in decoders} == {"CPU": False, "NVDEC": True}
    assert [float(row[3]) > 35 for row in encoders if row[0] == "x264"][0]


def test_player_stalls_without_new_frames() -> None:
    player = Player()
    player.add(10.0, 0.1)
    player.add(10.1, 0.2)
    player.advance(10.25)
    assert player.shown == pytest.approx(0.15) and player.num_stalls == 0
    player.advance(10.4)
    assert (player.shown, player.num_stalls) == (0.2, 1) and player.stalled_s == pytest.approx(0.1)
    player.add(10.5, 0.3)
    player.advance(10.6)
    assert player.shown == 0.2, "it waits until there is enough"
    player.add(10.7, 0.5)
    player.advance(10.8)
    assert player.shown == pytest.approx(0.3)
