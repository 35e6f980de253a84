from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.engines.runtime.torch_device import fold_batch_norm
from models.engines.wav2lip.network import Size, Wav2LipNetwork, face_input
from tests.unit.models.engines.reference import fill


@pytest.mark.parametrize("size", [96, 256])
def test_wav2lip_network_equals_published(reference: Callable[[str], Any], size: Size) -> None:
    stored = reference(f"wav2lip{size}_core.npz")
    network = Wav2LipNetwork(size).eval()
    published = dict(zip(stored["keys"].tolist(), stored["shapes"].tolist(), strict=True))
    assert {name: ",".join(map(str, tensor.shape)) for name, tensor in network.state_dict().items()} == published
    fill(network, stored)
    mel, faces = torch.from_numpy(stored["mel"])[:, None], torch.from_numpy(stored["faces_u8"])
    step = int(stored["out_stride"])

    def difference() -> float:
        with torch.inference_mode():
            generated: Tensor = network(mel, face_input(faces))
        return float(np.abs(generated[:, :, ::step, ::step].numpy() - stored["out"]).max())

    assert difference() <= 1e-4
    fold_batch_norm(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert difference() <= 1e-4
