from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.gpu import codecs_rows, largest_difference
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
