"""`lipwright live` against the API on a real socket, with a session that shows grey pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from config import LiveConfig
from tests.unit.api.live.live_parts import AVATAR, GreyService
from tests.unit.api_server import MemoryService, serving

RATE = 44100
SECONDS = 1.0


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    live = LiveConfig(max_stall_s=60)
    with serving(MemoryService(tmp_path / "service"), live=GreyService(), live_config=live) as url:
        yield url


def _live(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["live", AVATAR, *arguments])
    return done.exit_code, done.output


@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "mp3"), ("m4a", "aac"), ("wav", "pcm_f32le")])
def test_live_with_stereo_audio_of_any_format_speaks_it(tmp_path: Path, url: str, suffix: str, codec: str) -> None:
    tone = (0.4 * np.sin(np.arange(int(RATE * SECONDS)) / 20)).astype(np.float32)
    speech, out = tmp_path / f"speech.{suffix}", tmp_path / "out.mp4"
    with av.open(str(speech), "w") as container:
        stream: Any = container.add_stream(codec, rate=RATE, layout="stereo")
        sample_format = "flt" if codec == "pcm_f32le" else "fltp"
        samples = np.stack([tone, tone])
        packed = samples if sample_format == "fltp" else samples.T.reshape(1, -1).copy()
        frame = av.AudioFrame.from_ndarray(packed, format=sample_format, layout="stereo")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    code, output = _live("--audio", str(speech), "--out", str(out), "--server", url)
    assert code == 0, output
    with av.open(str(out), "r") as container:
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
        rate = container.streams.audio[0].rate
    loud = np.abs(sound).max(axis=0) > 0.1
    assert loud.sum() / rate == pytest.approx(SECONDS, abs=0.25)


def test_live_with_file_without_audio_names_it(tmp_path: Path, url: str) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a sound")
    code, output = _live("--audio", str(text), "--out", str(tmp_path / "out.mp4"), "--server", url)
    assert code == 1
    assert "error: media_invalid: notes.txt: " in output
    assert not (tmp_path / "out.mp4").exists()
