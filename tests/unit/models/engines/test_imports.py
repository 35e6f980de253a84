"""What may be imported without the libraries of the networks."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import REPO_ROOT

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
