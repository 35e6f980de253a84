"""Creates onnxruntime sessions on the requested device with a fixed number of threads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from lipwright.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    import onnxruntime as ort

Device = Literal["cpu", "cuda"]

_PROVIDERS: Final = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_TENSORRT: Final = "TensorrtExecutionProvider"
# CUDA: choose kernels by heuristics, not by timing, and use full float32 precision, so that replicas give the same
# bytes.
_REPEATABLE: Final = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}


def make_session(
    path: Path, *, num_threads: int, device: Device, gpu_share: float = 1.0, tensorrt: bool = False
) -> ort.InferenceSession:
    """Load a network.

    Args:
        path: The .onnx file.
        num_threads: CPU threads of one call; idle threads sleep instead of spinning.
        device: "cpu" or "cuda". On "cuda", operators that CUDA lacks run on the CPU.
        gpu_share: Share of the GPU memory that the session may use, 0 to 1.
        tensorrt: Whether to use TensorRT for the operators it supports. It chooses kernels by timing, so replicas may
            differ in the last bits. Its engines are cached next to the file.

    Raises:
        ConfigError: CUDA or TensorRT was requested but is not active (onnxruntime would silently use the CPU).
        WeightsError: The file is missing, or onnxruntime cannot load it.
    """
    if device not in _PROVIDERS:
        raise ConfigError(f"Expected device 'cpu' or 'cuda', got {device!r}.")
    import onnxruntime as ort  # here, because importing it takes time and starts threads

    needed = [_TENSORRT] if tensorrt and device == "cuda" else []
    needed.append(_PROVIDERS[device])
    for provider in needed:
        if provider not in ort.get_available_providers():
            raise ConfigError(f"Device {device!r} needs {provider}, which this build of onnxruntime lacks.")
    if not path.is_file():
        raise WeightsError(f"The network file {path.name} does not exist.")
    providers: list[object] = list(needed)
    if device == "cuda":
        options = {_TENSORRT: _tensorrt_options(path), _PROVIDERS["cuda"]: _cuda_options(gpu_share)}
        # Operators that CUDA lacks run on the CPU.
        providers = [*((provider, options[provider]) for provider in needed), _PROVIDERS["cpu"]]
    try:
        session = ort.InferenceSession(str(path), _options(num_threads), providers=providers)
    except Exception as error:  # onnxruntime's exceptions have no common base class but Exception
        raise WeightsError(f"onnxruntime cannot load {path.name}: {error}") from error
    active = session.get_providers()
    if not set(needed) <= set(active):
        raise ConfigError(f"{path.name} must run with {', '.join(needed)}, but onnxruntime uses {active}.")
    return session


def _tensorrt_options(path: Path) -> dict[str, str]:
    return {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(path.parent / "tensorrt")}


def _cuda_options(gpu_share: float) -> dict[str, str]:
    if gpu_share >= 1:
        return _REPEATABLE
    import torch  # onnxruntime does not report the GPU memory

    limit = int(gpu_share * torch.cuda.mem_get_info()[1])
    return _REPEATABLE | {"gpu_mem_limit": str(limit), "arena_extend_strategy": "kSameAsRequested"}


def _options(num_threads: int) -> ort.SessionOptions:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    # Several replicas share a machine: a spinning thread would take a core from the others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only; the warnings are about initialisers removed by the optimiser
    return options
