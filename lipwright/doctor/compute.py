"""Checks torch and onnxruntime with small computations, on the GPU if there is one, compared with the CPU."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lipwright.doctor.machine import Gpu, seen_gpus
from lipwright.doctor.report import CheckResult, ok, problem, warning
from lipwright.errors import ConfigError, LipwrightError
from lipwright.launch.serve_config import default_config_path

_NETWORK: Final = "face_landmark_468.onnx"
_TOLERANCE: Final = 1e-2
"""Largest difference between GPU and CPU, as a share of the largest value; TF32 has a mantissa of ten bits."""
_GPU_PACKAGES: Final = (
    "Install for the GPU: make setup EXTRA=gpu, or pip install -e '.[gpu]' with a torch built for CUDA."
)


def check_gpus(wanted: float) -> list[CheckResult]:
    """Checks the driver, its GPUs, and whether torch and onnxruntime work on them.

    Args:
        wanted: Sum of the replicas' GPU shares in the Serve config.
    """
    try:
        gpus = seen_gpus()
        driver = _check_driver(gpus, wanted)
    except ConfigError as error:
        gpus = []
        fix = "Reboot after a driver update; start containers with --gpus all."
        driver = problem(str(error), "a driver that responds", fix)
    device = "cuda" if gpus else "cpu"
    return [
        driver.named("GPU"),
        check_torch(device).named(f"torch on {device}"),
        check_onnxruntime_session(device).named(f"onnxruntime on {device}"),
    ]


def check_torch(device: str) -> CheckResult:
    """Multiplies two matrices on `device` and compares the product with numpy's."""
    try:
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            found = f"torch {torch.__version__} sees no GPU (built for CUDA {torch.version.cuda})"
            return problem(found, "torch.cuda.is_available()", f"{_GPU_PACKAGES} CUDA 13 needs a driver from R580.")
        left, right = _matrices()
        product = torch.from_numpy(left).to(device) @ torch.from_numpy(right).to(device)
        if product.device.type != device:
            return problem(f"computed on {product.device}", f"computed on {device}", _GPU_PACKAGES)
        fault = _difference(product.cpu().numpy(), left @ right)
    except Exception as error:  # a broken CUDA installation raises errors of any class
        return problem(f"{type(error).__name__}: {error}", "a product of two matrices", _mend(device))
    if fault:
        return problem(fault, "the CPU's result", _mend(device))
    return ok(f"torch {torch.__version__} computes and agrees with numpy")


def check_onnxruntime_session(device: str) -> CheckResult:
    """Runs a bundled network on `device`; on a GPU, its provider must be active and agree with the CPU."""
    try:
        import torch  # noqa: F401  # loads the CUDA libraries for onnxruntime

        result = _run_network(device)
        fault = _difference(result, _run_network("cpu")) if device != "cpu" else ""
    except LipwrightError as error:
        return problem(str(error), f"a session with {device} active", _mend(device))
    except Exception as error:  # onnxruntime's classes derive directly from Exception
        return problem(f"{type(error).__name__}: {error}", "a run of a bundled network", _mend(device))
    if fault:
        return problem(fault, "the CPU's result", _mend(device))
    return ok(f"{_NETWORK} runs" + (" and agrees with the CPU" if device != "cpu" else ""))


def _check_driver(gpus: list[Gpu], wanted: float) -> CheckResult:
    found = ", ".join(map(str, gpus))
    expected = f"{wanted:g} GPU, as required by the Serve config"
    if not gpus:
        without = default_config_path(has_gpu=False)
        fix = f"Install NVIDIA's driver (in a container: --gpus all), or use --config {without}."
        no_driver = "no NVIDIA driver (nvidia-smi is missing)"
        return problem(no_driver, expected, fix) if wanted > 0 else ok("none; runs on the CPU")
    if wanted > len(gpus):
        fix = "Lower num_gpus or num_replicas of FaceSynthesis in the Serve config."
        return problem(found, expected, fix)
    if wanted == 0:
        fix = f"Start with --config {default_config_path(has_gpu=True)}, or leave the GPU to other programs."
        return warning(f"{found}; the Serve config uses none", "a Serve config with a GPU share", fix)
    return ok(found)


def _run_network(device: str) -> NDArray[np.float32]:
    from models.weights import weights_path
    from models.weights.onnx_session import make_session

    session = make_session(weights_path(_NETWORK), num_threads=1, device="cuda" if device == "cuda" else "cpu")
    inputs: Any = session.get_inputs()
    shapes = [[size if isinstance(size, int) else 1 for size in each.shape] for each in inputs]
    feed = {
        each.name: np.random.default_rng(0).random(shape, dtype=np.float32)
        for each, shape in zip(inputs, shapes, strict=True)
    }
    return np.concatenate([np.ravel(output) for output in session.run(None, feed)]).astype(np.float32)


def _matrices() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    random = np.random.default_rng(0)
    return random.random((256, 256), dtype=np.float32), random.random((256, 256), dtype=np.float32)


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> str:
    """Describes the difference; empty if the results agree."""
    if not np.isfinite(found).all():
        return "results that are not finite"
    share = float(np.abs(found - expected).max() / np.abs(expected).max())
    return f"results that are {share:.1%} off" if share > _TOLERANCE else ""


def _mend(device: str) -> str:
    return _GPU_PACKAGES if device == "cuda" else "Recreate the environment: make setup, or pip install -e '.[cpu]'."
