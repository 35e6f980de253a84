"""Small networks with made-up weights, of the same classes as the published ones, and their files."""

from typing import Final

import pytest
import torch

from models.engines.musetalk.network import PUBLISHED, Architecture, make_unet, make_vae
from models.engines.musetalk.whisper import WhisperEncoder, WhisperShape
from models.engines.runtime.checkpoints import shapes_of
from tests.random_weights.parameters import made_up
from tests.unit.models.engines.brought import Brought

SMALL_WHISPER: Final = WhisperShape(width=8, num_heads=2, num_layers=2)
_FEW: Final = {"norm_num_groups": 4, "layers_per_block": 1}
SMALL: Final = Architecture(
    unet={
        **PUBLISHED.unet,
        **_FEW,
        "block_out_channels": (8, 8, 16, 16),
        "cross_attention_dim": 8,
        "attention_head_dim": 2,
    },
    vae={**PUBLISHED.vae, **_FEW, "block_out_channels": (8, 8, 8, 8)},
    picture_size=64,
)


@pytest.fixture(scope="session")
def small_whisper() -> WhisperEncoder:
    network = WhisperEncoder(SMALL_WHISPER)
    network.load_state_dict(made_up(shapes_of(network)))
    return network.eval()


@pytest.fixture(scope="session")
def small_files(tmp_path_factory: pytest.TempPathFactory, small_whisper: WhisperEncoder) -> Brought:
    """The files of small networks: a plain state dict, safetensors with the names of 2022, OpenAI's wrapper."""
    pytest.importorskip("diffusers", reason="needs the extra musetalk")
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")
    torch.save(made_up(shapes_of(make_unet(SMALL))), folder / "unet")
    vae = {}
    for name, tensor in made_up(shapes_of(make_vae(SMALL))).items():
        if ".attentions." in name:
            for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
                name = name.replace(f".{new}.", f".{old}.")
        vae[name] = tensor
    save_file(vae, folder / "vae")
    whisper = {f"encoder.{name}": tensor for name, tensor in small_whisper.state_dict().items()}
    torch.save({"dims": {"n_mels": 80}, "model_state_dict": whisper}, folder / "whisper")
    return Brought({role: folder / role for role in ("unet", "vae", "whisper")})
