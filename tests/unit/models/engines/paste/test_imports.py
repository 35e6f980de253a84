from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPO_ROOT


@pytest.mark.parametrize(
    "module",
    ["models.engines.ultralight.engine", "models.engines.edtalk.engine", "models.engines.restoration.engine"],
)
def test_planning_and_cropping_modules_import_no_network_library(module: str) -> None:
    code = f"import sys, {module}; print({{'torch', 'onnxruntime'}} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
