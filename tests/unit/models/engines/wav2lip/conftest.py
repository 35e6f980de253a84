"""A generator's file, and what the published one gives."""

from pathlib import Path

import pytest
import torch

from tests.unit.models.engines.wav2lip.networks import made_up_parameters


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the variant for 96 x 96, as training scripts write them."""
    path = tmp_path_factory.mktemp("wav2lip") / "wav2lip.pth"
    parameters = {f"module.{name}": tensor for name, tensor in made_up_parameters(96).items()}
    torch.save({"state_dict": parameters, "optimizer": None, "global_step": 1, "global_epoch": 1}, path)
    return path
