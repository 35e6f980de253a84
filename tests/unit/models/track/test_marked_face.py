import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.errors import OptionError
from models.avatar.eye_white import lid_openings
from models.geometry.head_frame import CHIN_TIP, CORNER_LEFT, CORNER_RIGHT, EYES, fit_head_pose, pose_degrees
from models.track.marked_face import check_marks, marked_landmarks

MARKS = np.array([[70, 80], [130, 80], [85, 120], [115, 120], [100, 150]], np.float64)
ANIME = np.array([[50, 90], [150, 88], [92, 132], [110, 132], [101, 150]], np.float64)  # wide eyes, small mouth


@pytest.mark.parametrize("marks", [MARKS, ANIME])
@pytest.mark.parametrize(("degrees", "scale"), [(0, 1), (25, 0.5), (-60, 3), (180, 1)])
def test_marked_landmarks_are_at_the_marks(marks: NDArray[np.float64], degrees: float, scale: float) -> None:
    move = np.asarray(cv2.getRotationMatrix2D((100, 100), degrees, scale), np.float64)
    wanted = marks @ move[:, :2].T + move[:, 2]
    check_marks((wanted + 200).ravel().tolist(), 500, 500)
    (points,) = marked_landmarks(wanted.ravel().tolist()).points
    eyes = [points[list({*upper, *lower}), :2].mean(0) for upper, lower in EYES]
    found = np.stack([*eyes, *points[[CORNER_LEFT, CORNER_RIGHT, CHIN_TIP], :2]])
    assert np.abs(found - wanted).max() < 0.05 * scale * np.linalg.norm(marks[1] - marks[0])
    assert np.abs(found[2:] - wanted[2:]).max() < 0.01 * scale
    (upright,) = marked_landmarks(marks.ravel().tolist()).points
    assert np.allclose(points[:, :2], upright[:, :2] @ move[:, :2].T + move[:, 2], atol=0.05 * scale)
    assert np.allclose(points[:, 2], scale * upright[:, 2], atol=0.01 * scale)


def test_marked_landmarks_face_the_camera_with_closed_lids() -> None:
    raw = marked_landmarks(MARKS.ravel().tolist())
    assert np.abs(pose_degrees(fit_head_pose(raw.points).rotation)).max() < 8
    assert lid_openings(raw.points).max() < 1e-3
    assert raw.present.tolist() == [True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({4: (100, 200)}, r"chin: expected a point in the picture of 200 x 160 pixels, found 100,200"),
        ({2: (-1, 120)}, "mouth_left: expected a point in the picture"),
        ({1: (76, 80)}, r"right_eye: expected at least \d.\d pixels from left_eye, found 6.0"),
        ({0: (130, 80), 1: (70, 80)}, "mouth_left: expected the mouth below the eyes; left_eye is"),
        ({3: (115, 82)}, "mouth_right: expected the mouth below the eyes"),
        ({2: (115, 120), 3: (85, 120)}, "mouth_right: expected it to the right of mouth_left"),
        ({4: (100, 121)}, "chin: expected it below the mouth"),
    ],
)
def test_check_marks_of_no_face_names_the_point(change: dict[int, tuple[int, int]], message: str) -> None:
    marks = MARKS.copy()
    for number, place in change.items():
        marks[number] = place
    with pytest.raises(OptionError, match=f"face_points.{message}"):
        check_marks(marks.ravel().tolist(), 200, 160)
