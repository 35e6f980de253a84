"""Feeds batches to a network and returns its results.

On a GPU three things go on at once, each on a stream of its own: batch k + 1 is uploaded while k is computed and k - 1
comes back. Host memory is pinned, otherwise copies would wait for each other. On a CPU nothing is copied at all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.engines.runtime.batching import Batch, SharedBatches
from models.engines.runtime.torch_device import Precision, choose_precision, fold_batch_norm, repeatable

Compute = Callable[..., Tensor]
"""Takes the tensors of a batch, on the device, and returns one tensor of as many rows."""


class DeviceFeed:
    """Runs batches on a device.

    All batches of one call have the same shapes, and one thread calls at a time, because there is one pair of slots;
    `models.engines.runtime.batching` ensures both.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lanes: _Lanes | None = None

    def run(self, batches: Iterable[Batch], compute: Compute) -> Iterator[NDArray[np.generic]]:
        """Compute batches, in order; yield the wanted rows of each result."""
        if self._device.type == "cpu":
            for arrays, num in batches:
                yield compute(*(torch.from_numpy(array) for array in arrays))[:num].numpy()
        else:
            yield from self._run_ahead(iter(batches), compute)

    def _run_ahead(self, batches: Iterator[Batch], compute: Compute) -> Iterator[NDArray[np.generic]]:
        if self._lanes is None:
            self._lanes = _Lanes(self._device)
        lanes, waiting = self._lanes, list[tuple[Tensor, torch.cuda.Event, int]]()
        upcoming = next(batches, None)
        turn = 0
        if upcoming is not None:
            lanes.upload(turn, upcoming[0])
        while upcoming is not None:
            current, upcoming = upcoming, next(batches, None)
            result = compute(*lanes.take(turn))
            lanes.release(turn)
            waiting.append((*lanes.download(turn, result), current[1]))
            turn = 1 - turn
            if upcoming is not None:
                lanes.upload(turn, upcoming[0])
            # One result stays in transit, so that the next batch is queued before this one is awaited.
            while len(waiting) > (1 if upcoming is not None else 0):
                yield _wait_for_copy(*waiting.pop(0))


class DeviceBatches:
    """Shared batches that are computed on a device; see `models.engines.runtime.batching.SharedBatches`."""

    def __init__(self, device: torch.device, size: int) -> None:
        self._feed, self._batches = DeviceFeed(device), SharedBatches(size)

    def fill(
        self,
        out: NDArray[Any],
        arrays: tuple[NDArray[Any], ...],
        compute: Compute,
        should_stop: Callable[[], bool] = lambda: False,
        together: Hashable = True,
    ) -> None:
        """Compute N rows; see `SharedBatches.fill`. `compute` is run as `repeatable` says."""
        with repeatable():
            self._batches.fill(out, arrays, partial(self._feed.run, compute=compute), should_stop, together)


def _wait_for_copy(host: Tensor, done: torch.cuda.Event, num: int) -> NDArray[np.generic]:
    done.synchronize()
    return host[:num].numpy().copy()


@dataclass
class _Slot:
    """The memory of one batch in transit."""

    pinned: list[Tensor] = field(default_factory=list)
    device: list[Tensor] = field(default_factory=list)
    result: Tensor | None = None
    uploaded: torch.cuda.Event = field(default_factory=torch.cuda.Event)
    computed: torch.cuda.Event = field(default_factory=torch.cuda.Event)


class _Lanes:
    """Two slots, and the streams that copy their batches to and from the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._slots = (_Slot(), _Slot())
        self._up, self._down = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]

    def upload(self, turn: int, arrays: Sequence[NDArray[Any]]) -> None:
        """Start to upload a batch into a slot."""
        slot = self._slots[turn]
        sources = [torch.from_numpy(array) for array in arrays]
        if [(pinned.shape, pinned.dtype) for pinned in slot.pinned] != [(s.shape, s.dtype) for s in sources]:
            slot.pinned = [torch.empty(source.shape, dtype=source.dtype, pin_memory=True) for source in sources]
            slot.device = [torch.empty_like(source, device=self._device) for source in sources]
            # Reused memory may still be read by operations that are queued on the computing stream.
            self._up.wait_stream(torch.cuda.current_stream(self._device))
        slot.uploaded.synchronize()  # the batch before has left this pinned memory
        for pinned, source in zip(slot.pinned, sources, strict=True):
            pinned.copy_(source)
        with torch.cuda.stream(self._up):
            self._up.wait_event(slot.computed)  # ... and was computed, so that its device memory is free
            for target, pinned in zip(slot.device, slot.pinned, strict=True):
                target.copy_(pinned, non_blocking=True)
            slot.uploaded.record()

    def take(self, turn: int) -> list[Tensor]:
        """Return the tensors of a slot; operations queued from now on wait for them."""
        torch.cuda.current_stream(self._device).wait_event(self._slots[turn].uploaded)
        return self._slots[turn].device

    def release(self, turn: int) -> None:
        """Mark the slot's tensors as unused by operations that are queued from now on."""
        self._slots[turn].computed.record(torch.cuda.current_stream(self._device))

    def download(self, turn: int, result: Tensor) -> tuple[Tensor, torch.cuda.Event]:
        """Start to copy a result to the host; return its memory, and the event after which it is there."""
        slot = self._slots[turn]
        if slot.result is None or slot.result.shape != result.shape or slot.result.dtype != result.dtype:
            slot.result = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._down):
            self._down.wait_event(slot.computed)
            slot.result.copy_(result, non_blocking=True)
            result.record_stream(self._down)
            done.record()
        return slot.result, done


class FoldedNetwork:
    """A convolutional network on a device: batch normalisation folded, channels last, in the precision that fits.

    Args:
        network: On the CPU, in evaluation mode; it is changed in place.
        device: Where it runs.
        batch_size: Rows of a batch.
        precision: See `choose_precision`.
        run_samples: Runs a network in a precision on synthetic inputs.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        batch_size: int,
        precision: Precision,
        run_samples: Callable[[nn.Module, torch.dtype], Tensor],
    ) -> None:
        fold_batch_norm(network)
        self.network: nn.Module = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batches = DeviceBatches(device, batch_size)

        def run(dtype: torch.dtype) -> Tensor:
            copy = self.network if dtype == torch.float32 else deepcopy(self.network).to(dtype)
            return run_samples(copy, dtype)

        with repeatable():
            self.dtype = choose_precision(run, precision, device)
            self.network.to(self.dtype)
