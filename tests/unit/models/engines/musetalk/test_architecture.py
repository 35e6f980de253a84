"""The published sizes, without allocating them, and the files that hold them."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import nn

from errors import ConfigError, WeightsError
from models.engines.musetalk.network import PUBLISHED, make_unet, make_vae, vae_tensors
from models.engines.musetalk.weights import ROLES, unet_mismatch, vae_mismatch, whisper_mismatch
from models.engines.musetalk.whisper import WhisperEncoder
from models.engines.protocol import TensorTable
from models.engines.runtime.checkpoints import load_parameters, read_checkpoint
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.musetalk.conftest import SMALL, seeded

diffusers = pytest.importorskip("diffusers", reason="needs the extra musetalk")


def table_of(network: nn.Module, prefix: str = "") -> TensorTable:
    return TensorTable("torch", {prefix + name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})


def without(table: TensorTable, name: str) -> TensorTable:
    return TensorTable(table.format, {key: shape for key, shape in table.tensors.items() if key != name})


def test_make_networks_have_published_parameter_counts() -> None:
    """850 and 84 million parameters: those of the model cards of Stable Diffusion 1, with 384 in place of 768 heard."""
    unet, vae = make_unet(PUBLISHED), make_vae(PUBLISHED)
    assert {tensor.device.type for tensor in (*unet.parameters(), *vae.parameters())} == {"meta"}
    assert len(unet.state_dict()) == 686
    assert sum(tensor.numel() for tensor in unet.parameters()) == 849_947_844
    assert len(vae.state_dict()) == 248
    assert sum(tensor.numel() for tensor in vae.parameters()) == 83_653_863
    assert cast(Any, vae).config.scaling_factor == PUBLISHED.latent_scale


def test_musetalk_roles_accept_only_their_files() -> None:
    whisper = table_of(WhisperEncoder(), "model.encoder.")
    decoder = {"model.decoder.embed_tokens.weight": (51865, 384)}
    tables = [
        table_of(make_unet(PUBLISHED)),
        table_of(make_vae(PUBLISHED)),
        TensorTable("safetensors", {**whisper.tensors, **decoder}),
    ]
    for i, role in enumerate(ROLES):
        for k, table in enumerate(tables):
            found = role.mismatch(table)
            assert (found is None) == (i == k), (role.name, k, found)


def test_musetalk_roles_name_wrong_shapes() -> None:
    table = table_of(make_unet(PUBLISHED))
    key = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    other = TensorTable("torch", {**table.tensors, key: (320, 768)})
    assert unet_mismatch(other) == f"expected MuseTalk's U-Net with {key} (320, 384), found (320, 768)"
    assert unet_mismatch(without(table, "conv_out.bias")) == ("expected MuseTalk's U-Net with 686 tensors, found 685")
    assert "ONNX" in (vae_mismatch(TensorTable("onnx", {})) or "")
    base = {"encoder.conv1.weight": (512, 80, 3)}
    assert "(384, 80, 3), found (512, 80, 3)" in (whisper_mismatch(TensorTable("torch", base)) or "")


def test_vae_tensors_renames_attention_of_2022(small_files: Brought) -> None:
    stored = read_checkpoint(small_files.path("vae"))
    assert any(".attentions.0.query." in name for name in stored)
    vae = make_vae(SMALL, small_files.path("vae"))
    wanted = seeded(make_vae(SMALL))
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in vae.state_dict().items())
    flat = vae_tensors({"encoder.mid_block.attentions.0.query.weight": torch.zeros(8, 8, 1, 1)})
    assert {name: tuple(tensor.shape) for name, tensor in flat.items()} == {
        "encoder.mid_block.attentions.0.to_q.weight": (8, 8)
    }


def test_load_parameters_wrong_shapes_names_tensors() -> None:
    fits = {"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}

    def load(tensors: dict[str, torch.Tensor]) -> nn.Linear:
        return load_parameters(nn.Linear(2, 3, device="meta"), tensors, "a line", "a.pth")

    assert load(fits)(torch.ones(2)).tolist() == [0, 0, 0]
    with pytest.raises(WeightsError, match=r"a\.pth: expected a line with weight \(3, 2\), found \(2, 3\)"):
        load({**fits, "weight": torch.zeros(2, 3)})
    with pytest.raises(WeightsError, match=r"with bias \(3,\), found none"):
        load({"weight": fits["weight"]})
    with pytest.raises(WeightsError, match="with 2 tensors, found 1 more, as more"):
        load({**fits, "more": torch.zeros(1)})


def test_make_unet_without_diffusers_names_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[musetalk\]'"):
        make_unet(SMALL)
