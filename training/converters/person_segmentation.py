"""Converts MediaPipe's selfie segmentation to ONNX.

    pip install tflite
    python -m training.converters.person_segmentation selfie_segmentation.tflite FOLDER

The file is in the package mediapipe 0.10.21, under modules/selfie_segmentation (Apache-2.0, Google).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.converters.tflite_to_onnx import OnnxGraph, TfliteGraph, tensor_name

NAME = "person_segmentation.onnx"


def convert(content: bytes, path: Path) -> None:
    """Writes the network of a TFLite file's `content` to `path`."""
    source = TfliteGraph(content)
    graph, last = OnnxGraph(source), source.output
    operators = source.needed_for(last)
    picture = operators[0].inputs[0]
    graph.add("Transpose", ["picture"], picture, perm=[0, 3, 1, 2])
    for operator in operators:
        graph.convert(operator)
    graph.add("Transpose", [tensor_name(last)], "person", perm=[0, 2, 3, 1])
    graph.save(path, "person", {"picture": source.shape(picture)}, {"person": source.shape(last)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the TFLite file and writes the network into FOLDER."""
    parser = argparse.ArgumentParser(description="Convert MediaPipe's selfie segmentation.")
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    convert(options.source.read_bytes(), options.folder / NAME)


if __name__ == "__main__":
    main()
