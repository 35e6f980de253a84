"""Engines of installed packages, found by their entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPO_ROOT

_ENGINE = """
from typing import ClassVar

from models.engines.warp.engine import WarpEngine


class HelloEngine(WarpEngine):
    title: ClassVar[str] = "Hello from another package"
    name = "hello"
"""

_LIST = """
import json, sys
from pathlib import Path
from config import PipelineConfig
from models.engines.catalog import EngineCatalog, engine_list
from models.engines.registry import ENGINES
from models.engines.weights.store import WeightsStore

was_imported = "hello_engine" in sys.modules
listed = {record.name: record.title for record in engine_list(WeightsStore(Path(sys.argv[1])))}
catalog = EngineCatalog(PipelineConfig(data_dir=Path(sys.argv[1])))
catalog.check("hello")
engine = catalog.engine("hello")
print(json.dumps([list(ENGINES), was_imported, listed["hello"], engine.name, type(engine).__module__]))
"""


def _install(folder: Path, package: str, entry_points: str) -> None:
    """Lay down what pip leaves of an installed package."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[lipwright.engines]\n{entry_points}\n")


def _run(code: str, site: Path, repo_root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{repo_root}{os.pathsep}{site}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=repo_root, env=environment, capture_output=True, text=True, timeout=120)


def test_discover_engines_lists_engine_of_other_package(tmp_path: Path, repo_root: Path) -> None:
    site = tmp_path / "site"
    _install(site, "hello_engine", "hello = hello_engine:HelloEngine")
    (site / "hello_engine.py").write_text(_ENGINE)
    done = _run(_LIST, site, repo_root, str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    names, was_imported, title, name, module = json.loads(done.stdout)
    assert names == ["warp", "dinet", "edtalk", "musetalk", "ultralight", "wav2lip", "hello"]
    assert not was_imported, "discovery imports no package"
    assert (title, name, module) == ("Hello from another package", "hello", "hello_engine")


def test_discover_engines_invalid_name_logs_warning(tmp_path: Path, repo_root: Path) -> None:
    reasons = {
        "wav2lip": "the name is taken",
        "restoration": "the name is taken",
        "Hello:World": "expected a name like my_engine",
    }
    for number, name in enumerate(reasons):
        _install(tmp_path, f"hello_{number}", f"{name} = hello_{number}:HelloEngine")
    code = "from models.engines.registry import ENGINES; print(len(ENGINES), ENGINES['wav2lip'])"
    done = _run(code, tmp_path, repo_root)
    assert done.stdout.split() == ["6", "models.engines.wav2lip.engine:Wav2LipEngine"]
    warnings = [line for line in done.stderr.splitlines() if "hello_" in line]
    for number, reason in enumerate(reasons.values()):
        assert any(f"hello_{number}" in line and reason in line for line in warnings), done.stderr


def test_engine_class_failed_import_names_engine(tmp_path: Path, repo_root: Path) -> None:
    _install(tmp_path, "hello_engine", "hello = hello_engine:HelloEngine")
    code = "from models.engines.registry import engine_class; engine_class('hello')"
    done = _run(code, tmp_path, repo_root)
    assert "ConfigError: engine hello_engine:HelloEngine: cannot be imported" in done.stderr


_ENGINES = "models.engines"
_MODULES = (
    *(f"{_ENGINES}.{name}.engine" for name in ("dinet", "edtalk", "musetalk", "restoration", "ultralight", "wav2lip")),
    *(f"{_ENGINES}.paste.{name}" for name in ("crop", "blend")),
)


def _imported(*modules: str) -> set[str]:
    """Return the packages that a process has loaded once it has imported these modules."""
    code = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_engine_modules_import_no_network_library() -> None:
    assert not _imported(*_MODULES) & {"torch", "onnxruntime", "diffusers"}
    assert not _imported(f"{_ENGINES}.dinet.engine") & {"librosa"}


def test_weights_store_imports_no_engine() -> None:
    assert not _imported(f"{_ENGINES}.weights.store") & {"torch", "onnxruntime", "onnx", "cv2", "scipy"}
