"""Which network of the family a file holds: what it hears, over how many frames, how wide it is.

Two generations are in use, told apart by the channels of their sound: anliyuan/Ultralight-Digital-Human (README and
unet.py of 2026) hears 8 frames, the one that lipku/LiveTalking serves (ultralight/unet.py) hears 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Hears = Literal["hubert", "wenet"]

SIDE: Final = 160
"""Pixels of the picture that the network reads and writes."""
WIDTHS: Final = (32, 16)
"""Channels of the first layer: 32 as published, 16 where unet.py says "on a mobile device"."""
AUDIO_KEY: Final = "audio_model.conv1.conv.0.weight"
WIDTH_KEY: Final = "outc.conv.weight"
# Names of the checkpoints before and after the repository unwrapped two containers of one module each.
_OLD_NAMES: Final = ((".maxpool_conv.0.", ".maxpool_conv."), ("inc.inconv.0.", "inc.inconv."))


@dataclass(frozen=True)
class Variant:
    """One network of the family.

    Attributes:
        hears: Kind of audio features.
        num_frames: Video frames of sound that it hears at once, half of them before its own: 8 or 16.
        width: Channels of the first layer.
    """

    hears: Hears = "hubert"
    num_frames: int = 8
    width: int = 32

    @property
    def audio_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the sound of one frame; face_utils.py (`reshape_audio_feat`), datasetsss.py."""
        if self.hears == "hubert":
            return 2 * self.num_frames, 32, 32  # rows of 1024, two a frame
        return 16 * self.num_frames, 16, 32  # (16, 512) a frame


_BY_CHANNELS: Final[Mapping[int, tuple[Hears, int]]] = {
    16: ("hubert", 8),
    32: ("hubert", 16),
    128: ("wenet", 8),
    256: ("wenet", 16),
}


def published_name(name: str) -> str:
    """Bring a parameter's name of an older checkpoint to that of today's."""
    for old, new in _OLD_NAMES:
        name = name.replace(old, new)
    return name


def variant_of_tensors(shapes: Mapping[str, tuple[int, ...]]) -> Variant | None:
    """Tells a variant by the shapes of its parameters.

    Args:
        shapes: Shapes by name, as `TensorTable.tensors` has them.

    Returns:
        None if they are not of this family or of a width that is not published for that sound.
    """
    audio, out = shapes.get(AUDIO_KEY), shapes.get(WIDTH_KEY)
    if audio is None or out is None or len(audio) != 4 or len(out) != 4 or audio[1] not in _BY_CHANNELS:
        return None
    hears, num_frames = _BY_CHANNELS[audio[1]]
    if out[0] != 3 or out[1] not in WIDTHS or (hears == "wenet" and out[1] != WIDTHS[0]):
        return None
    return Variant(hears, num_frames, out[1])


def variant_of_audio(shape: tuple[int, ...]) -> Variant | None:
    """Tells a variant by the (B, C, H, W) of its sound, as an ONNX export shows it; the width does not show."""
    if len(shape) != 4 or shape[1] not in _BY_CHANNELS:
        return None
    hears, num_frames = _BY_CHANNELS[shape[1]]
    variant = Variant(hears, num_frames)
    return variant if tuple(shape[1:]) == variant.audio_shape else None
