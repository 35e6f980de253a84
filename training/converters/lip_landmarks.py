"""Converts the branch for the lips of MediaPipe's mesh with attention to ONNX.

    pip install tflite
    python -m training.converters.lip_landmarks face_landmark_with_attention.tflite FOLDER

The file is in the package mediapipe 0.10.21, under modules/face_landmark (Apache-2.0, Google). Kept are the
layers from the picture to the first features, the crop of the lips out of them, and the layers from there to the 80
points. Where the crop lies is an input, as the face is known where the network is used; in the original the other
layers find it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.converters import blocked_layout
from training.converters.tflite_to_onnx import OnnxGraph, TfliteGraph, tensor_name

NAME = "lip_landmarks_80.onnx"
_NUM_POINTS, _CROP_SIDE, _PICTURE_SIDE = 80, 16, 192
_LAST, _CROP = "conv_lips", "TransformTensorBilinear"


def convert(content: bytes, path: Path) -> None:
    """Writes the network of a TFLite file's `content` to `path`."""
    source = TfliteGraph(content)
    graph, last = OnnxGraph(source), source.tensor(_LAST)
    operators = source.needed_for(last, {_CROP: 1})
    graph.add("Transpose", ["picture"], operators[0].inputs[0], perm=[0, 3, 1, 2])
    for operator in operators:
        if operator.name == _CROP:
            inputs = [tensor_name(operator.inputs[0]), "grid"]
            graph.add("GridSample", inputs, operator.output, align_corners=1, mode="bilinear", padding_mode="zeros")
        else:
            graph.convert(operator)
    shape = graph.constant("shape", np.array([1, _NUM_POINTS, 2], np.int64))
    graph.add("Reshape", [tensor_name(last), shape], "lips")
    pictures = {"picture": [1, _PICTURE_SIDE, _PICTURE_SIDE, 3], "grid": [1, _CROP_SIDE, _CROP_SIDE, 2]}
    graph.save(path, "lips", pictures, {"lips": [1, _NUM_POINTS, 2]})
    blocked_layout.rewrite(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the TFLite file and writes the network into FOLDER."""
    parser = argparse.ArgumentParser(description="Convert MediaPipe's network for the lips.")
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    convert(options.source.read_bytes(), options.folder / NAME)


if __name__ == "__main__":
    main()
