"""Real decoders probe uploads: one timeout for all files of a request, and which error it gives."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from config import DecoderConfig, MediaLimits, PipelineConfig
from errors import MediaLimitError, StageTimeoutError
from media.decoding.decoder import Decoders, DecoderTimeoutError
from media.decoding.upload_probe import UploadProbe
from media.probe import probe_audio, probe_video
from tests.unit.media import decoder_tasks
from tests.unit.media.clips import LIMITS


def _config(open_timeout_s: float, cpu_share: float = 0.5) -> PipelineConfig:
    limits, decoder = MediaLimits(open_timeout_s=open_timeout_s), DecoderConfig(cpu_share=cpu_share)
    return PipelineConfig(limits=limits, decoder=decoder)


def test_upload_probe_returns_the_probes_result(decoders: Decoders, h264: Path) -> None:
    probes = UploadProbe(decoders, _config(60), [h264, h264])
    assert probes.run(probe_video, h264) == probe_video(h264, LIMITS)
    assert probes.run(probe_audio, h264) == probe_audio(h264, LIMITS)


def test_upload_probe_busy_decoder_is_refused_in_time(decoders: Decoders, h264: Path) -> None:
    # Either bound comes first on a busy machine; the file is to blame by both.
    start = time.monotonic()
    with pytest.raises(
        MediaLimitError, match=r"h264\.mp4: (decoding it needs too much CPU time|opening it took more than 4 s)"
    ):
        UploadProbe(decoders, _config(4, 0.05), [h264]).run(decoder_tasks.spinning_probe, h264)
    assert time.monotonic() - start < 60


def test_upload_probe_waiting_decoder_is_a_stage_timeout(decoders: Decoders, h264: Path) -> None:
    with pytest.raises(StageTimeoutError, match=r"h264\.mp4") as caught:
        UploadProbe(decoders, _config(2), [h264]).run(decoder_tasks.sleeping_probe, h264)
    assert not isinstance(caught.value, MediaLimitError)


def test_upload_probe_files_share_the_timeout(decoders: Decoders, h264: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probes = UploadProbe(decoders, _config(60), [h264, h264])
    assert probes.seconds == pytest.approx(60, abs=0.1)
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 60)  # what the first one takes
    monkeypatch.setattr("media.decoding.upload_probe.time", later)
    with pytest.raises(StageTimeoutError):
        probes.run(decoder_tasks.sleeping_probe, h264)  # ends in a third of a minute, if it may


def test_decoder_timeout_error_survives_pickling(decoders: Decoders) -> None:
    error = pickle.loads(pickle.dumps(DecoderTimeoutError("a.mp4: late", 1.5)))
    assert (str(error), error.cpu_seconds, error.was_retried) == ("a.mp4: late", 1.5, False)
