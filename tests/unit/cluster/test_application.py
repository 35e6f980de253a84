"""What a batch reads of a Serve config."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import PipelineConfig
from errors import ConfigError
from launch.serve_config import read_serve_config


@pytest.mark.parametrize("name", ["serve_config.yaml", "serve_config.cpu.yaml"])
def test_read_serve_config_data_dir_ignores_working_directory(repo_root: Path, work_dir: Path, name: str) -> None:
    assert read_serve_config(repo_root / name).pipeline.data_dir == repo_root / "data"
    assert PipelineConfig().data_dir == repo_root / "data"
    assert PipelineConfig(data_dir=work_dir).data_dir == work_dir


@pytest.mark.parametrize(
    "text", ["", "applications: []", "{", "applications: [{name: a, import_path: 'a:b', args: {x: 1}}]"]
)
def test_read_serve_config_unusable_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="wrong.yaml"):
        read_serve_config(path)
    with pytest.raises(ConfigError, match="none.yaml"):
        read_serve_config(tmp_path / "none.yaml")
