"""Writes the speech encoder of live sessions: the packaged one with 8 bit matrices.

    python -m training.quantise_encoder FOLDER

The matrices of the transformer layers become integers (per column, symmetric), and what is multiplied with them is
rounded to 8 bits by its own range in every run; everything else is unchanged. The integers have 7 bits, because
processors without VNNI add pairs of products in 16 bits. `python -m benchmarks.live.hearing` shows the effect.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.weights import weights_path
from training.export_speech import ENCODER_NAME

LIVE_ENCODER_NAME = "speech_encoder_int8.onnx"


def quantise(source: Path, target: Path) -> None:
    """Writes `source` to `target` with 8 bit matrices in its matrix products."""
    model = onnx.load(source)
    _fold_matrices(model)
    folded = target.with_suffix(".float32.onnx")
    onnx.save(model, folded)
    try:
        quantize_dynamic(
            folded,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
    finally:
        folded.unlink()


def _fold_matrices(model: onnx.ModelProto) -> None:
    """Replaces the stored matrices of matrix products by their float32 transposes, which is what is multiplied."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node}
    for product in [node for node in model.graph.node if node.op_type == "MatMul"]:
        transpose = made.get(product.input[1])
        cast = made.get(transpose.input[0]) if transpose is not None and transpose.op_type == "Transpose" else None
        if transpose is None or cast is None or cast.op_type != "Cast" or cast.input[0] not in stored:
            continue  # a product of two activations
        values = numpy_helper.to_array(stored[cast.input[0]]).astype(np.float32)
        folded = numpy_helper.from_array(np.ascontiguousarray(values.T), transpose.output[0])
        model.graph.initializer.append(folded)
        model.graph.initializer.remove(stored[cast.input[0]])
        model.graph.node.remove(transpose)
        model.graph.node.remove(cast)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the file into FOLDER."""
    parser = argparse.ArgumentParser(description="Quantise the speech encoder for live sessions.")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    quantise(weights_path(ENCODER_NAME), options.folder / LIVE_ENCODER_NAME)


if __name__ == "__main__":
    main()
