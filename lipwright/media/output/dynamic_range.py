"""Converts pictures between SDR and the two kinds of HDR, PQ and HLG."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame, from_rgb, to_rgb

SDR: Final = ColourTags(matrix=1, full_range=True, primaries=1, transfer=1)
_PQ: Final = 16
_HLG: Final = 18
"""H.273 code points of transfer characteristics; such pictures have the primaries of BT.2020, all others of BT.709."""
_WHITE_NITS: Final = 203.0
"""Luminance of white in SDR and of HDR's reference white: ITU-R BT.2408, table 1."""
_SDR_GAMMA: Final = 2.4
"""ITU-R BT.1886."""
_PQ_NITS: Final = 10_000.0
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
"""ITU-R BT.2100, table 4."""
_HLG_NITS: Final = 1000.0
_HLG_GAMMA: Final = 1.2
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
_LUMA: Final = np.array([[0.2627, 0.6780, 0.0593]], np.float32)
"""ITU-R BT.2100, table 5."""
_TO_BT2020: Final = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]], np.float32)
"""ITU-R BT.2087, from BT.709."""
_KNEE: Final = 0.8
"""Brighter parts of an HDR picture than this share of white are compressed for SDR; 203 cd/m2 becomes 92 %."""

Picture = NDArray[np.uint8]
_Light = NDArray[np.float32]


def is_same_range(one: ColourTags, other: ColourTags) -> bool:
    """Whether both are SDR, both PQ or both HLG."""
    return _range(one) == _range(other)


def to_range(rgb: Picture, own: ColourTags, wanted: ColourTags) -> Picture:
    """Convert an (H, W, 3) uint8 RGB picture to the dynamic range and primaries of `wanted`."""
    if is_same_range(own, wanted):
        return rgb
    light = _decode(rgb, _range(own))
    if _range(own) is None:
        light = _transform(light, _TO_BT2020)
    if _range(wanted) is None:
        light = _transform(light, np.linalg.inv(_TO_BT2020))
        above = np.maximum(light - _KNEE, 0) / (1 - _KNEE)
        light = np.minimum(light, _KNEE) + (1 - _KNEE) * (1 - np.exp(-above))
    return np.asarray(np.clip(np.rint(255 * _encode(np.maximum(light, 0), _range(wanted))), 0, 255), np.uint8)


def to_sdr_rgb(planes: YuvFrame, own: ColourTags) -> Picture:
    """Convert planes with the colours of `own` to an (H, W, 3) uint8 SDR picture, as networks and browsers expect."""
    return to_range(to_rgb(planes, own), own, SDR)


def from_sdr_rgb(rgb: Picture, wanted: ColourTags) -> YuvFrame:
    """Convert an (H, W, 3) uint8 SDR picture, H and W even, to planes with the colours of `wanted`."""
    return from_rgb(to_range(rgb, SDR, wanted), wanted)


def _range(tags: ColourTags) -> int | None:
    return tags.transfer if tags.transfer in (_PQ, _HLG) else None


def _transform(light: _Light, matrix: _Light) -> _Light:
    return np.asarray(cv2.transform(light, matrix), np.float32)


def _decode(rgb: Picture, transfer: int | None) -> _Light:
    """(H, W, 3) linear light, 1 for white of `_WHITE_NITS`."""
    signal = np.linspace(0, 1, 256)
    if transfer is None:
        return np.asarray(signal**_SDR_GAMMA, np.float32)[rgb]
    if transfer == _PQ:
        power = signal ** (1 / _M2)
        nits = _PQ_NITS * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)
        return np.asarray(nits / _WHITE_NITS, np.float32)[rgb]
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _C) / _A) + _B) / 12).astype(np.float32)[rgb]
    luma = _transform(scene, _LUMA)[..., None]
    return np.asarray(scene * luma ** (_HLG_GAMMA - 1) * (_HLG_NITS / _WHITE_NITS), np.float32)


def _encode(light: _Light, transfer: int | None) -> _Light:
    """The signal, 0 to 1, of what `_decode` returns."""
    if transfer is None:
        return np.asarray(cv2.pow(light, 1 / _SDR_GAMMA))
    if transfer == _PQ:
        power = cv2.pow(light * np.float32(_WHITE_NITS / _PQ_NITS), _M1)
        return np.asarray(cv2.pow((_C1 + _C2 * power) / (1 + _C3 * power), _M2))
    display = light * np.float32(_WHITE_NITS / _HLG_NITS)
    luma = np.maximum(_transform(display, _LUMA)[..., None], 1e-6)
    scene = np.minimum(display * luma ** ((1 - _HLG_GAMMA) / _HLG_GAMMA), 1)
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), _A * np.log(np.maximum(12 * scene - _B, 1e-6)) + _C)
