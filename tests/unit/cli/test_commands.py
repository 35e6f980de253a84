"""`lipwright live` and `lipwright inspect`, and how messages of the service are worded for the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import typer

from lipwright.cli.main import app
from lipwright.cli.terminal import Invocation, names_of
from lipwright.config import LabelsConfig, LiveConfig
from lipwright.media.labels.blank_video import write_blank_video
from lipwright.media.labels.labeller import Labeller
from lipwright.media.labels.signer import Provenance
from tests.unit.api.live.live_parts import AVATAR, GreyService
from tests.unit.api_server import MemoryService, serving
from tests.unit.cli.commands import run, succeed

RATE = 44100
SECONDS = 1.0


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    live = LiveConfig(max_stall_s=60)
    with serving(MemoryService(tmp_path / "service"), live=GreyService(), live_config=live) as url:
        yield url


@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "mp3"), ("m4a", "aac"), ("wav", "pcm_f32le")])
def test_live_with_stereo_audio_of_any_format_speaks_it(tmp_path: Path, url: str, suffix: str, codec: str) -> None:
    tone = (0.4 * np.sin(np.arange(int(RATE * SECONDS)) / 20)).astype(np.float32)
    speech, out = tmp_path / f"speech.{suffix}", tmp_path / "out.mp4"
    with av.open(str(speech), "w") as container:
        stream: Any = container.add_stream(codec, rate=RATE, layout="stereo")
        is_packed = codec == "pcm_f32le"
        samples = np.repeat(tone, 2)[np.newaxis] if is_packed else np.stack([tone, tone])
        frame = av.AudioFrame.from_ndarray(samples, format="flt" if is_packed else "fltp", layout="stereo")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    succeed("live", AVATAR, "--audio", str(speech), "--out", str(out), "--server", url)
    with av.open(str(out), "r") as container:
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
        rate = container.streams.audio[0].rate
    loud = np.abs(sound).max(axis=0) > 0.1
    assert loud.sum() / rate == pytest.approx(SECONDS, abs=0.25)


def test_live_with_file_without_audio_names_it(tmp_path: Path, url: str) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a sound")
    done = run("live", AVATAR, "--audio", str(text), "--out", str(tmp_path / "out.mp4"), "--server", url)
    assert done.exit_code == 1 and "error: media_invalid: notes.txt: " in done.output
    assert not (tmp_path / "out.mp4").exists()


def test_inspect_exit_status_and_output_tell_the_verdict(tmp_path: Path) -> None:
    signed, plain, text = tmp_path / "video.mp4", tmp_path / "plain.mp4", tmp_path / "a.txt"
    for path in (signed, plain):
        write_blank_video(path)
    Labeller(LabelsConfig(), tmp_path / "data").sign(signed, Provenance(from_still=True))
    text.write_text("hello", encoding="ascii")
    done = run("inspect", str(signed))
    assert (done.exit_code, done.stdout.startswith("Synthetic: ")) == (0, True)
    assert "a test certificate that anyone can create" in done.stdout
    report = json.loads(run("inspect", "--json", str(signed)).stdout)
    assert (report["verdict"], report["c2pa"]["state"]) == ("synthetic", "Valid")
    assert report["c2pa"]["source_types"] == ["trainedAlgorithmicMedia"]
    content = bytearray(signed.read_bytes())
    content[content.index(b"mdat") + 8] ^= 1
    signed.write_bytes(content)
    for path, status, message in (
        (plain, 3, "does not mean it is genuine"),
        (signed, 4, "Broken: "),
        (text, 1, "error: media_invalid"),
        (tmp_path / "none.mp4", 2, "none.mp4 does not exist or is not a file"),
    ):
        done = run("inspect", str(path))
        assert (done.exit_code, message in done.output) == (status, True), done.output


def _invocation(*path: str, arguments: tuple[str, ...] = (), server: str = "") -> Invocation:
    command = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]  # type: ignore[attr-defined]
    return Invocation(names_of(command.params), arguments, server)


@pytest.mark.parametrize(
    ("command", "message", "expected"),
    [
        ("speak", "audio: expected speech.", "--audio: expected speech."),
        ("speak", "face: a; loop: b", "--face: a; --loop: b"),
        ("speak", "background_gain_db: the video has no sound.", "--background-gain: the video has no sound."),
        ("speak", "v.mp4: expected a face, found none.", "v.mp4: expected a face, found none."),
        ("speak", "No face was found in the video.", "No face was found in the video."),
        ("dub", "background_gain_db: the video has no sound.", "--ambience-gain: the video has no sound."),
        ("dub", "video: it has no frames.", "VIDEO: it has no frames."),
        ("dub", "speakers: there is no speaker 'Eve'.", "--face, --voice: there is no speaker 'Eve'."),
        ("dub", "turns[2].end: the video ends at 4 s.", "cue 3: the video ends at 4 s."),
        ("live", "avatar_id: there is none.", "AVATAR_ID: there is none."),
        ("dub", "subtitles_output: must be 'track'", "--show: must be 'track'"),
        ("avatars add", "matte needs background, background_file or background_id.")
        + ("--matte needs --background or --background-id.",),
        ("avatars add", "There is no background 'x'. Send it with POST /v1/backgrounds.")
        + ("There is no background 'x'. Pass the file with --background.",),
        ("jobs show", "Poll GET /v1/jobs/4f instead.", "Poll `lipwright jobs show 4f` instead."),
    ],
)
def test_worded_names_options_and_commands(command: str, message: str, expected: str) -> None:
    assert _invocation(*command.split()).worded(message) == expected


def test_worded_command_gets_server_and_data_folder() -> None:
    invocation = _invocation("speak", server="http://box:8100")
    assert invocation.worded("GET /v1/voices lists") == "`lipwright voices list --server http://box:8100` lists"
    for arguments in (("--data-dir", "/my data"), ("--data-dir=/my data",)):
        worded = _invocation("speak", arguments=arguments).worded("`lipwright keys add NAME` it")
        assert worded == "`lipwright keys add NAME --data-dir '/my data'` it"
