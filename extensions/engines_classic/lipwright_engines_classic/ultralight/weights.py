"""The files of this engine and its variants, and how they and the inputs of the audio encoders are recognised.

Two generations are in use, which differ in the number of audio channels: anliyuan/Ultralight-Digital-Human (README and
unet.py of 2026) takes 8 frames, the one that lipku/LiveTalking serves (ultralight/unet.py) takes 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from models.engines.protocol import TensorTable, WeightsSpec
from models.engines.weights.recognition import Shape, shape_fits, tensors_mismatch

AudioKind = Literal["hubert", "wenet"]

SIDE: Final = 160
"""Pixels of the picture that the network reads and writes."""
WIDTHS: Final = (32, 16)
"""Channels of the first layer: 32 as published, 16 where unet.py says "on a mobile device"."""
AUDIO_KEY: Final = "audio_model.conv1.conv.0.weight"
WIDTH_KEY: Final = "outc.conv.weight"
# Names of the checkpoints before and after the repository unwrapped two containers of one module each.
_OLD_NAMES: Final = ((".maxpool_conv.0.", ".maxpool_conv."), ("inc.inconv.0.", "inc.inconv."))


@dataclass(frozen=True)
class Variant:
    """One network of the family."""

    audio_kind: AudioKind = "hubert"  # kind of audio features
    num_frames: int = 8  # video frames of sound that it takes at once, half of them before its own: 8 or 16
    width: int = 32  # channels of the first layer

    @property
    def audio_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the audio features of one frame; face_utils.py (`reshape_audio_feat`), datasetsss.py."""
        if self.audio_kind == "hubert":
            return 2 * self.num_frames, 32, 32  # rows of 1024, two per frame
        return 16 * self.num_frames, 16, 32  # (16, 512) per frame


_BY_CHANNELS: Final[Mapping[int, tuple[AudioKind, int]]] = {
    16: ("hubert", 8),
    32: ("hubert", 16),
    128: ("wenet", 8),
    256: ("wenet", 16),
}


def published_name(name: str) -> str:
    """Map a parameter name of an older checkpoint to the current one."""
    for old, new in _OLD_NAMES:
        name = name.replace(old, new)
    return name


def variant_of_tensors(shapes: Mapping[str, tuple[int, ...]]) -> Variant | None:
    """Determine the variant from the shapes of the parameters by name.

    Return None if they are not of this family, or of a width that was not published for these features.
    """
    audio, out = shapes.get(AUDIO_KEY), shapes.get(WIDTH_KEY)
    if audio is None or out is None or len(audio) != 4 or len(out) != 4 or audio[1] not in _BY_CHANNELS:
        return None
    audio_kind, num_frames = _BY_CHANNELS[audio[1]]
    if out[0] != 3 or out[1] not in WIDTHS or (audio_kind == "wenet" and out[1] != WIDTHS[0]):
        return None
    return Variant(audio_kind, num_frames, out[1])


def unknown_variant(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return why `variant_of_tensors` does not recognise these parameters."""
    audio, width = (shapes.get(key) for key in (AUDIO_KEY, WIDTH_KEY))
    return (
        f"expected {AUDIO_KEY} for 16 or 32 (HuBERT) or 128 or 256 channels (WeNet) and {WIDTH_KEY} "
        f"(3, 32, 1, 1), found {audio} and {width}"
    )


def variant_of_audio(shape: tuple[int, ...]) -> Variant | None:
    """Determine the variant, except its width, from the (B, C, H, W) of the audio input of an ONNX export."""
    if len(shape) != 4 or shape[1] not in _BY_CHANNELS:
        return None
    audio_kind, num_frames = _BY_CHANNELS[shape[1]]
    variant = Variant(audio_kind, num_frames)
    return variant if tuple(shape[1:]) == variant.audio_shape else None


NUM_HUBERT_FEATURES: Final = 1024
"""Values per row of HuBERT large."""

# The streaming encoder: dihuman_run.py and data_utils/wenet_infer.py of anliyuan/Ultralight-Digital-Human.
CHUNK_FRAMES: Final = 67
OUTPUT_SHAPE: Final = (1, 16, 512)
NUM_WENET_FEATURES: Final = 16 * 512
CHUNK_SHAPE: Final = (1, 1, CHUNK_FRAMES, 80)
ATT_CACHE_SHAPE: Final = (3, 8, 16, 128)
CNN_CACHE_SHAPE: Final = (3, 1, 512, 14)
WENET_ROLES: Final = ["att_cache", "chunk", "cnn_cache", "offset"]


def input_role(shape: Shape) -> str | None:
    """Identify an input of the encoder by its shape; None if it is none of the four.

    Its last side must not be free, because it distinguishes the inputs.
    """
    if len(shape) <= 1:
        return "offset"
    known = {"chunk": CHUNK_SHAPE, "att_cache": ATT_CACHE_SHAPE, "cnn_cache": CNN_CACHE_SHAPE}
    return next((role for role, want in known.items() if shape_fits(shape, want, range(len(want) - 1))), None)


_PREFIX: Final = "hubert."  # in models for speech recognition
# Names of weight normalisation before and after PyTorch 2.1.
_NEW_NAMES: Final = (
    ("parametrizations.weight.original0", "weight_g"),
    ("parametrizations.weight.original1", "weight_v"),
)
_TELLING: Final = {
    "feature_extractor.conv_layers.0.conv.weight": (512, 1, 10),
    "feature_extractor.conv_layers.6.layer_norm.weight": (512,),
    "feature_projection.projection.weight": (1024, 512),
    "encoder.pos_conv_embed.conv.weight_v": (1024, 64, 128),
    "encoder.layers.23.attention.k_proj.weight": (1024, 1024),
    "encoder.layers.23.feed_forward.intermediate_dense.weight": (4096, 1024),
    "encoder.layer_norm.weight": (1024,),
}
"""Some parameters of facebook/hubert-large-ls960-ft, from its first layer to its last."""


def bare_name(name: str) -> str:
    """Return a parameter's name as `HubertNetwork` has it."""
    name = name.removeprefix(_PREFIX)
    for new, old in _NEW_NAMES:
        name = name.replace(new, old)
    return name


GENERATOR: Final = "generator"
_CODE_LICENCE: Final = (
    "Trained by the user, for one person; the training code's README names Apache-2.0, "
    "its repository holds no licence file."
)


def generator_variant(table: TensorTable) -> Variant | None:
    """Return which network a file contains; None if it is not of this family."""
    if table.format != "onnx":
        return variant_of_tensors(_rename_tensors(table))
    found = [variant_of_audio(shape) for shape in table.inputs if shape[1:] != (6, SIDE, SIDE)]
    pictures = [shape for shape in table.inputs if len(shape) == 4 and shape[1:] == (6, SIDE, SIDE)]
    return found[0] if len(found) == len(pictures) == 1 else None


def generator_mismatch(table: TensorTable) -> str | None:
    """Return why a file is not an Ultralight generator; None if it is one."""
    variant = generator_variant(table)
    if table.format == "onnx":
        answers = [shape for shape in table.outputs if len(shape) == 4 and shape[1:] == (3, SIDE, SIDE)]
        if variant is not None and answers:
            return None
        return (
            f"expected inputs (B, 6, {SIDE}, {SIDE}) and (B, 16 | 32, 32, 32) or (B, 128 | 256, 16, 32) and an output "
            f"(B, 3, {SIDE}, {SIDE}), found {list(table.inputs)} -> {list(table.outputs)}"
        )
    shapes = _rename_tensors(table)
    variant = variant_of_tensors(shapes)
    if variant is None:
        return unknown_variant(shapes)
    # Imported here: importing PyTorch takes two seconds, and most files are of other families.
    from lipwright_engines_classic.ultralight.network import parameters_mismatch

    return parameters_mismatch(shapes, variant)


def hubert_mismatch(table: TensorTable) -> str | None:
    """Return why a file is not HuBERT large; None if it is."""
    if table.format != "onnx":
        tensors = {bare_name(name): shape for name, shape in table.tensors.items()}
        return tensors_mismatch("HuBERT large", _TELLING, tensors, are_all=False)
    is_wave = bool(table.inputs) and all(len(shape) == 2 and shape[1] < 0 for shape in table.inputs)
    if is_wave and len(table.inputs) <= 2 and any(map(is_hubert_output, table.outputs)):
        return None
    return (
        f"expected an input (1, N) of any length, at most a mask beside it, and an output "
        f"(1, T, {NUM_HUBERT_FEATURES}), found {list(table.inputs)} -> {list(table.outputs)}"
    )


def is_hubert_output(shape: Shape) -> bool:
    """Return whether the shape of an output is that of HuBERT's rows."""
    return len(shape) == 3 and shape[2] == NUM_HUBERT_FEATURES


def wenet_mismatch(table: TensorTable) -> str | None:
    """Return why a file is not the streaming WeNet encoder; None if it is."""
    roles = sorted(input_role(shape) or "" for shape in table.inputs)
    if roles == WENET_ROLES and any(shape_fits(shape, OUTPUT_SHAPE) for shape in table.outputs):
        return None
    return (
        f"expected an ONNX file with inputs {CHUNK_SHAPE}, (1,), {ATT_CACHE_SHAPE}, {CNN_CACHE_SHAPE} and an output "
        f"{OUTPUT_SHAPE}, found {list(table.inputs)} -> {list(table.outputs)}"
    )


def _rename_tensors(table: TensorTable) -> dict[str, tuple[int, ...]]:
    return {published_name(name): shape for name, shape in table.tensors.items()}


ROLES: Final = (
    WeightsSpec(GENERATOR, "Generator trained for one person (.pth or .onnx)", _CODE_LICENCE, generator_mismatch),
    WeightsSpec(
        "hubert",
        "HuBERT large, for generators trained on it: pytorch_model.bin of hubert-large-ls960-ft, or an ONNX export",
        "Apache-2.0 (facebook/hubert-large-ls960-ft).",
        hubert_mismatch,
        alternative="wenet",
    ),
    WeightsSpec(
        "wenet",
        "WeNet's streaming encoder (encoder.onnx of Ultralight-Digital-Human), for generators trained on it",
        "Published without terms of its own; WeNet is Apache-2.0.",
        wenet_mismatch,
        alternative="hubert",
    ),
)
