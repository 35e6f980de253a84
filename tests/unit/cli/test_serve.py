"""`lipwright serve` up to the start of its front proxy: where it would listen."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from errors import ConfigError
from launch.serve_config import ServeConfig
from tests.ports import quiet_port


@pytest.mark.parametrize("is_option", [False, True])
def test_serve_listens_where_config_or_options_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_option: bool
) -> None:
    asked: list[ServeConfig] = []

    def end(config: ServeConfig, *_: object) -> None:
        asked.append(config)
        raise ConfigError("the end of this test")

    monkeypatch.setattr("launch.service._run_front", end)
    port, other_port, path = quiet_port(), quiet_port(), tmp_path / "my.yaml"
    path.write_text(f"http_options: {{port: {port}, host: 127.0.0.2}}\ndata_dir: {tmp_path / 'data'}")
    options = ("--host", "127.0.0.3", "--port", str(other_port)) if is_option else ()
    done = CliRunner().invoke(app, ["serve", "--config", str(path), *options])
    assert done.stderr.endswith("error: config_invalid: the end of this test\n"), done.output
    (config,) = asked
    found = config.http_options["host"], config.http_options["port"]
    assert found == (("127.0.0.3", other_port) if is_option else ("127.0.0.2", port))
    assert config.pipeline.data_dir == tmp_path / "data"
