"""Renders the texts of the visible watermark into lipwright/media/labels/watermarks.npz.

    python -m samples.make_watermarks NotoSansCJK-Bold.ttc

The file was rendered with Noto Sans CJK SC Bold (Adobe and Google, SIL Open Font License 1.1; the
Debian package fonts-noto-cjk). The font itself is not included.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lipwright.media import labels
from lipwright.media.labels.watermark import TEXTS

_CAP_ROWS: Final = 108
"""Height of a capital letter: 5 % of the shorter side at 2160 lines needs no enlargement."""
_SC: Final = 2
"""Index of the simplified Chinese face in the collection."""


def draw(font: ImageFont.FreeTypeFont, text: str) -> NDArray[np.uint8]:
    """Returns the (H, W) coverage of the text, 0 to 255, cropped to its ink."""
    picture = Image.new("L", (64 + 2 * int(font.getlength(text)), 8 * _CAP_ROWS), 0)
    ImageDraw.Draw(picture).text((32, 2 * _CAP_ROWS), text, fill=255, font=font)
    return np.asarray(picture.crop(picture.getbbox()), np.uint8)


def main() -> None:
    """Renders every text in a size in which capital letters have `_CAP_ROWS` rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("font", type=Path)
    font_path = parser.parse_args().font
    size = _CAP_ROWS
    while draw(font := ImageFont.truetype(str(font_path), size, index=_SC), "I").shape[0] < _CAP_ROWS:
        size += 1
    marks = {language: draw(font, text) for language, text in TEXTS.items()}
    np.savez_compressed(Path(labels.__file__).parent / "watermarks.npz", cap_rows=np.int64(_CAP_ROWS), **marks)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
