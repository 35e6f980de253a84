import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from models.geometry.head_frame import EYE_LEFT, EYE_RIGHT, HeadPose, fit_head_pose, mean_face, pose_degrees

IMAGE_AXES = np.diag([1.0, -1.0, -1.0])
NOSE_TIP = 4


def poses(num: int) -> HeadPose:
    rng = np.random.default_rng(1)
    rotation = Rotation.from_rotvec(rng.normal(0, 0.4, (num, 3))).as_matrix() @ IMAGE_AXES
    return HeadPose(rng.uniform(40, 300, num), rotation, rng.uniform(0, 900, (num, 3)))


def test_fit_head_pose_recovers_the_pose() -> None:
    true = poses(20)
    face = mean_face().copy()
    face[[13, 14, 17, 61, 291, 152, 148, 377]] += 0.2  # mouth and jaw do not count
    found = fit_head_pose(true.same_to_image(face))
    for name in ("scale", "rotation", "translation"):
        np.testing.assert_allclose(getattr(found, name), getattr(true, name), atol=1e-6)


def test_head_pose_to_head_inverts_and_mean_face_fits() -> None:
    pose, points = poses(4), np.random.default_rng(0).normal(size=(4, 30, 3))
    assert np.allclose(pose.to_head(pose.to_image(points)), points)
    with pytest.raises(ValueError, match="468"):
        fit_head_pose(np.zeros((2, 478, 3)))
    face = mean_face()
    assert np.linalg.norm(face[EYE_LEFT] - face[EYE_RIGHT]) == pytest.approx(1.0, abs=1e-4)
    assert (face[EYE_RIGHT] > face[EYE_LEFT])[0]
    assert face[152, 1] < face[13, 1] < face[10, 1]
    assert face[NOSE_TIP, 2] > face[EYE_LEFT, 2]


@pytest.mark.parametrize(
    ("axis", "angle", "column"), [("y", -20.0, 0), ("x", 15.0, 1), ("z", 10.0, 2)], ids=["yaw", "pitch", "roll"]
)
def test_pose_degrees_follow_the_direction_of_the_nose(axis: str, angle: float, column: int) -> None:
    """About the image's axes: x right, y down, z away; positive angles turn from the first to the next axis."""
    rotation = Rotation.from_euler(axis, [angle], degrees=True).as_matrix().reshape(1, 3, 3) @ IMAGE_AXES
    turns = np.concatenate([rotation, IMAGE_AXES[None]])
    image, level = HeadPose(np.ones(2), turns, np.zeros((2, 3))).same_to_image(mean_face())
    nose, straight = (face[NOSE_TIP] - face[[EYE_LEFT, EYE_RIGHT]].mean(0) for face in (image, level))
    degrees = pose_degrees(rotation)[0]
    assert abs(degrees[column]) == pytest.approx(abs(angle), abs=1e-3)
    assert np.abs(np.delete(degrees, column)).max() < 1e-3
    eyes = image[EYE_RIGHT] - image[EYE_LEFT]
    turned = (nose[0] - straight[0], straight[1] - nose[1], eyes[1])[column]  # right, up, clockwise in the picture
    assert np.sign(degrees[column]) == np.sign(turned)
