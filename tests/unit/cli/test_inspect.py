"""`lipwright inspect` says what a file is, in words, in JSON and by its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config import LabelsConfig
from media.labels.blank_video import write_blank_video
from media.labels.labeller import Labeller
from media.labels.signer import Provenance
from tests.unit.cli.commands import run


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    write_blank_video(path)
    Labeller(LabelsConfig(), tmp_path / "data").sign(path, Provenance(from_still=True))
    return path


def test_inspect_signed_video_is_synthetic(signed: Path) -> None:
    done = run("inspect", str(signed))
    assert done.exit_code == 0
    assert done.stdout.startswith("Synthetic: ")
    assert "a test certificate that anyone can create" in done.stdout
    report = json.loads(run("inspect", "--json", str(signed)).stdout)
    assert report["verdict"] == "synthetic"
    assert report["c2pa"]["state"] == "Valid"
    assert report["c2pa"]["source_types"] == ["trainedAlgorithmicMedia"]


def test_inspect_exit_status_tells_the_verdict(signed: Path, tmp_path: Path) -> None:
    plain, text = tmp_path / "plain.mp4", tmp_path / "a.txt"
    write_blank_video(plain)
    text.write_text("hello", encoding="ascii")
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
