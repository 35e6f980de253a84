"""Converts networks of the package mediapipe 0.10.21 (Apache-2.0, Google) to the ONNX files of `models/weights`.

    pip install tflite
    python -m training.converters lip-landmarks face_landmark_with_attention.tflite FOLDER
    python -m training.converters person-segmentation selfie_segmentation.tflite FOLDER
    python -m training.converters blocked-layout FOLDER/face_landmark_468.onnx

The TFLite files are in the package, under modules/face_landmark and modules/selfie_segmentation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer

from training.converters.blocked_layout import rewrite
from training.converters.tflite_to_onnx import OnnxGraph, TfliteGraph, tensor_name

app = typer.Typer(add_completion=False)
_NUM_POINTS, _CROP_SIDE, _PICTURE_SIDE = 80, 16, 192
_LAST, _CROP = "conv_lips", "TransformTensorBilinear"


@app.command()
def lip_landmarks(source: Path, folder: Path) -> None:
    """Converts the branch for the lips of the mesh with attention, face_landmark_with_attention.tflite.

    Kept are the layers from the picture to the first features, the crop of the lips out of them, and the layers from
    there to the 80 points. Where the crop lies is an input, as the face is known where the network is used; in the
    original the other layers find it.
    """
    tflite = TfliteGraph(source.read_bytes())
    graph, last = OnnxGraph(tflite), tflite.tensor(_LAST)
    operators = tflite.needed_for(last, {_CROP: 1})
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
    graph.save(folder / "lip_landmarks_80.onnx", "lips", pictures, {"lips": [1, _NUM_POINTS, 2]})
    rewrite(folder / "lip_landmarks_80.onnx")


@app.command()
def person_segmentation(source: Path, folder: Path) -> None:
    """Converts the selfie segmentation for square pictures, selfie_segmentation.tflite."""
    tflite = TfliteGraph(source.read_bytes())
    graph, last = OnnxGraph(tflite), tflite.output
    operators = tflite.needed_for(last)
    picture = operators[0].inputs[0]
    graph.add("Transpose", ["picture"], picture, perm=[0, 3, 1, 2])
    for operator in operators:
        graph.convert(operator)
    graph.add("Transpose", [tensor_name(last)], "person", perm=[0, 2, 3, 1])
    shapes = {"picture": tflite.shape(picture)}, {"person": tflite.shape(last)}
    graph.save(folder / "person_segmentation.onnx", "person", *shapes)


@app.command()
def blocked_layout(networks: list[Path]) -> None:
    """Rewrites networks in place for onnxruntime's blocked layout."""
    for path in networks:
        rewrite(path)


if __name__ == "__main__":
    app()
