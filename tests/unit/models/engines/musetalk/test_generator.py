import math
import sys
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from lipwright.errors import ConfigError
from lipwright.media.yuv_frame import from_rgb
from models.engines.musetalk.generator import MuseTalkFaceGenerator, load_face_generator
from models.engines.musetalk.network import (
    PUBLISHED,
    FaceNetworks,
    in_fitting_precision,
    make_unet,
    make_vae,
    paint_sample,
    place_waves,
    vae_tensors,
)
from models.engines.musetalk.options import MuseTalkOptions
from models.engines.musetalk.weights import unet_mismatch, vae_mismatch, whisper_mismatch
from models.engines.paste.crop import BoxChunk, BoxPlan, BoxTrack, crop_boxes
from models.engines.paste.resample import Interpolation, box_rgb
from models.engines.protocol import ComputeResources, TensorTable
from models.engines.runtime.checkpoints import read_checkpoint, shapes_of
from models.engines.runtime.torch_device import PICTURE, half_precision
from tests.random_weights.parameters import made_up
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.musetalk.conftest import SMALL
from tests.unit.models.engines.paste.scenes import BT709, make_track, smooth_rgb

pytest.importorskip("diffusers", reason="needs the extra musetalk")

HEARD = np.random.default_rng(0).normal(size=(8, 30, 8)).astype(np.float32)
BOXES = np.array([[30.0, 20.0, 110.0, 105.0], [33.5, 22.25, 113.5, 107.25], [36.0, 25.0, 116.0, 110.0]])


@pytest.fixture(scope="module")
def networks(small_files: Brought) -> FaceNetworks:
    unet, vae = make_unet(SMALL, small_files.path("unet")), make_vae(SMALL, small_files.path("vae"))
    return FaceNetworks(unet, vae, SMALL, torch.device("cpu"))


def chunk_of(source: list[int], track: BoxTrack | None = None) -> BoxChunk:
    """Face t is driven by `HEARD[t]`."""
    return cut_of(list(enumerate(source)), track)


def cut_of(shown: list[tuple[int, int]], track: BoxTrack | None = None) -> BoxChunk:
    """Cut pairs of what is heard and the source frame."""
    pictures = {frame: from_rgb(smooth_rgb(seed=frame), BT709) for _, frame in shown}
    frames = [pictures[frame] for _, frame in shown]
    plan = BoxPlan(0, np.array([frame for _, frame in shown], np.int32), HEARD[[heard for heard, _ in shown]])
    return crop_boxes(track or make_track(BOXES), BT709, plan, frames)


def pictures(num: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.stack([smooth_rgb(64, 64, seed) for seed in range(num)]))


def test_encode_gives_masked_then_whole_latents(networks: FaceNetworks) -> None:
    whole = pictures()
    latents = networks.encode(whole)
    assert latents.shape == (2, 8, 8, 8)
    upper, lower = whole.clone(), whole.clone()
    upper[:, :32] = 0
    lower[:, 32:] = 0
    # The lower half does not reach the first four channels, but the others.
    blackened = networks.encode(lower)
    assert torch.equal(latents[:, :4], blackened[:, :4])
    assert torch.allclose(blackened[:, :4], blackened[:, 4:], atol=1e-5)
    assert not torch.allclose(latents[:, 4:], blackened[:, 4:], atol=1e-2)
    assert not torch.allclose(latents[:, :4], networks.encode(upper)[:, :4], atol=1e-2)
    by_hand = networks._vae.encode(whole.permute(0, 3, 1, 2).float() / 255 * 2 - 1).latent_dist
    assert torch.allclose(latents[:, 4:], by_hand.mean * 0.18215, atol=1e-5)
    assert not torch.allclose(latents[:, 4:], by_hand.sample() * 0.18215, atol=1e-3)  # noise, each time another


@torch.inference_mode()
def test_render_equals_published_steps(networks: FaceNetworks) -> None:
    latents, features = networks.encode(pictures()), torch.zeros(2, 30, 8)
    waves = place_waves(50, 384)
    assert waves.shape == (50, 384)
    for place, channel in ((0, 0), (0, 1), (7, 10), (49, 383)):
        angle = place / 10000 ** (channel // 2 * 2 / 384)
        assert float(waves[place, channel]) == pytest.approx((math.sin, math.cos)[channel % 2](angle), abs=1e-5)
    heard = place_waves(30, 8)[None].expand(2, -1, -1)
    raw = networks._unet(latents, torch.tensor([0]), encoder_hidden_states=heard).sample
    wanted = networks._vae.decode(raw / 0.18215).sample.permute(0, 2, 3, 1) / 2 + 0.5
    shown = networks.render(latents, features)
    assert torch.equal(shown, (wanted * 255).round().clamp(0, 255).byte())
    assert shown.shape == (2, 64, 64, 3)
    features = torch.randn(2, 30, 8, generator=torch.Generator().manual_seed(1))
    generated = networks.render(latents, features)
    assert not torch.equal(generated, networks.render(latents, features + 1))
    # Attention does not know the order of the rows; their marks do.
    assert not torch.equal(generated, networks.render(latents, features.flip(1)))


def test_musetalk_latents_are_cached_within_limit(networks: FaceNetworks) -> None:
    class Counting(FaceNetworks):
        num_encoded = 0

        def encode(self, pictures: torch.Tensor) -> torch.Tensor:
            self.num_encoded += len(pictures)
            return super().encode(pictures)

    counting = Counting(networks._unet, networks._vae, SMALL, torch.device("cpu"))
    face_generator = MuseTalkFaceGenerator(counting, MuseTalkOptions(max_kept_latents=2))
    first = face_generator.generate(chunk_of([0, 1, 0, 1]))
    assert counting.num_encoded == 2
    assert np.array_equal(face_generator.generate(chunk_of([0, 1, 0, 1])).y, first.y)
    assert counting.num_encoded == 2
    face_generator.generate(chunk_of([2]))
    assert counting.num_encoded == 3
    assert len(face_generator._latents) == 2
    face_generator.generate(chunk_of([0]))
    assert counting.num_encoded == 4
    forgetful = MuseTalkFaceGenerator(counting, MuseTalkOptions(max_kept_latents=0))
    assert np.array_equal(forgetful.generate(chunk_of([0, 1, 0, 1])).y, first.y)
    assert len(forgetful._latents) == 0


def test_musetalk_large_box_is_averaged_down(networks: FaceNetworks, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    encode = networks.encode

    def watch(pictures: torch.Tensor) -> torch.Tensor:
        seen.append(pictures)
        return encode(pictures)

    monkeypatch.setattr(networks, "encode", watch)
    face_generator = MuseTalkFaceGenerator(networks, MuseTalkOptions())
    kinds: tuple[Interpolation, ...] = ("lanczos", "area")
    for size, interpolation in zip((80, 115), kinds, strict=True):
        chunk = chunk_of([0], make_track(np.array([[20.0, 2.0, 20.0 + size, 2.0 + size]])))
        face_generator.generate(chunk)
        wanted = {kind: box_rgb(chunk, 64, kind) for kind in kinds}
        assert not np.array_equal(wanted["lanczos"], wanted["area"])
        assert np.array_equal(seen[-1].numpy(), wanted[interpolation])


def test_in_fitting_precision_uses_half_only_if_close(networks: FaceNetworks) -> None:
    assert in_fitting_precision(networks, "fp32") is networks
    half = networks.in_precision(torch.bfloat16)
    assert half.dtype == half.encode(pictures()).dtype == torch.bfloat16
    assert networks.encode(pictures()).dtype == torch.float32  # the original stays what it was
    difference = (paint_sample(networks) - paint_sample(half)).abs()
    assert 0 < difference.mean() < 0.05
    is_small = bool(difference.mean() <= PICTURE.mean and difference.max() <= PICTURE.largest)
    assert in_fitting_precision(networks, "auto") is networks  # a CPU
    chosen = in_fitting_precision(networks, "half")
    is_fast = half_precision(torch.device("cpu")) is not None
    assert chosen.dtype == (torch.bfloat16 if is_small and is_fast else torch.float32)
    assert torch.equal(paint_sample(networks), paint_sample(networks.in_precision(torch.float32)))


def test_in_fitting_precision_overflow_stays_fp32(small_files: Brought) -> None:
    unet = make_unet(SMALL, small_files.path("unet"))
    vae: Any = make_vae(SMALL, small_files.path("vae"))
    with torch.no_grad():  # large inside, ordinary outside
        vae.quant_conv.weight.mul_(1e6)
        vae.quant_conv.bias.mul_(1e6)
    loud = FaceNetworks(unet, vae, replace(SMALL, latent_scale=SMALL.latent_scale / 1e6), torch.device("cpu"))
    assert bool(loud.encode(pictures()).isfinite().all())
    assert not bool(loud.in_precision(torch.float16).encode(pictures()).isfinite().all())
    assert not bool((paint_sample(loud) - paint_sample(loud.in_precision(torch.float16))).abs().max() <= 1)


@pytest.mark.needs_cuda
def test_musetalk_cuda_equals_cpu(small_files: Brought, networks: FaceNetworks) -> None:
    chunk = chunk_of([0, 1, 2, 1, 0])
    wanted = MuseTalkFaceGenerator(networks, MuseTalkOptions()).generate(chunk)
    for precision, levels in (("fp32", 3.0), ("auto", 12.0)):
        options = MuseTalkOptions.model_validate({"precision": precision})
        face_generator = load_face_generator(small_files, options, ComputeResources("cuda", 1), SMALL)
        found = face_generator.generate(chunk)
        assert np.abs(found.y.astype(int) - wanted.y).max() <= levels
        again = load_face_generator(small_files, options, ComputeResources("cuda", 1), SMALL)
        part = again.generate(cut_of([(3, 1), (1, 1)]))
        assert np.array_equal(part.y, found.y[[3, 1]])


def test_make_networks_have_published_parameter_counts() -> None:
    """850 and 84 million parameters: those of the model cards of Stable Diffusion 1, with 384 in place of 768 heard."""
    unet, vae = make_unet(PUBLISHED), make_vae(PUBLISHED)
    assert {tensor.device.type for tensor in (*unet.parameters(), *vae.parameters())} == {"meta"}
    assert len(unet.state_dict()) == 686
    assert sum(tensor.numel() for tensor in unet.parameters()) == 849_947_844
    assert len(vae.state_dict()) == 248
    assert sum(tensor.numel() for tensor in vae.parameters()) == 83_653_863
    assert cast(Any, vae).config.scaling_factor == PUBLISHED.latent_scale


def test_musetalk_roles_name_wrong_shapes() -> None:
    shapes = shapes_of(make_unet(PUBLISHED))
    key = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    other = TensorTable("torch", {**shapes, key: (320, 768)})
    assert unet_mismatch(other) == f"expected MuseTalk's U-Net with {key} (320, 384), found (320, 768)"
    fewer = TensorTable("torch", {name: shape for name, shape in shapes.items() if name != "conv_out.bias"})
    assert unet_mismatch(fewer) == "expected MuseTalk's U-Net with 686 tensors, found 685"
    assert "ONNX" in (vae_mismatch(TensorTable("onnx", {})) or "")
    base = {"encoder.conv1.weight": (512, 80, 3)}
    assert "(384, 80, 3), found (512, 80, 3)" in (whisper_mismatch(TensorTable("torch", base)) or "")


def test_vae_tensors_renames_attention_of_2022(small_files: Brought) -> None:
    stored = read_checkpoint(small_files.path("vae"))
    assert any(".attentions.0.query." in name for name in stored)
    vae = make_vae(SMALL, small_files.path("vae"))
    wanted = made_up(shapes_of(make_vae(SMALL)))
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in vae.state_dict().items())
    flat = vae_tensors({"encoder.mid_block.attentions.0.query.weight": torch.zeros(8, 8, 1, 1)})
    ((name, tensor),) = flat.items()
    assert (name, tensor.shape) == ("encoder.mid_block.attentions.0.to_q.weight", (8, 8))


def test_make_unet_without_diffusers_names_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[musetalk\]'"):
        make_unet(SMALL)
