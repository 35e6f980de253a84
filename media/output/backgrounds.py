"""Backgrounds as requests name them."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from PIL import ImageColor

from media.playback import AfterEnd

BLUR: Final = "blur"
TRANSPARENT: Final = "transparent"
MatteMode = Literal["auto", "person", "chroma"]
"""How the person is cut out: by segmentation, by the colour of a screen, or whichever fits."""


class BackgroundOptions(NamedTuple):
    """The background of a live session: a colour or a file.

    Attributes:
        colour: What is behind the person, as `checked_background` returns it; None with a file.
        matte: How the person is cut out.
        file_id: ID of a picture or video that was sent before; see `storage.backgrounds`.
        after_end: What follows the end of a video.
    """

    colour: str | None
    matte: MatteMode = "auto"
    file_id: str | None = None
    after_end: AfterEnd = "loop"


def checked_background(text: str) -> str:
    """Return `blur`, `transparent` or a colour as `#rrggbb`.

    Raises:
        ValueError: It is none of these and no name of a colour (CSS).
    """
    name = text.strip().lower()
    if name in (BLUR, TRANSPARENT):
        return name
    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError:
        raise ValueError(
            f"expected a colour such as #00b140 or white, `{BLUR}` or `{TRANSPARENT}`, found {text[:40]!r}. "
            "Send a picture or a video as background_file."
        ) from None
    return f"#{red:02x}{green:02x}{blue:02x}"
