"""Backgrounds as requests name them."""

from __future__ import annotations

from typing import Final, Literal

from PIL import ImageColor

BLUR: Final = "blur"
SOURCE: Final = "source"
"""The background of the source itself, for an avatar with another default."""
TRANSPARENT: Final = "transparent"
MatteMode = Literal["auto", "person", "chroma"]
"""How the person is cut out: by segmentation, by the colour of a screen, or whichever fits."""


def checked_background(text: str) -> str:
    """Return `blur`, `transparent`, `source` or a colour as `#rrggbb`.

    Raises:
        ValueError: It is none of these, and not the name of a colour (CSS).
    """
    name = text.strip().lower()
    if name in (BLUR, TRANSPARENT, SOURCE):
        return name
    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError:
        raise ValueError(
            f"expected a colour such as #00b140 or white, `{BLUR}`, `{TRANSPARENT}` or `{SOURCE}`, "
            f"found {text[:40]!r}. Send a picture or a video as background_file."
        ) from None
    return f"#{red:02x}{green:02x}{blue:02x}"
