"""A drawn mouth interior for sources that show none: cavity, tongue and upper teeth, lit by the cheeks.

It is drawn at half resolution and softened: real teeth in real footage are flatter than any drawing of them.
Works on NumPy arrays and PyTorch tensors alike (`xp` is the module). Lengths are in eye distances.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from models.warp.seam import MouthCoords

SOFTNESS = 0.85  # 0 hard and contrasty .. 1
BLUR = 0.016 * SOFTNESS  # sigma in eye distances
OWN_SHRINK = 0.04  # mouth half-widths: a source's own teeth are taken from within its lips, not from their rim
_FLATTEN = 1 - 0.35 * SOFTNESS
_TEETH_BELOW_SEAM = 0.042  # edge of the upper teeth below the closed lips' seam


class _Tooth(NamedTuple):
    centre: float  # distance from the middle line; each stands on both sides
    half_width: float
    lift: float  # of its edge over the front teeth's
    light: float


_TEETH = (
    _Tooth(0.043, 0.041, 0.000, 1.0),
    _Tooth(0.114, 0.030, 0.010, 0.92),
    _Tooth(0.170, 0.027, 0.004, 0.80),
    _Tooth(0.218, 0.023, 0.016, 0.62),
    _Tooth(0.258, 0.018, 0.022, 0.42),
)


def draw_interior(xp: Any, coords: MouthCoords, eye_distance: Any, seam: Any, skin: Any) -> Any:
    """Draws the interior wherever the pixels are; `seam.inside_alpha` says where it shows.

    Args:
        xp: `numpy` or `torch`.
        coords: Mouth coordinates of (T, h, w) pixels.
        eye_distance: (T,) in the pixels of `coords`.
        seam: (T,) where the seam of the closed lips lies across the mouth: fixed to the skull, like the teeth.
        skin: (T, 3) Y, U, V of the cheeks, 0 to 255.

    Returns:
        (T, 3, h, w) Y, U, V, not yet blurred by `BLUR`.
    """
    unit, seam = eye_distance[:, None, None], seam[:, None, None]
    skin_y, skin_u, skin_v = (skin[:, k, None, None] for k in range(3))
    x, y, upper, lower, half_width = coords
    gap, edge = lower - upper, abs(x).clip(max=1)
    parted = parting(coords, eye_distance)
    # Cavity: small openings are lit more, corners less; the tongue lies on the lower lip.
    depth = (gap / (0.14 * unit)).clip(0, 1)
    luma = skin_y * (0.40 - 0.17 * depth) * (1 - 0.4 * edge**2)
    height = gap * 0.5 * (1 - 0.7 * edge**2)
    tongue = ((y - lower + height) / (0.8 * height).clip(min=1.0)).clip(0, 1)
    tongue = tongue * tongue * (3 - 2 * tongue) * ((gap / unit - 0.05) / 0.08).clip(0, 1)
    luma = luma + 0.9 * tongue * (0.62 * skin_y - luma)
    chroma_u = 128 + (skin_u - 128) * 0.6 + 0 * x
    red = 1 - (1 - tongue) * parted  # of the tongue, and of lips that touch
    chroma_v = 128 + (skin_v - 128) * (0.75 + 0.35 * red) + 1 + 4 * red
    cover, light = _teeth(xp, x * half_width / unit, y, seam, unit)
    cover, light = cover * parted, light * parted
    shadow = 0.70 + 0.30 * ((y - upper) / (0.040 * unit)).clip(0, 1)
    teeth_y = (0.98 * skin_y + 8).clip(max=212) * shadow * light / cover.clip(min=0.05)
    luma = luma + cover * (teeth_y - luma)
    chroma_u = chroma_u + cover * (0.65 * skin_u + 0.35 * 128 - chroma_u)
    chroma_v = chroma_v + cover * (0.45 * skin_v + 0.55 * 128 - chroma_v)
    dark = 0.88 + 0.12 * ((lower - y) / (0.03 * unit)).clip(0, 1)
    dark = dark * (0.7 + 0.3 * ((1 - edge) / 0.25).clip(0, 1))
    dark = dark * (0.75 + 0.25 * ((y - upper) / (0.015 * unit).clip(min=0.6)).clip(0, 1))
    flat = 0.45 * skin_y
    return xp.stack([flat + _FLATTEN * (luma * dark - flat), chroma_u, chroma_v], 1)


def lip_shadow(coords: MouthCoords, eye_distance: Any) -> Any:
    """(T, h, w) what the upper lip leaves of the light on a source's own teeth."""
    depth = (coords.y - coords.upper) / (0.03 * eye_distance[:, None, None])
    return 0.78 + 0.22 * depth.clip(0, 1)


def parting(coords: MouthCoords, eye_distance: Any) -> Any:
    """(T, h, w) how far the lips are parted, 0 to 1: in a thin gap between them no teeth show, it is dark."""
    gap = (coords.lower - coords.upper) / eye_distance[:, None, None]
    return ((gap - 0.026) / 0.016).clip(0, 1)


def _teeth(xp: Any, x: Any, y: Any, seam: Any, unit: Any) -> tuple[Any, Any]:
    """Cover (0 to 1) of the teeth and their light times cover; x from the middle line in eye distances."""
    edge = seam + unit * (_TEETH_BELOW_SEAM - 0.12 * x**2)
    cover = light = xp.zeros_like(x)
    rim = (0.8 / unit).clip(min=0.009)  # no edge is sharper than about a pixel
    for tooth in _TEETH:
        off = abs(abs(x) - tooth.centre) / tooth.half_width  # 0 in its middle, 1 at its side
        bottom = edge - unit * (tooth.lift + 0.014 * off.clip(max=1) ** 4)
        sides = ((1.12 - off) * tooth.half_width / rim + 0.35).clip(0, 1)
        shown = ((bottom - y) / (rim * unit) + 0.5).clip(0, 1) * sides
        light = xp.maximum(light, tooth.light * (1 - 0.14 * off.clip(max=1.1) ** 4) * shown)
        cover = xp.maximum(cover, shown)
    return cover, light
