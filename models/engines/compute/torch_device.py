"""The device of a replica in PyTorch, and how one and the same device computes the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from errors import ConfigError
from models.engines.contract import Machine


def open_device(machine: Machine) -> torch.device:
    """Set PyTorch up for what a replica may use.

    Threads and the share of memory are those of the whole process: a replica has one machine. The number of threads
    changes the last bits of float32 convolutions, so replicas that have to give the same bytes need the same number.

    Raises:
        ConfigError: CUDA was asked for and PyTorch finds none.
    """
    torch.set_num_threads(max(1, machine.num_threads))
    if machine.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("Expected a CUDA device, found none that PyTorch can use.")
    device = torch.device("cuda", 0)
    if machine.gpu_share < 1:
        torch.cuda.set_per_process_memory_fraction(machine.gpu_share, device)
    return device


@contextmanager
def repeatable() -> Iterator[None]:
    """Inference whose bytes depend on nothing but its input: no kernels chosen by timing, no TF32, no gradients."""
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        yield
