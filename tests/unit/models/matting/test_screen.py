"""Screens are found by their colour, and keyed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from media.probe import ColourTags
from media.yuv_frame import YuvFrame, from_rgb
from models.matting.screen import find_screen, key

HEIGHT, WIDTH = 144, 192
COLOUR = ColourTags(6, False, 6, 6)


def _person() -> NDArray[np.float32]:
    """A head and shoulders, soft over some pixels."""
    plane = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.ellipse(plane, (96, 64), (26, 34), 0, 0, 360, 1.0, -1)
    cv2.ellipse(plane, (96, 150), (60, 60), 0, 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), 1.2), np.float32)


def _picture(
    screen: tuple[int, int, int], person: NDArray[np.float32], clothes: tuple[int, int, int] = (40, 40, 45)
) -> YuvFrame:
    """An RGB screen that is lit unevenly, behind a person with skin, dark hair and `clothes`."""
    light = np.linspace(0.75, 1.1, WIDTH, dtype=np.float32)[None, :, None]
    behind = np.asarray(screen, np.float32) * light + np.zeros((HEIGHT, 1, 1), np.float32)
    own = np.full((HEIGHT, WIDTH, 3), clothes, np.float32)
    own[30:96] = (198, 150, 125)
    own[:52] = (50, 38, 30)
    noise = np.random.default_rng(1).normal(0, 2, own.shape)
    mixed = person[..., None] * own + (1 - person[..., None]) * behind + noise
    return from_rgb(np.clip(mixed, 0, 255).astype(np.uint8), COLOUR)


SCREENS = {"green": (40, 180, 70), "blue": (40, 90, 200), "teal": (60, 170, 190)}


@pytest.mark.parametrize("name", SCREENS)
def test_find_screen_and_key_give_the_matte(name: str) -> None:
    person = _person()
    frame = _picture(SCREENS[name], person)
    screen = find_screen([frame], [person])
    assert screen is not None
    alpha = key(frame, screen, person).astype(np.float32) / 255
    assert np.abs(alpha - person).mean() < 0.01
    assert (alpha[person > 0.995] == 1).mean() > 0.98 and (alpha[person < 0.005] == 0).mean() > 0.98


@pytest.mark.parametrize("background", [(200, 195, 185), (60, 55, 50), (190, 120, 60), (128, 128, 128)])
def test_find_screen_wall_is_none(background: tuple[int, int, int]) -> None:
    person = _person()
    assert find_screen([_picture(background, person)], [person]) is None
    assert find_screen([_picture(background, person)], [person], is_expected=True) is None


def test_find_screen_partial_screen_only_if_expected() -> None:
    person = _person()
    frame = _picture(SCREENS["green"], person)
    other = _picture((170, 150, 140), person)
    half = WIDTH // 2
    mixed = YuvFrame(
        *(
            np.hstack([one[:, : half // step], two[:, half // step :]])
            for one, two, step in zip(frame, other, (1, 2, 2), strict=True)
        )
    )
    assert find_screen([mixed], [person]) is None
    assert find_screen([mixed], [person], is_expected=True) is not None


def test_key_inside_of_the_person_is_opaque() -> None:
    person = _person()
    frame = _picture(SCREENS["green"], person, clothes=(45, 170, 75))
    screen = find_screen([frame], [person])
    assert screen is not None
    alpha = key(frame, screen, person)
    assert (alpha[130:, 70:122] == 255).all()


def test_key_far_from_the_person_is_transparent() -> None:
    person = _person()
    frame = _picture(SCREENS["green"], person)
    screen = find_screen([frame], [person])
    assert screen is not None
    for plane, value, step in zip(frame, (230, 128, 128), (1, 2, 2), strict=True):
        plane.flags.writeable = True
        plane[: 20 // step, : 24 // step] = value  # a lamp
    assert not key(frame, screen, person)[:20, :24].any()


def test_key_clothes_of_the_screens_hue_are_opaque() -> None:
    person = _person()
    frame = _picture(SCREENS["blue"], person, clothes=(12, 20, 48))
    screen = find_screen([frame], [person])
    assert screen is not None
    unsure = person.copy()
    unsure[96:] = np.minimum(unsure[96:], 0.7)  # the network is not sure of the clothes
    alpha = key(frame, screen, unsure)
    clothes = cv2.erode((person > 0.995).astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
    clothes[:100] = False
    assert (alpha[clothes] == 255).mean() > 0.95
