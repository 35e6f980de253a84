"""Shapes of the networks that hear: what tells their files and their inputs apart."""

from __future__ import annotations

from typing import Any, Final

NUM_HUBERT_FEATURES: Final = 1024
"""Numbers in a row of HuBERT large."""

# The streaming encoder: dihuman_run.py and data_utils/wenet_infer.py of anliyuan/Ultralight-Digital-Human.
CHUNK_FRAMES: Final = 67
OUTPUT_SHAPE: Final = (1, 16, 512)
NUM_WENET_FEATURES: Final = 16 * 512
CHUNK_SHAPE: Final = (1, 1, CHUNK_FRAMES, 80)
ATT_CACHE_SHAPE: Final = (3, 8, 16, 128)
CNN_CACHE_SHAPE: Final = (3, 1, 512, 14)
WENET_ROLES: Final = ["att_cache", "chunk", "cnn_cache", "offset"]


def input_role(shape: tuple[Any, ...]) -> str | None:
    """Tell an input of the encoder by its shape; None if it is none of the four."""
    if len(shape) <= 1:
        return "offset"
    known = {"chunk": CHUNK_SHAPE, "att_cache": ATT_CACHE_SHAPE, "cnn_cache": CNN_CACHE_SHAPE}
    return next((role for role, expected in known.items() if fits(shape, expected)), None)


def fits(shape: Any, expected: tuple[int, ...], *, is_output: bool = False) -> bool:
    """Whether a shape, of which some sides may be free (no positive number), has room for the expected one.

    The last side of an input must not be free: it tells the inputs apart.
    """
    if shape is None or len(shape) != len(expected):
        return False
    free = [not isinstance(side, int) or side < 0 for side in shape]
    if free[-1] and not is_output:
        return False
    return all(is_free or side == want for is_free, side, want in zip(free, shape, expected, strict=True))
