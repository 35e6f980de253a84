"""The files of MuseTalk: which file has which role, recognised by the shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from models.engines.protocol import TensorTable, WeightsSpec
from models.engines.weights.recognition import Shape, tensors_mismatch

UNET, VAE, WHISPER = "unet", "vae", "whisper"

# Of UNet2DConditionModel with the sizes in musetalkV15/musetalk.json: 686 tensors. `attn2` attends to the audio
# features, 384 wide; that and the eight input channels distinguish it from the U-Net of Stable Diffusion.
_UNET_COUNT: Final = 686
_UNET_SHAPES: Final[Mapping[str, Shape]] = {
    "conv_in.weight": (320, 8, 3, 3),
    "time_embedding.linear_1.weight": (1280, 320),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (320, 384),
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight": (1280, 384),
    "up_blocks.3.resnets.2.conv_shortcut.weight": (320, 640, 1, 1),
    "conv_out.weight": (4, 320, 3, 3),
}
# Of AutoencoderKL with the sizes in the config.json of stabilityai/sd-vae-ft-mse: 248 tensors.
_VAE_COUNT: Final = 248
_VAE_SHAPES: Final[Mapping[str, Shape]] = {
    "encoder.conv_in.weight": (128, 3, 3, 3),
    "encoder.conv_out.weight": (8, 512, 3, 3),
    "quant_conv.weight": (8, 8, 1, 1),
    "post_quant_conv.weight": (4, 4, 1, 1),
    "decoder.conv_in.weight": (512, 4, 3, 3),
    "decoder.conv_out.weight": (3, 128, 3, 3),
}
# Of Whisper tiny (whisper/model.py, transformers' models/whisper/modeling_whisper.py). 67 tensors are the encoder's.
_WHISPER_SHAPES: Final[Mapping[str, Shape]] = {
    "encoder.conv1.weight": (384, 80, 3),
    "encoder.conv2.weight": (384, 384, 3),
}
_WHISPER_COUNT: Final = 67
_WHISPER_PREFIX = re.compile(r"^(?:model\.)?(?=encoder\.)")


def unet_mismatch(table: TensorTable) -> str | None:
    """Return None for MuseTalk's U-Net, 1 or 1.5, otherwise what was expected and found."""
    return _mismatch("MuseTalk's U-Net", table, table.tensors, _UNET_SHAPES, _UNET_COUNT)


def vae_mismatch(table: TensorTable) -> str | None:
    """Return None for Stable Diffusion's VAE, under the names of diffusers, otherwise what was expected and found."""
    return _mismatch("the VAE sd-vae-ft-mse", table, table.tensors, _VAE_SHAPES, _VAE_COUNT)


def whisper_mismatch(table: TensorTable) -> str | None:
    """Return None for Whisper tiny, as transformers or OpenAI publish it, otherwise what was expected and found."""
    encoder = {
        _WHISPER_PREFIX.sub("", name): shape for name, shape in table.tensors.items() if _WHISPER_PREFIX.match(name)
    }
    return _mismatch("the encoder of Whisper tiny", table, encoder, _WHISPER_SHAPES, _WHISPER_COUNT)


def _mismatch(
    what: str, table: TensorTable, found: Mapping[str, Shape], shapes: Mapping[str, Shape], count: int
) -> str | None:
    if table.format == "onnx":
        return f"expected {what} as a torch or safetensors file, found an ONNX file"
    wrong_count = f"expected {what} with {count} tensors, found {len(found)}" if len(found) != count else None
    return tensors_mismatch(what, shapes, found, are_all=False) or wrong_count


ROLES: Final = (
    WeightsSpec(
        UNET,
        "MuseTalk's U-Net (musetalkV15/unet.pth, or musetalk/pytorch_model.bin of version 1)",
        "TMElyralab/MuseTalk: code MIT; the trained models may be used for any purpose, also commercially",
        unet_mismatch,
    ),
    WeightsSpec(
        VAE,
        "Stable Diffusion's VAE (sd-vae-ft-mse/diffusion_pytorch_model.safetensors or .bin)",
        "stabilityai/sd-vae-ft-mse: MIT",
        vae_mismatch,
    ),
    WeightsSpec(
        WHISPER,
        "Whisper tiny (whisper-tiny/model.safetensors or pytorch_model.bin, or OpenAI's tiny.pt)",
        "openai/whisper-tiny: Apache-2.0; OpenAI's own files: MIT",
        whisper_mismatch,
    ),
)
