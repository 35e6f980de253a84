"""Why a source frame is left unchanged."""

from __future__ import annotations

from enum import IntEnum


class SkipReason(IntEnum):
    """One value for every source frame, kept in `FaceTrack.skip_reason` as uint8.

    Frames with any value but `NONE` are left unchanged. The values are stored in avatar folders.
    """

    NONE = 0  # the mouth is rewritten
    NO_FACE = 1  # the frame has no face that can be tracked
    OTHER_PERSON = 2  # there are faces, but none is reliably that of the chosen person
    TURNED_AWAY = 3  # the head is turned too far to the side or up and down
    COVERED = 4  # something is in front of the mouth
    TOO_SMALL = 5  # the mouth is only a few pixels wide
