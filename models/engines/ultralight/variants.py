"""The variants of the network: kind of audio features, number of frames, width.

Two generations are in use, which differ in the number of audio channels: anliyuan/Ultralight-Digital-Human (README and
unet.py of 2026) takes 8 frames, the one that lipku/LiveTalking serves (ultralight/unet.py) takes 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

AudioKind = Literal["hubert", "wenet"]

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
    """One network of the family."""

    audio_kind: AudioKind = "hubert"  # kind of audio features
    num_frames: int = 8  # video frames of sound that it takes at once, half of them before its own: 8 or 16
    width: int = 32  # channels of the first layer

    @property
    def audio_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the audio features of one frame; face_utils.py (`reshape_audio_feat`), datasetsss.py."""
        if self.audio_kind == "hubert":
            return 2 * self.num_frames, 32, 32  # rows of 1024, two per frame
        return 16 * self.num_frames, 16, 32  # (16, 512) per frame


_BY_CHANNELS: Final[Mapping[int, tuple[AudioKind, int]]] = {
    16: ("hubert", 8),
    32: ("hubert", 16),
    128: ("wenet", 8),
    256: ("wenet", 16),
}


def published_name(name: str) -> str:
    """Map a parameter name of an older checkpoint to the current one."""
    for old, new in _OLD_NAMES:
        name = name.replace(old, new)
    return name


def variant_of_tensors(shapes: Mapping[str, tuple[int, ...]]) -> Variant | None:
    """Determine the variant from the shapes of the parameters by name.

    Return None if they are not of this family, or of a width that was not published for these features.
    """
    audio, out = shapes.get(AUDIO_KEY), shapes.get(WIDTH_KEY)
    if audio is None or out is None or len(audio) != 4 or len(out) != 4 or audio[1] not in _BY_CHANNELS:
        return None
    audio_kind, num_frames = _BY_CHANNELS[audio[1]]
    if out[0] != 3 or out[1] not in WIDTHS or (audio_kind == "wenet" and out[1] != WIDTHS[0]):
        return None
    return Variant(audio_kind, num_frames, out[1])


def unknown_variant(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return why `variant_of_tensors` does not recognise these parameters."""
    audio, width = (shapes.get(key) for key in (AUDIO_KEY, WIDTH_KEY))
    return (
        f"expected {AUDIO_KEY} for 16 or 32 (HuBERT) or 128 or 256 channels (WeNet) and {WIDTH_KEY} "
        f"(3, 32, 1, 1), found {audio} and {width}"
    )


def variant_of_audio(shape: tuple[int, ...]) -> Variant | None:
    """Determine the variant, except its width, from the (B, C, H, W) of the audio input of an ONNX export."""
    if len(shape) != 4 or shape[1] not in _BY_CHANNELS:
        return None
    audio_kind, num_frames = _BY_CHANNELS[shape[1]]
    variant = Variant(audio_kind, num_frames)
    return variant if tuple(shape[1:]) == variant.audio_shape else None
