"""The original DINet in its published size."""

from pathlib import Path

import torch

from lipwright_engines_classic.dinet.network import DINet
from models.engines.runtime.checkpoints import shapes_of
from tests.random_weights.parameters import made_up


def save_dinet(path: Path) -> Path:
    """Writes a checkpoint in the format of MRzzm/DINet."""
    with torch.device("meta"):
        shapes = shapes_of(DINet())
    torch.save({"state_dict": {"net_g": made_up(shapes)}}, path)
    return path
