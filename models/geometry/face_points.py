"""Names for points of the 468-point face mesh (MediaPipe's topology), as index tuples.

"Left" and "right" are sides of the image. Lip rows run from the image-left corner (61, 78) to the image-right corner
(291, 308), so that `INNER_UPPER[i]` lies above `INNER_LOWER[i]`.
"""

from __future__ import annotations

NUM_POINTS = 468

EYE_LEFT, EYE_RIGHT = 33, 263  # outer corners
CORNER_LEFT, CORNER_RIGHT = 61, 291  # of the mouth
# Upper and lower lid edge of the left and of the right eye.
EYES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133)),
    ((362, 398, 384, 385, 386, 387, 388, 466, 263), (362, 382, 381, 380, 374, 373, 390, 249, 263)),
)
# Creases above the lids of both eyes.
LID_CREASES = ((33, 247, 30, 29, 27, 28, 56, 190, 133), (362, 414, 286, 258, 257, 259, 260, 467, 263))
NOSE_BASE, CHIN_TIP = 2, 152
CHEEK_FRONT = (205, 425, 50, 280)  # skin with the same lighting as the area around the mouth

# Points that do not move in speech: forehead, temples, eye corners, nose bridge, wings of the nose.
RIGID = (
    *(10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 67, 109, 297, 338, 54, 284, 127, 356, 162, 389),
    *(33, 133, 362, 263, 129, 358, 98, 327, 2),
)

OUTER_UPPER: tuple[int, ...] = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LOWER: tuple[int, ...] = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
INNER_UPPER: tuple[int, ...] = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER: tuple[int, ...] = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
INNER_MIDDLES = 13, 14  # of the upper lip and of the lower one
MOUTH_MIDDLE = (CORNER_LEFT, CORNER_RIGHT, *INNER_MIDDLES)  # the mean of these
ABOUT_MIDDLE = slice(4, 7)  # of a row: its middle point and its two neighbours
MIDDLE_UPPER = (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306)
MIDDLE_LOWER = (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306)
LIP_ROWS = OUTER_UPPER, OUTER_LOWER, MIDDLE_UPPER, MIDDLE_LOWER, INNER_UPPER, INNER_LOWER  # each corner to corner
# All 80 lip points in the output order of the lip network; the last two rows lie between the middle of a lip and its
# inner edge.
LIPS = (
    *(*OUTER_LOWER, *OUTER_UPPER[1:-1], *INNER_LOWER, *INNER_UPPER[1:-1], *MIDDLE_LOWER, *MIDDLE_UPPER[1:-1]),
    *(62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292),
    *(183, 42, 41, 38, 12, 268, 271, 272, 407),
)
ABOVE_LIP = (164, 167, 393, 165, 391, 92, 322)
NOSE = (2, 97, 326, 98, 327, 129, 358)
CHIN = (18, 83, 313, 200, 201, 421, 199, 208, 428, 175, 171, 396, 194, 418, 182, 406, 204, 424)
CHEEK = (
    *(205, 425, 206, 426, 216, 436, 212, 432, 207, 427, 214, 434, 202),
    *(422, 186, 410, 57, 287, 43, 273, 192, 416, 187, 411, 50, 280),
)
JAW = (
    *(234, 454, 93, 323, 132, 361, 58, 288, 172, 397, 136),
    *(365, 150, 379, 149, 378, 176, 400, 148, 377, 152),
)
_HELD = frozenset((*NOSE, 234, 454, 93, 323, 50, 280))  # listed above, but too high up to follow the mouth

# Points that a mouth shape moves, ascending.
MOVED = tuple(
    sorted(
        {
            *(*OUTER_UPPER, *OUTER_LOWER, *INNER_UPPER, *INNER_LOWER, *MIDDLE_UPPER, *MIDDLE_LOWER),
            *(*ABOVE_LIP, *CHIN, *CHEEK, *JAW),
        }
        - _HELD
    )
)
