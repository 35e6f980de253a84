"""A Ray that does not start is one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import ConfigError, UnavailableError
from launch.service import _ray_start_errors


def test_ray_start_failure_is_one_line_with_a_fix(tmp_path: Path) -> None:
    with (
        pytest.raises(UnavailableError, match=r"Ray did not start: timed out\. If the machine is busy.*service\.log"),
        _ray_start_errors(tmp_path / "service.log"),
    ):
        raise Exception("The actor died.\n\tpid: 7\ntimed out.")  # noqa: TRY002  # as Ray does


def test_ray_start_errors_lets_lipwright_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), _ray_start_errors(tmp_path):
        raise ConfigError("No such folder.")
