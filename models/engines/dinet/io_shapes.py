"""Inputs and outputs of the networks that a user brings as ONNX files, in the files' order; -1 may be anything."""

from __future__ import annotations

from typing import Final

from models.engines.dinet.tensor_shapes import Shape

NUM_BANDS: Final = 80
"""Mel bands that wenet's encoder hears."""
NUM_DEEPSPEECH_INPUTS: Final = 494
"""Numbers that DeepSpeech sees of one step: 19 rows of 26 cepstra."""
CROP_SIDE: Final = 256
"""Side of HeyGem's crop, `model_input_size` of the published checkpoint."""

GENERATOR_INPUTS: Final[tuple[Shape, ...]] = (
    (-1, 3, CROP_SIDE, CROP_SIDE),
    (-1, 3, CROP_SIDE, CROP_SIDE),
    (-1, 256, 20),
)
"""HeyGem's generator: crop with the mouth black, the same crop as it is, wenet window; RGB in [0, 1]."""
GENERATOR_OUTPUTS: Final[tuple[Shape, ...]] = ((-1, 3, CROP_SIDE, CROP_SIDE),)

ENCODER_INPUTS: Final[tuple[Shape, ...]] = ((1, -1, NUM_BANDS), (1,))
"""Wenet's encoder: mel frames and how many there are."""
ENCODER_OUTPUTS: Final[tuple[Shape, ...]] = ((1, -1, 256),)

DEEPSPEECH_INPUTS: Final[tuple[Shape, ...]] = ((1, -1, NUM_DEEPSPEECH_INPUTS), (1,))
"""`input_node` and `input_lengths` of the frozen graph of DeepSpeech 0.1."""
DEEPSPEECH_OUTPUTS: Final[tuple[Shape, ...]] = ((-1, 1, 29),)
"""`logits`: steps, batch, letters."""

DETECTOR_INPUTS: Final[tuple[Shape, ...]] = ((-1, 3, -1, -1),)
"""SCRFD: the padded frame; published files leave its size open or fix it at 640."""
DETECTOR_OUTPUTS: Final[tuple[Shape, ...]] = ((),) * 9
"""Scores, boxes and points of three strides; some files have a leading 1."""

LANDMARK_INPUTS: Final[tuple[Shape, ...]] = ((-1, 3, 112, 112),)
"""PFPLD: the crop."""
LANDMARK_OUTPUTS: Final[tuple[Shape, ...]] = ((), ())
"""The second is what is read."""
