"""Why a source frame passes through untouched."""

from __future__ import annotations

from enum import IntEnum


class PassReason(IntEnum):
    """One value for every source frame, kept in `FaceTrack.passed` as uint8.

    Frames of any value but `SHOWN` come out as they went in. The values are stored in avatar folders.
    """

    SHOWN = 0  # the mouth is rewritten
    NO_FACE = 1  # no face is in the frame, or none that can be followed
    OTHER_PERSON = 2  # there are faces, but not surely that of the person meant
    TURNED_AWAY = 3  # the head is turned too far to the side or up and down
    COVERED = 4  # something is in front of the mouth
    TOO_SMALL = 5  # the mouth is only a few pixels wide
