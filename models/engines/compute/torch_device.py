"""The device of a replica in PyTorch, and how one and the same device computes the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from errors import ConfigError
from models.engines.contract import Machine


def open_device(machine: Machine) -> torch.device:
    """Set PyTorch up for what a replica may use.

    Threads are those of the whole process: a replica has one machine, and bounds its share of the GPU's memory at its
    start. The number of threads changes the last bits of float32 convolutions, so replicas that have to give the same
    bytes need the same number.

    Raises:
        ConfigError: CUDA was asked for and PyTorch finds none.
    """
    torch.set_num_threads(max(1, machine.num_threads))
    if machine.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("Expected a CUDA device, found none that PyTorch can use.")
    return torch.device("cuda", 0)


@contextmanager
def repeatable() -> Iterator[None]:
    """Inference whose bytes depend on nothing but its input: no kernels chosen by timing, no TF32, no gradients.

    The choice of kernels is the process's and stays: painters of several engines run at once, and one that took its
    choice back would take that of another one too.
    """
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.inference_mode():
        yield
