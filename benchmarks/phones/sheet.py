"""Contact sheets: a row per video, a column per phone, zoomed to the mouth."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.analysis import TrackedVideo
from models.geometry.face_points import MOUTH_MIDDLE

_CELL: Final = 168, 140  # pixels
# Half of the width of a cell in eye distances; below the middle of the mouth it shows the chin, above it the nose.
_REACH: Final = 0.5
_LABEL: Final = 14  # pixels


class Row(NamedTuple):
    """One row: a title, and the video that is shown."""

    title: str
    path: Path
    video: TrackedVideo


def draw_sheet(rows: list[Row], columns: list[tuple[str, float]], out: Path) -> None:
    """Writes a PNG file.

    Args:
        rows: The videos.
        columns: Title and seconds of each column; a time after the end of a video leaves its cell empty.
        out: The file.
    """
    width, height = _CELL
    sheet = Image.new("RGB", (width * len(columns), _LABEL + (height + _LABEL) * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, (title, _) in enumerate(columns):
        pen.text((column * width + 4, 1), title, "black")
    for number, row in enumerate(rows):
        top = _LABEL + number * (height + _LABEL)
        pen.text((4, top + 1), row.title, "black")
        frames = [round(seconds * row.video.fps) for _, seconds in columns]
        mouths = _mouths(row, sorted(set(frames)))
        for column, frame in enumerate(frames):
            if frame in mouths:
                sheet.paste(Image.fromarray(mouths[frame]), (column * width, top + _LABEL))
    sheet.save(out)


def _mouths(row: Row, frames: list[int]) -> dict[int, NDArray[np.uint8]]:
    """Returns (140, 168, 3) RGB mouths by frame, in a window that is fixed to the head."""
    track, mouths = row.video.track, {}
    middle = track.rest[list(MOUTH_MIDDLE)].mean(0)
    reach = _REACH * np.array([(-1, 1, 0), (1, 1, 0), (-1, -1, 0)]) * [1, _CELL[1] / _CELL[0], 0]
    corners = np.array([(0, 0), (_CELL[0], 0), (0, _CELL[1])], np.float32)
    with av.open(str(row.path)) as container:
        for number, picture in enumerate(container.decode(video=0)):
            if number in frames and number < track.num_frames:
                placed = track.place(np.array([number]), (middle + reach)[None])[0].astype(np.float32)
                window = cv2.getAffineTransform(placed, corners)
                rgb = picture.to_ndarray(format="rgb24")
                mouths[number] = np.asarray(cv2.warpAffine(rgb, window, _CELL, flags=cv2.INTER_CUBIC), np.uint8)
    return mouths
