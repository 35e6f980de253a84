"""`lipwright inspect` says what a file is, in words, in JSON and by its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from config import LabelsConfig
from media.labels.blank_video import write_blank_video
from media.labels.labeller import Labeller
from media.labels.signer import Provenance


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    write_blank_video(path)
    Labeller(LabelsConfig(), tmp_path / "data").sign(path, Provenance(from_still=True))
    return path


def test_a_result_is_said_to_be_synthetic_and_its_signer_a_test(signed: Path) -> None:
    done = CliRunner().invoke(app, ["inspect", str(signed)])
    assert done.exit_code == 0
    assert done.stdout.startswith("Synthetic: ")
    assert "a test certificate that anyone can create" in done.stdout
    report = json.loads(CliRunner().invoke(app, ["inspect", "--json", str(signed)]).stdout)
    assert report["verdict"] == "synthetic"
    assert report["c2pa"]["state"] == "Valid"
    assert report["c2pa"]["source_types"] == ["trainedAlgorithmicMedia"]


def test_unlabelled_changed_and_unreadable_files_end_differently(signed: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.mp4"
    write_blank_video(plain)
    unlabelled = CliRunner().invoke(app, ["inspect", str(plain)])
    assert (unlabelled.exit_code, "does not mean it is genuine" in unlabelled.stdout) == (3, True)
    content = bytearray(signed.read_bytes())
    content[content.index(b"mdat") + 8] ^= 1
    signed.write_bytes(content)
    broken = CliRunner().invoke(app, ["inspect", str(signed)])
    assert (broken.exit_code, broken.stdout.startswith("Broken: ")) == (4, True)
    text = tmp_path / "a.txt"
    text.write_text("hello", encoding="ascii")
    refused = CliRunner().invoke(app, ["inspect", str(text)])
    assert (refused.exit_code, "error: media_invalid" in refused.stderr) == (1, True)
    missing = CliRunner().invoke(app, ["inspect", str(tmp_path / "none.mp4")])
    assert (missing.exit_code, "none.mp4 does not exist or is not a file" in missing.stderr) == (2, True)
