"""The files of this engine and how they are recognised."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final, Literal

from lipwright.errors import WeightsError
from models.engines.protocol import TensorTable, WeightsSpec
from models.engines.runtime.checkpoints import file_format
from models.engines.weights.recognition import Shape, ports_mismatch, tensors_mismatch

# Inputs and outputs of ONNX files, in their order; -1 matches any size.

NUM_BANDS: Final = 80
"""Mel bands of WeNet's encoder."""
NUM_DEEPSPEECH_INPUTS: Final = 494
"""Input values of DeepSpeech per step: 19 rows of 26 cepstra."""
CROP_SIDE: Final = 256
"""Side of HeyGem's crop, `model_input_size` of the published checkpoint."""

_PICTURE: Final[Shape] = (-1, 3, CROP_SIDE, CROP_SIDE)
# Each returns None for its network, otherwise what was expected and found.
heygem_mismatch: Final = partial(ports_mismatch, inputs=(_PICTURE, _PICTURE, (-1, 256, 20)), outputs=(_PICTURE,))
"""HeyGem's generator: crop with the mouth black, the same crop unmasked, wenet window; RGB in [0, 1]."""
wenet_mismatch: Final = partial(ports_mismatch, inputs=((1, -1, NUM_BANDS), (1,)), outputs=((1, -1, 256),))
"""WeNet's encoder: mel frames and their number."""
deepspeech_mismatch: Final = partial(
    ports_mismatch, inputs=((1, -1, NUM_DEEPSPEECH_INPUTS), (1,)), outputs=((-1, 1, 29),)
)
"""`input_node` and `input_lengths` of the frozen graph of DeepSpeech 0.1; `logits`: steps, batch, letters."""
detector_mismatch: Final = partial(ports_mismatch, inputs=((-1, 3, -1, -1),), outputs=((),) * 9)
"""SCRFD: the padded frame, whose size published files leave open or fix at 640; scores, boxes and points of three
strides, in some files with a leading 1."""
landmarks_mismatch: Final = partial(ports_mismatch, inputs=((-1, 3, 112, 112),), outputs=((), ()))
"""PFPLD: the crop; the second output is used."""

Kind = Literal["heygem", "original"]

# Parameters that together identify DINet (MRzzm/DINet, models/DINet.py, with its default options).
DINET_TENSORS: Final[Mapping[str, Shape]] = {
    "source_in_conv.0.conv.weight": (64, 3, 7, 7),
    "ref_in_conv.0.conv.weight": (64, 15, 7, 7),
    "audio_encoder.0.conv.weight": (128, 29, 5),
    "adaAT.commn_linear.0.weight": (256, 256),
    "out_conv.4.weight": (3, 128, 7, 7),
}


def generator_mismatch(table: TensorTable) -> str | None:
    """Return None for a generator of either kind, otherwise what was expected and found."""
    if table.format == "onnx":
        return heygem_mismatch(table)
    if table.format != "torch":
        return f"expected DINet as a torch checkpoint, or HeyGem's as an ONNX export, found {table.format}."
    mismatch = tensors_mismatch("DINet", DINET_TENSORS, table.tensors, are_all=False)
    return f"{mismatch}; HeyGem's .pth has to be exported to ONNX." if mismatch else None


def speech_mismatch(table: TensorTable) -> str | None:
    """Return None for an encoder for either kind, otherwise what was expected and found."""
    wenet = wenet_mismatch(table)
    if wenet is None or deepspeech_mismatch(table) is None:
        return None
    return f"expected DeepSpeech 0.1 as an ONNX export (inputs [1,any,494] [1]), or wenet's encoder: {wenet}"


def kind_of(generator: Path) -> Kind:
    """Return the kind of generator, by the start of the file.

    Raises:
        WeightsError: The file cannot be read, or is of another format.
    """
    found = file_format(generator)
    if found == "safetensors":
        raise WeightsError(f"Expected a torch checkpoint or an ONNX file in {generator.name}, found {found}.")
    return "original" if found == "torch" else "heygem"


ROLES: Final = (
    WeightsSpec(
        name="generator",
        title="DINet: the original's checkpoint (.pth), or HeyGem's dinet_v1 exported to ONNX",
        licence="Original: no licence file, trained on HDTF (research). HeyGem: DUIX.COM Community License, shown as "
        '"Built with DUIX.COM", separate terms above 1000 monthly users.',
        mismatch=generator_mismatch,
    ),
    WeightsSpec(
        name="speech",
        title="Audio encoder: DeepSpeech 0.1 (original) or HeyGem's WeNet encoder, exported to ONNX",
        licence="DeepSpeech 0.1: MPL-2.0. HeyGem's encoder: DUIX.COM Community License.",
        mismatch=speech_mismatch,
    ),
    WeightsSpec(
        name="landmarks",
        title="HeyGem's landmarks (pfpld_robust_sim_bs1_8003.onnx); optional, replaces our own",
        licence="DUIX.COM Community License.",
        mismatch=landmarks_mismatch,
        is_required=False,
    ),
    WeightsSpec(
        name="detector",
        title="HeyGem's face detector (scrfd_500m_bnkps or scrfd_10g_kps); used only with its landmarks",
        licence="InsightFace's models: non-commercial research only.",
        mismatch=detector_mismatch,
        is_required=False,
    ),
)
