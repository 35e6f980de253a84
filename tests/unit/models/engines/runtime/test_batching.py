import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError
from models.engines.protocol import ComputeResources, Device
from models.engines.runtime.batching import Batch, SharedBatches, fixed_batches
from models.engines.runtime.device_feed import DeviceBatches
from models.engines.runtime.torch_device import open_device


def test_fixed_batches_are_full_and_hold_each_row_once() -> None:
    rows = np.arange(10)
    made = list(fixed_batches((rows, rows * 2.0), 4))
    assert [num for _, num in made] == [4, 4, 2]
    assert [first.tolist() for (first, _), _ in made] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 9, 9]]
    assert all((second == 2 * first).all() for (first, second), _ in made)
    assert list(fixed_batches((rows[:0],), 4)) == []
    batches = fixed_batches((rows,), 4, iter((False, False, True)).__next__)
    assert [next(batches)[1], next(batches)[1]] == [4, 4]
    with pytest.raises(CancelledJobError, match="8 of 10 faces"):
        next(batches)


SIZE = 4
WAIT_S = 60
POISON = 666


class Network:
    """Doubles numbers, remembers its batches, and stands still at its first one until `gate` is set."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.batches: list[tuple[list[int], int]] = []

    def compute(self, batches: Iterator[Batch]) -> Iterator[NDArray[np.int64]]:
        for (rows,), num in batches:
            self.batches.append((rows.tolist(), num))
            self.begun.set()
            assert self.gate.wait(WAIT_S)
            if POISON in rows:
                raise ValueError("poison")
            yield rows[:num] * 2


class Callers:
    """Threads that have rows doubled."""

    def __init__(self, pool: ThreadPoolExecutor, network: Network) -> None:
        self._pool, self._network = pool, network
        self._batches = SharedBatches(SIZE)
        self._num = 0

    def double(
        self, *values: int, together: str | None = "", should_stop: Callable[[], bool] = lambda: False
    ) -> Future[list[int]]:
        """Begin, and return once the rows wait for the network or are in it."""
        rows, out = np.array(values, np.int64), np.zeros(len(values), np.int64)

        def run() -> list[int]:
            self._batches.fill(out, (rows,), self._network.compute, should_stop, together)
            return list(out.tolist())

        begun = self._pool.submit(run)
        self._num += 1
        while len(self._batches._waiting) < self._num and not begun.done():
            threading.Event().wait(0.001)
        assert self._network.begun.wait(WAIT_S)
        return begun


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def callers(network: Network) -> Iterator[Callers]:
    with ThreadPoolExecutor(8) as pool:
        yield Callers(pool, network)
        network.gate.set()


def test_shared_batches_single_caller_pads_last_batch(callers: Callers, network: Network) -> None:
    network.gate.set()
    assert callers.double(1, 2, 3, 4, 5).result(WAIT_S) == [2, 4, 6, 8, 10]
    assert network.batches == [([1, 2, 3, 4], 4), ([5, 5, 5, 5], 1)]
    assert callers.double().result(WAIT_S) == [] and len(network.batches) == 2


def test_shared_batches_waiting_rows_replace_padding(callers: Callers, network: Network) -> None:
    first = callers.double(1, 2, 3, 4, 5)
    others = [callers.double(10, 11), callers.double(20, 21, 22)]
    network.gate.set()
    assert first.result(WAIT_S) == [2, 4, 6, 8, 10]
    assert [other.result(WAIT_S) for other in others] == [[20, 22], [40, 42, 44]]
    assert network.batches == [([1, 2, 3, 4], 4), ([5, 10, 11, 20], 4), ([21, 22, 22, 22], 2)]


def test_shared_batches_only_equal_kinds_share(callers: Callers, network: Network) -> None:
    first = callers.double(1, together="ann")
    others = [callers.double(2, together="bob"), callers.double(3, together=None), callers.double(4, together=None)]
    network.gate.set()
    assert [caller.result(WAIT_S) for caller in (first, *others)] == [[2], [4], [6], [8]]
    assert sorted(network.batches) == [([n] * SIZE, 1) for n in (1, 2, 3, 4)]


def test_shared_batches_failure_recomputes_other_callers(callers: Callers, network: Network) -> None:
    first = callers.double(1, 2, 3, 4, POISON)
    other = callers.double(10, 11, 12, 13)
    network.gate.set()
    with pytest.raises(ValueError, match="poison"):
        first.result(WAIT_S)
    assert other.result(WAIT_S) == [20, 22, 24, 26]
    assert network.batches[1:] == [([POISON, 10, 11, 12], 4), ([10, 11, 12, 13], 4)]


def test_shared_batches_cancel_keeps_rows_of_others(callers: Callers, network: Network) -> None:
    is_unwanted = threading.Event()
    first = callers.double(1, 2, 3, 4, 5, 6, 7, 8, 9, should_stop=is_unwanted.is_set)
    waiting = callers.double(10, should_stop=is_unwanted.is_set)
    other = callers.double(20, 21)
    is_unwanted.set()
    with pytest.raises(CancelledJobError, match="0 of 1 faces"):
        waiting.result(WAIT_S)  # although the network stands still
    network.gate.set()
    with pytest.raises(CancelledJobError, match="4 of 9 faces"):
        first.result(WAIT_S)
    assert other.result(WAIT_S) == [40, 42]


@pytest.mark.parametrize("name", ["cpu", pytest.param("cuda", marks=pytest.mark.needs_cuda)])
def test_concurrent_generate_calls_do_not_mix(name: Device) -> None:
    """Each chunk gets its own rows, the bytes of which do not depend on the neighbours."""
    device = open_device(ComputeResources(name))
    network = torch.nn.Conv2d(3, 32, 3, padding=1)
    network.weight.data = torch.randn(network.weight.shape, generator=torch.Generator().manual_seed(5))
    network, batches = network.to(device), DeviceBatches(device, SIZE)

    def generate(pictures: NDArray[np.float32]) -> bytes:
        out = np.empty((len(pictures), 32, *pictures.shape[2:]), np.float32)
        batches.fill(out, (pictures,), network.forward)
        return out.tobytes()

    rng = np.random.default_rng(0)
    chunks = [rng.random((num, 3, 24, 24), np.float32) for num in (1, 3, 9, 2, 5, 1, 7, 6) * 4]
    alone = [generate(chunk) for chunk in chunks]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(generate, chunks)) == alone
