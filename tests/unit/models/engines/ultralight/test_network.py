from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from models.engines.ultralight.network import UltralightNetwork, published_names
from models.engines.ultralight.weights import Variant, variant_of_audio, variant_of_tensors
from tests.conftest import REPO_ROOT

_REFERENCE = REPO_ROOT.parent / "shared" / "reference"


@pytest.mark.parametrize("audio_kind", ["hubert", "wenet"])
def test_ultralight_network_equals_published(audio_kind: str) -> None:
    if not _REFERENCE.is_dir():
        pytest.skip("needs the reference tensors that do not ship with the repository (../shared/reference)")
    stored = _REFERENCE / f"ultralight_{audio_kind}_core.npz"
    ours = f"models.engines.ultralight.network:UltralightNetwork:{audio_kind}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(_REFERENCE / "check.py"), str(stored), ours]
    run = subprocess.run(command, cwd=REPO_ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "OK" in run.stdout, run.stdout + run.stderr


@pytest.mark.parametrize(
    "variant", [Variant(), Variant("hubert", 16), Variant("hubert", 8, 16), Variant("wenet"), Variant("wenet", 16)]
)
def test_variant_of_tensors_recognises_every_variant(variant: Variant) -> None:
    with torch.device("meta"):
        network = UltralightNetwork(variant.audio_kind, variant.num_frames, variant.width)
        out = network(torch.empty(2, 6, 160, 160), torch.empty(2, *variant.audio_shape))
    assert out.shape == (2, 3, 160, 160)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert variant_of_tensors(shapes) == variant
    found = variant_of_audio((1, *variant.audio_shape))
    assert found is not None
    assert (found.audio_kind, found.num_frames) == (variant.audio_kind, variant.num_frames)


def test_published_names_maps_older_checkpoints() -> None:
    """LiveTalking's unet.py wraps two modules in a container of one."""
    network = UltralightNetwork(width=16)
    older = {
        name.replace("maxpool_conv.", "maxpool_conv.0.").replace("inc.inconv.", "inc.inconv.0."): tensor
        for name, tensor in network.state_dict().items()
    }
    assert len(older) == len(set(older) - set(network.state_dict())) + sum(
        name in older for name in network.state_dict()
    )
    assert set(older) != set(network.state_dict())
    network.load_state_dict(published_names(older))


def test_variant_of_tensors_other_shapes_gives_none() -> None:
    assert variant_of_tensors({"face_encoder_blocks.0.0.conv_block.0.weight": (16, 6, 7, 7)}) is None
    assert variant_of_audio((1, 1, 80, 16)) is None
    assert variant_of_audio((1, 16, 16, 32)) is None
