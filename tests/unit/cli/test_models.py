"""`lipwright models` with engines of the tests, its files from the disk and from a server on loopback."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lipwright.cli.models import app
from models.engines.weights import inspection
from tests.unit.cli.commands import error_line
from tests.unit.models.engines.forked_reader import read_in_fork
from tests.unit.models.engines.weights.toy_engines import ENGINES
from tests.unit.models.engines.weights.weights_files import Harm, onnx_file, safetensors_file, state, torch_file
from tests.unit.net.web import answer, canary, serving


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(inspection, "_run", read_in_fork)
    return tmp_path / "data"


def _run(data_dir: Path, *arguments: str, stdin: str = "") -> Result:
    result = CliRunner().invoke(app, [*arguments, "--data-dir", str(data_dir)], input=stdin, obj=ENGINES)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def _json(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_models_commands_add_list_verify_and_remove(data_dir: Path, tmp_path: Path) -> None:
    listed = _run(data_dir, "list")
    lines = [" ".join(line.split()) for line in listed.stdout.splitlines()]
    assert "free Free faces installed" in lines
    assert "toy Toy faces weights missing" in lines
    command = f"lipwright models add FILE_OR_URL --engine toy --role generator --data-dir {data_dir}"
    assert f"toy needs generator (Toy generator): {command}" in lines

    source = torch_file(tmp_path / "w.pth")
    added = _run(data_dir, "add", str(source), "--name", "gan", stdin="y\n")
    assert added.exit_code == 0, added.stderr
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert added.stdout == f"added w.pth as generator of toy:gan (sha256 {digest})\n"
    assert data_dir.stat().st_mode & 0o777 == 0o700
    assert "licence: Personal and research use only." in added.stderr
    lines = [" ".join(line.split()) for line in _run(data_dir, "list").stdout.splitlines()]
    assert "toy:gan Toy faces installed" in lines
    assert any(line.startswith(f"toy:gan generator w.pth torch 0.0 {digest[:16]}") for line in lines)

    assert _run(data_dir, "verify").stdout == "ok     toy:gan generator (w.pth)\n"
    (kept,) = (data_dir / "weights" / "toy:gan" / "generator").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    wrong = _run(data_dir, "verify", "toy:gan")
    assert (wrong.exit_code, wrong.stderr) == (1, "")
    assert wrong.stdout.startswith(f"wrong  toy:gan generator: expected w.pth with sha256 {digest}, found ")

    assert _run(data_dir, "remove", "toy:gan").stdout == "removed generator of toy:gan (w.pth)\n"
    assert not kept.exists()
    gone = _run(data_dir, "remove", "toy:gan")
    assert (gone.exit_code, error_line(gone)) == (1, "error: not_found: There are no weights of 'toy:gan'.")


def test_models_json_option_prints_entries(data_dir: Path, tmp_path: Path) -> None:
    source = str(onnx_file(tmp_path / "m.onnx"))
    entry = _json(_run(data_dir, "add", source, "--yes", "--json"))
    assert (entry["name"], entry["role"], entry["format"], entry["source"]) == ("toy", "mixer", "onnx", None)
    listed = _json(_run(data_dir, "list", "--json"))
    assert listed["files"] == [entry]
    installed = {each["name"]: each["is_installed"] for each in listed["engines"]}
    assert installed == {"free": True, "toy": False, "restoration": False}
    assert listed["engines"][1]["missing"][0]["role"] == "generator"
    assert _json(_run(data_dir, "verify", "--json")) == [{**entry, "fault": None}]
    assert _json(_run(data_dir, "remove", "toy", "--role", "mixer", "--json")) == [entry]
    assert _json(_run(data_dir, "list", "--json"))["files"] == []
    assert _run(data_dir, "verify").stdout.startswith("There are no added weights to verify. `lipwright doctor` ")


@pytest.mark.parametrize(("stdin", "expected"), [("n\n", "Nothing was added."), ("", "pass --yes")])
def test_models_add_without_consent_adds_nothing(data_dir: Path, tmp_path: Path, stdin: str, expected: str) -> None:
    refused = _run(data_dir, "add", str(safetensors_file(tmp_path / "w")), stdin=stdin)
    assert refused.exit_code == 2
    assert error_line(refused).startswith("error: not_agreed: ") and expected in error_line(refused)
    assert _json(_run(data_dir, "list", "--json"))["files"] == []
    assert list((data_dir / "weights" / ".stage").iterdir()) == []


def test_models_add_unusable_file_is_one_error_line(data_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "was-run"
    harm = str(torch_file(tmp_path / "w.pth", {"state_dict": state(), "extra": Harm(target)}))
    sound = str(safetensors_file(tmp_path / "w.safetensors"))
    cases = {
        (harm,): "weights_invalid: w.pth: expected tensors alone, found a pickle that asks for posix.mkdir",
        (sound, "--sha256", "ab" * 32): f"weights_invalid: w.safetensors: expected sha256 {'ab' * 32}, found ",
        (sound, "--engine", "nonesuch"): "option_invalid: --engine: expected one of free, toy, found 'nonesuch'",
        (sound, "--name", "A B"): "option_invalid: --name: expected",
        (sound, "--role", "mixer"): "weights_invalid: w.safetensors: no engine can use this file",
        (str(tmp_path / "missing"),): "file_unusable: ",
    }
    for arguments, expected in cases.items():
        refused = _run(data_dir, "add", *arguments, "--yes")
        assert refused.exit_code == 1
        assert error_line(refused).startswith(f"error: {expected}"), error_line(refused)
    assert not target.exists()


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A config that allows addresses of this machine."""
    path = tmp_path / "serve.yaml"
    path.write_text("network: {allowed_networks: [127.0.0.1/32]}")
    return str(path)


def test_models_add_url_is_fetched_and_verified(data_dir: Path, config: str, tmp_path: Path) -> None:
    content = safetensors_file(tmp_path / "w").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    with serving(lambda path, send: send(answer(content))) as web:
        url = web.url("/models/My%20face.safetensors?token=secret")
        other = _run(data_dir, "add", url, "--yes", "--config", config, "--sha256", "00" * 32)
        assert error_line(other).startswith("error: weights_invalid: My_face.safetensors: expected sha256 0000")
        entry = _json(_run(data_dir, "add", url, "--yes", "--json", "--config", config, "--sha256", digest.upper()))
    assert (entry["label"], entry["sha256"]) == ("My_face.safetensors", digest)
    assert entry["source"] == web.url("/models/My%20face.safetensors"), "without the token"
    assert _run(data_dir, "verify").exit_code == 0


def test_models_add_failing_url_adds_nothing(data_dir: Path, config: str) -> None:
    too_long = answer(b"x", length=17 * 1024**3)
    with serving(lambda path, send: send(too_long if path == "/long" else answer(b"", "404 Not Found"))) as web:
        for path, expected in (("/long", "media_too_large"), ("/gone", "url_fetch_failed")):
            failed = _run(data_dir, "add", web.url(path), "--yes", "--config", config)
            assert (failed.exit_code, error_line(failed).split(": ")[1]) == (1, expected)
    with canary() as bird:  # the default rules
        refused = _run(data_dir, "add", bird.url("/w.pth"), "--yes")
        assert (refused.exit_code, error_line(refused).split(": ")[1]) == (1, "url_refused")
    assert list((data_dir / "weights" / ".stage").iterdir()) == []
