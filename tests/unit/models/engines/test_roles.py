"""Which files the roles of all engines accept, and what they report of others."""

from pathlib import Path

import pytest

from models.engines.protocol import TensorTable
from models.engines.wav2lip.network import network_without_values
from tests.unit.models.engines.role_tables import (
    FACE,
    MEL,
    OUT,
    ROLES,
    Dims,
    accepted_tables,
    check_accepted,
    check_refused,
    checkpoint,
    onnx,
)


def test_roles_accept_only_their_files(tmp_path: Path) -> None:
    check_accepted(accepted_tables(tmp_path), ROLES)


Exports = list[tuple[tuple[Dims, ...], Dims]]  # inputs and the output
WAV2LIP_LIKE: Exports = [
    ((), ()),
    *((each, OUT) for each in ((FACE,), (MEL, FACE, (1,)), ((-1, 1, 80, 20), FACE), ((2, 1, 80, 16), FACE))),
    *(((MEL, face), OUT) for face in ((-1, 3, 96, 96), (-1, 6, -1, -1), (-1, 6, 96, 128))),
    *(((MEL, FACE), output) for output in ((-1, 1, 96, 96), (-1, 3, 48, 48))),
]
WAV2LIP_CHANGES: list[tuple[dict[str, Dims | None], str]] = [
    ({"output_block.1.bias": None}, "96 x 96 with output_block.1.bias (3,), found none"),
    ({"output_block.1.weight": (3, 32, 3, 3)}, "output_block.1.weight (3, 32, 1, 1), found (3, 32, 3, 3)"),
    ({"face_decoder_blocks.9.0.weight": (1,)}, "found 1 more, as face_decoder_blocks.9.0.weight"),
]
REFUSED = [
    *(
        ("restoration restoration", onnx((1, 3, side, side), output=output), f"found [(1, 3, {side}, {side})]")
        for side, output in ((256, (1, 3, 256, 256)), (512, (1, 19)))
    ),
    ("restoration restoration", TensorTable("torch", {"weight": (1,)}), "expected an ONNX file"),
    *(("wav2lip generator", checkpoint(network_without_values(96), each), words) for each, words in WAV2LIP_CHANGES),
    ("wav2lip generator", TensorTable("torch", {"conv1.weight": (64, 3, 7, 7)}), "expected a Wav2Lip generator"),
    *(
        ("wav2lip generator", onnx(*inputs, output=output), f"{', '.join(map(str, inputs)) or 'none'}, output {output}")
        for inputs, output in WAV2LIP_LIKE
    ),
]


@pytest.mark.parametrize(("role", "table", "words"), REFUSED)
def test_role_other_file_reports_expected_and_found(role: str, table: TensorTable, words: str) -> None:
    check_refused(ROLES[role], table, words)
