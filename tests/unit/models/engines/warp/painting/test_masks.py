"""How pasted mouths are brought to the look of the frame."""

from __future__ import annotations

import numpy as np

from models.engines.warp.painting.masks import (
    blur_matrices,
    draw_masks,
    hidden_share,
    masks_by_yaw,
    sharpening,
    texture_positions,
)
from models.geometry.head_frame import mean_face


def test_sharpening_own_lips_exceeds_exemplar() -> None:
    own, other = sharpening(np.array([3, 5]), np.array([3, 4]))
    assert own > other > 0


def test_colour_match_blurs_have_no_denormals() -> None:
    blurs = blur_matrices()
    smallest = blurs[blurs > 0].min()
    assert smallest**2 / 255 > np.finfo(np.float32).tiny


MASKS = draw_masks(mean_face())


def at(mask: np.ndarray, point: int) -> int:
    column, row = np.rint(texture_positions(mean_face()[point])).astype(int)
    return int(mask[row, column, 1])


def test_masks_by_yaw_frontal_head_keeps_whole_mask() -> None:
    masks, which = masks_by_yaw(MASKS, np.array([0.0, 5.0, -8.0]))
    assert which.tolist() == [0, 0, 0]
    assert np.array_equal(masks[0], MASKS)


def test_masks_by_yaw_turned_head_cuts_only_far_side() -> None:
    masks, which = masks_by_yaw(MASKS, np.array([36.0, -36.0, 0.0]))
    right, left = masks[which[0]], masks[which[1]]
    middle = MASKS.shape[1] // 2
    assert np.array_equal(right[:, :middle], MASKS[:, :middle])
    assert np.array_equal(left[:, middle:], MASKS[:, middle:])
    for turned, far, near in ((right, 434, 214), (left, 214, 434)):
        assert at(MASKS, far) > 200
        assert at(turned, far) == 0  # behind the far corner of the mouth
        assert at(turned, near) == at(MASKS, near)
    assert right[:, -20:].max() == left[:, :20].max() == 0
    assert np.array_equal(masks[which[2]], MASKS)


def test_masks_by_yaw_cut_grows_with_turn_in_few_steps() -> None:
    yaw = np.linspace(0, 42, 200)
    masks, which = masks_by_yaw(MASKS, yaw)
    assert len(masks) < 14
    kept = masks[which].reshape(200, -1).sum(1, dtype=np.int64)
    assert (np.diff(kept) <= 0).all()
    assert kept[-1] < 0.75 * kept[0]


def test_hidden_share_is_high_only_on_far_side() -> None:
    near_and_far = texture_positions(mean_face()[[61, 214, 13, 291, 434]])
    hidden = hidden_share(near_and_far, np.array([35.0, 48.0, -48.0]))
    assert (hidden[0] == 0).all()
    assert (hidden[1, :3] == 0).all() and (hidden[1, 3:] > 0.9).all()
    assert (hidden[2, 2:] == 0).all() and (hidden[2, :2] > 0.9).all()


def test_hidden_share_grows_gradually() -> None:
    hidden = hidden_share(texture_positions(mean_face()[[291, 13]]), np.arange(30, 70, 0.25))
    assert np.abs(np.diff(hidden, axis=0)).max() < 0.15
