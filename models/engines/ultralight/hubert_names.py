"""Names of HuBERT's parameters in the forms in which they are published, and what tells a file of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PREFIX: Final = "hubert."  # of models that recognise words with it
# Names of weight normalisation before and after PyTorch 2.1.
_NEW_NAMES: Final = (
    ("parametrizations.weight.original0", "weight_g"),
    ("parametrizations.weight.original1", "weight_v"),
)
NUM_LAYERS: Final = 24
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


def hubert_large_mismatch(tensors: Mapping[str, tuple[int, ...]]) -> str | None:
    """Say None of the parameters of HuBERT large, else what was expected and found."""
    return hubert_shapes_mismatch({bare_name(name): tuple(shape) for name, shape in tensors.items()}, _TELLING)


def hubert_shapes_mismatch(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str | None:
    """Say None where all wanted parameters are there, under bare names, else which is not."""
    for name, shape in wanted.items():
        if found.get(name) != shape:
            return f"expected HuBERT large with {name} {shape}, found {found.get(name, 'none')}"
    return None
