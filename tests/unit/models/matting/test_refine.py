"""A coarse matte follows the edges of the picture, and changes only where the picture does."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.matting.refine import refine
from models.matting.stabilise import stabilised

HEIGHT, WIDTH = 360, 480


def _disc(x: int) -> NDArray[np.uint8]:
    plane = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(plane, (x, 180), 90, 255, -1)
    return plane


def _frame(mask: NDArray[np.uint8], seed: int = 0) -> YuvFrame:
    """A dark, reddish person in front of something bright, with noise."""
    rng = np.random.default_rng(seed)
    share = cv2.GaussianBlur(mask, (0, 0), 1).astype(np.float32) / 255
    half = cv2.resize(share, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
    planes = [
        weight * own + (1 - weight) * behind + rng.normal(0, 2, weight.shape)
        for weight, own, behind in ((share, 80, 170), (half, 115, 130), (half, 150, 126))
    ]
    return YuvFrame(*(np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in planes))


def _coarse(mask: NDArray[np.uint8], shift: int = 0) -> NDArray[np.float32]:
    """What a network with an eighth of the resolution might say."""
    small = cv2.resize(np.roll(mask, shift, 1), (WIDTH // 8, HEIGHT // 8), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR).astype(np.float32) / np.float32(255)


def test_refine_outline_follows_the_picture() -> None:
    mask = _disc(240)
    coarse = _coarse(mask, shift=3)
    alpha = refine(_frame(mask), coarse).astype(np.float32) / 255
    truth = cv2.GaussianBlur(mask, (0, 0), 1).astype(np.float32) / 255
    raw = np.abs(coarse - truth).mean()
    assert np.abs(alpha - truth).mean() < 0.5 * raw
    inside, outside = cv2.erode(mask, np.ones((31, 31))) > 0, cv2.dilate(mask, np.ones((31, 31))) == 0
    assert (alpha[inside] == 1).all() and (alpha[outside] == 0).all()


def test_refine_without_contrast_keeps_the_coarse_matte() -> None:
    mask = _disc(240)
    flat = YuvFrame(*(np.full((HEIGHT // step, WIDTH // step), 120, np.uint8) for step in (1, 2, 2)))
    coarse = _coarse(mask)
    alpha = refine(flat, coarse).astype(np.float32) / 255
    assert np.abs(alpha - coarse).mean() < 0.01


def test_stabilised_matte_flickers_less_and_follows_motion() -> None:
    rng = np.random.default_rng(5)
    history, raw, kept = None, [], []
    for number in range(12):
        mask = _disc(240)
        coarse = np.clip(_coarse(mask) + rng.normal(0, 0.15), 0, 1).astype(np.float32)
        history = stabilised(_frame(mask, number), coarse, history)
        raw.append(coarse)
        kept.append(history.coarse)
    before, after = (float(np.abs(np.diff(np.stack(each), axis=0)).mean()) for each in (raw[4:], kept[4:]))
    assert after < 0.4 * before
    moved = _coarse(_disc(280))
    history = stabilised(_frame(_disc(280)), moved, history)
    changed = cv2.absdiff(_disc(280), _disc(240)) > 0
    assert np.abs(history.coarse - moved)[changed].mean() < 0.1


def test_stabilised_matte_restarts_at_a_cut() -> None:
    history = stabilised(_frame(_disc(240)), _coarse(_disc(240)), None)
    rng = np.random.default_rng(9)
    other = YuvFrame(
        *(
            np.kron(rng.integers(0, 256, (9 // 1, 12 // 1)), np.ones((40 // step, 40 // step))).astype(np.uint8)
            for step in (1, 2, 2)
        )
    )
    new = np.zeros((HEIGHT, WIDTH), np.float32)
    np.testing.assert_array_equal(stabilised(other, new, history).coarse, new)
