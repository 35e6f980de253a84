from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from lipwright.errors import ConfigError, WeightsError
from models.engines.protocol import ComputeResources, Device
from models.engines.runtime import torch_device
from models.engines.runtime.batching import fixed_batches
from models.engines.runtime.cache import LruCache, content_key
from models.engines.runtime.device_feed import DeviceFeed
from models.engines.runtime.onnx import OnnxNetwork
from tests.random_weights.onnx_file import Dims, save_network


def _network() -> nn.Sequential:
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.ConvTranspose2d(8, 4, 3, stride=2), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)),
        nn.BatchNorm2d(4),
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def test_fold_batch_norm_keeps_values_and_removes_layers() -> None:
    network, x = _network(), torch.rand(2, 3, 7, 7)
    with torch.inference_mode():
        before = network(x)
        assert torch_device.fold_batch_norm(network) == 3
        after = network(x)
    assert (after - before).abs().max() < 1e-5
    # The last one follows no convolution of its own block.
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 1
    with pytest.raises(ValueError, match="evaluation mode"):
        torch_device.fold_batch_norm(_network().train())


CPU = torch.device("cpu")
has_half = pytest.mark.skipif(torch_device.half_precision(CPU) is None, reason="this processor has no fast bfloat16")


def _off_by(difference: float, num: int = 1) -> Callable[[torch.dtype], Tensor]:
    def run(dtype: torch.dtype) -> Tensor:
        result = torch.full((100,), 0.5)
        if dtype != torch.float32:
            result[:num] += difference
        return result

    return run


@has_half
@pytest.mark.parametrize(
    ("difference", "num", "tolerance", "expected"),
    [
        (0.002, 1, None, torch.bfloat16),
        *((difference, 1, None, torch.float32) for difference in (0.1, float("nan"), float("inf"))),
        (0.01, 100, None, torch.float32),
        (0.1, 1, torch_device.Tolerance(0.2, 0.01), torch.bfloat16),
    ],
)
def test_choose_precision_auto_uses_half_within_tolerance(
    difference: float, num: int, tolerance: torch_device.Tolerance | None, expected: torch.dtype
) -> None:
    given = () if tolerance is None else (tolerance,)
    assert torch_device.choose_precision(_off_by(difference, num), "auto", CPU, *given) == expected


def test_choose_precision_fp32_runs_nothing() -> None:
    def run(dtype: torch.dtype) -> Tensor:
        raise AssertionError(f"computed in {dtype}")

    assert torch_device.choose_precision(run, "fp32", CPU) == torch.float32
    assert torch_device.half_precision(torch.device("cuda")) == torch.float16


def _twice_plus(a: Tensor, b: Tensor) -> Tensor:
    return a.float() * 2 + b


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.needs_cuda)])
def test_device_feed_returns_batches_in_order(device: Device) -> None:
    feed = DeviceFeed(torch_device.open_device(ComputeResources(device)))
    for num in (1, 4, 5, 8, 33, 200):
        first = np.random.default_rng(num).integers(0, 255, (num, 64, 64), dtype=np.uint8)
        second = np.random.default_rng(num).random((num, 1, 1), np.float32)
        with torch_device.repeatable():
            parts = list(feed.run(fixed_batches((first, second), 4), _twice_plus))
        assert np.array_equal(np.concatenate(parts), first.astype(np.float32) * 2 + second)
    assert list(feed.run(iter(()), _twice_plus)) == []


def test_open_device_sets_num_threads_of_resources() -> None:
    before = torch.get_num_threads()
    try:
        assert torch_device.open_device(ComputeResources("cpu", num_threads=2)).type == "cpu"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_open_device_missing_cuda_raises_config_error() -> None:
    with pytest.raises(ConfigError, match="found none that PyTorch can use"):
        torch_device.open_device(ComputeResources("cuda"))


def _save_sum(path: Path, kind: int = TensorProto.FLOAT) -> Path:
    """Sum = a + b, and another output that nobody asks for."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    outputs: dict[str, Dims] = dict.fromkeys(("sum", "difference"), ("batch", 3))
    types = dict.fromkeys(("a", "b", *outputs), kind)
    return save_network(path, nodes, {"a": ("batch", 3), "b": (1, 3)}, outputs, {}, types=types, opset=17)


def test_onnx_network_gives_table_and_outputs(tmp_path: Path) -> None:
    network = OnnxNetwork(_save_sum(tmp_path / "n.onnx"), ComputeResources(), lambda table: None)
    assert network.table.inputs == ((-1, 3), (1, 3)) and network.table.outputs[0] == (-1, 3)
    a, b = np.ones((4, 3), np.float32), np.full((1, 3), 2, np.float32)
    assert np.array_equal(network(a, b), np.full((4, 3), 3))
    assert [each[0, 0] for each in network.run_all(a, b)] == [3, -1]


def test_onnx_network_other_dtypes_are_converted(tmp_path: Path) -> None:
    network = OnnxNetwork(_save_sum(tmp_path / "n.onnx", TensorProto.DOUBLE), ComputeResources(), lambda table: None)
    assert not network.is_float32
    assert network(np.ones((4, 3), np.float32), np.ones((1, 3), np.float32)).dtype == np.float32
    with pytest.raises(WeightsError, match=r"n\.onnx: expected inputs of .*, found tensor\(uint8\)"):
        OnnxNetwork(_save_sum(tmp_path / "n.onnx", TensorProto.UINT8), ComputeResources(), lambda table: None)
    with pytest.raises(WeightsError, match=r"^n\.onnx: expected something else\.$"):
        OnnxNetwork(_save_sum(tmp_path / "n.onnx"), ComputeResources(), lambda table: "expected something else")


@pytest.mark.needs_cuda
def test_onnx_network_cuda_equals_cpu(tmp_path: Path) -> None:
    network = OnnxNetwork(_save_sum(tmp_path / "n.onnx"), ComputeResources("cuda"), lambda table: None)
    a, b = torch.rand(4, 3, device="cuda"), torch.rand(1, 3, device="cuda")
    assert torch.equal(network.run_on_cuda((a, b), (4, 3)), a + b)


def test_content_key_covers_content_shape_and_dtype() -> None:
    array = np.arange(12, dtype=np.uint8)
    key = content_key(array)
    assert key == content_key(array.copy())
    assert key == content_key(np.arange(24, dtype=np.uint8)[:12])
    strided = np.stack([array, array], 1)[:, 0]
    assert key == content_key(strided)
    other_types: list[NDArray[Any]] = [array.view(np.int8), array.view(np.uint16)]
    others = [array[::-1], array.reshape(3, 4), array[:-1], *other_types]
    assert key not in {content_key(other) for other in others}


def test_lru_cache_full_evicts_least_recently_used() -> None:
    cache: LruCache[str] = LruCache(2)
    cache.put(b"a", "A")
    cache.put(b"b", "B")
    assert cache.get(b"a") == "A"
    cache.put(b"c", "C")
    assert (cache.get(b"a"), cache.get(b"b"), cache.get(b"c")) == ("A", None, "C")
    assert len(cache) == 2
    none: LruCache[str] = LruCache(0)
    none.put(b"a", "A")
    assert none.get(b"a") is None


def test_lru_cache_get_or_compute_computes_once() -> None:
    made: list[bytes] = []
    cache: LruCache[int] = LruCache(2)

    def get(number: int) -> int:
        def make() -> int:
            made.append(bytes([number]))
            return 10 * number

        return cache.get_or_compute(bytes([number]), make)

    assert [get(number) for number in (1, 2, 1, 3, 1, 2)] == [10, 20, 10, 30, 10, 20]
    assert made == [b"\1", b"\2", b"\3", b"\2"]  # 2 had gone, 1 had been asked for since
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(get, [i % 5 for i in range(400)])) == [10 * (i % 5) for i in range(400)]
