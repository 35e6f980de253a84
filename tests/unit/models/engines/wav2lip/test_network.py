from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.engines.runtime.torch_device import fold_batch_norm
from models.engines.wav2lip.network import Size, Wav2LipNetwork, face_input
from tests.unit.models.engines.wav2lip.reference_weights import reference_parameters


@pytest.mark.parametrize("size", [96, 256])
def test_wav2lip_network_equals_published(reference: Callable[[str], Any], size: Size) -> None:
    stored = reference(f"wav2lip{size}_core.npz")
    network = Wav2LipNetwork(size).eval()
    published = dict(zip(stored["keys"].tolist(), stored["shapes"].tolist(), strict=True))
    assert {name: ",".join(map(str, tensor.shape)) for name, tensor in network.state_dict().items()} == published
    network.load_state_dict(reference_parameters(network, stored))
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


def test_face_input_equals_official_script() -> None:
    faces = np.random.default_rng(4).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    hidden = faces.copy()
    hidden[:, 48:] = 0
    official = torch.FloatTensor(np.transpose(np.concatenate((hidden, faces), 3) / 255.0, (0, 3, 1, 2)))
    assert torch.equal(face_input(torch.from_numpy(faces)), official)
