from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from config import MediaLimits
from errors import ConfigError, MediaError
from media.output.formats import MP4
from media.probe import probe_video
from media.reader import FrameReader
from media.self_test import check_encoder, compare_pictures, missing_decoders, try_round_trip, unreadable_samples
from media.yuv_frame import YuvFrame


def test_self_test_passes_on_this_machine(tmp_path: Path) -> None:
    assert missing_decoders() == []
    try_round_trip(tmp_path)
    assert unreadable_samples(tmp_path) == []
    assert {"sample.webm", "sample.ogg", "sample.mp3"} <= {path.name for path in tmp_path.iterdir()}


def test_missing_decoders_are_named() -> None:
    assert missing_decoders("mov,no_such_format", ("h264", "no_such_codec")) == ["no_such_format", "no_such_codec"]


@pytest.mark.needs_cuda
def test_check_encoder_nvenc_passes_on_a_gpu() -> None:
    import torch

    if any(name in torch.cuda.get_device_name() for name in ("A100", "H100", "H200")):
        pytest.skip("this GPU has no NVENC")
    check_encoder("nvenc")


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine may have NVENC")
def test_check_encoder_missing_nvenc_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"render\.encoder: nvenc does not work .* to x264"):
        check_encoder("nvenc")
    check_encoder("x264")


def test_check_encoder_unknown_encoder_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.self_test.MP4", replace(MP4, video_encoder="no_such_encoder"))
    with pytest.raises(ConfigError, match=r"nvenc does not work .*no_such_encoder"):
        check_encoder("nvenc")


def test_compare_pictures_other_frames_are_refused(tmp_path: Path) -> None:
    try_round_trip(tmp_path)
    out = tmp_path / "out.mp4"
    with FrameReader(out, probe_video(out, MediaLimits()), cache_bytes=1) as reader:
        shown = [YuvFrame(*(np.array(plane) for plane in frame)) for frame in reader.read(range(6))]
    compare_pictures(out, shown)
    with pytest.raises(MediaError, match="Expected 5 frames, found 6"):
        compare_pictures(out, shown[:5])
    with pytest.raises(MediaError, match="Frame 0"):
        compare_pictures(out, shown[::-1])
    with pytest.raises(MediaError, match="audio"):
        compare_pictures(tmp_path / "segment.mp4", shown)
