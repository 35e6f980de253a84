from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.media.output.dynamic_range import from_sdr_rgb, to_sdr_rgb
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame, from_rgb
from models.matting.person import PersonSegmenter
from models.matting.refine import refine, stabilised
from models.matting.report import certainty, uncertain_ranges
from models.matting.screen import find_screen, key
from tests.unit.models.films import read_film


@pytest.mark.parametrize("transfer", [16, 18], ids=["pq", "hlg"])
def test_person_segmenter_hdr_equals_sdr(sample_video: Path, transfer: int) -> None:
    hdr = ColourTags(9, False, 9, transfer)
    info, (frame,) = read_film(sample_video, [0])
    segmenter = PersonSegmenter(num_threads=1)
    expected = segmenter(frame, info.colour)
    found = segmenter(from_sdr_rgb(to_sdr_rgb(frame, info.colour), hdr), hdr)
    assert np.abs(found - expected).mean() < 0.0035


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
    flat = YuvFrame(*(np.full((HEIGHT // step, WIDTH // step), 120, np.uint8) for step in (1, 2, 2)))
    unchanged = refine(flat, _coarse(mask)).astype(np.float32) / 255
    assert np.abs(unchanged - _coarse(mask)).mean() < 0.01


def test_stabilised_matte_flickers_less_and_follows_motion() -> None:
    rng = np.random.default_rng(5)
    mask, history, raw, kept = _disc(240), None, [], []
    for number in range(12):
        coarse = np.clip(_coarse(mask) + rng.normal(0, 0.15), 0, 1).astype(np.float32)
        history = stabilised(_frame(mask, number), coarse, history)
        raw.append(coarse)
        kept.append(history.coarse)
    before, after = (float(np.abs(np.diff(np.stack(each), axis=0)).mean()) for each in (raw[4:], kept[4:]))
    assert after < 0.4 * before
    moved = _coarse(_disc(280))
    history = stabilised(_frame(_disc(280)), moved, history)
    changed = cv2.absdiff(_disc(280), mask) > 0
    assert np.abs(history.coarse - moved)[changed].mean() < 0.1
    rng = np.random.default_rng(9)
    blocks = ((step, rng.integers(0, 256, (9, 12))) for step in (1, 2, 2))
    other = YuvFrame(*(np.kron(block, np.ones((40 // s, 40 // s))).astype(np.uint8) for s, block in blocks))
    history, new = stabilised(_frame(mask), _coarse(mask), None), np.zeros((HEIGHT, WIDTH), np.float32)
    np.testing.assert_array_equal(stabilised(other, new, history).coarse, new, "it restarts at a cut")


def test_uncertain_ranges_are_joined_and_long_enough() -> None:
    shares = np.tile(np.array([0.3, 0.01], np.float32), (200, 1))
    shares[50:70, 1] = 0.08  # more than 12 % of .3
    shares[75:80, 1] = 0.08  # goes on after a short gap
    shares[120:122, 1] = 0.2  # too short
    shares[150:180, 0] = 0.0  # nobody
    ranges = uncertain_ranges(shares, Fraction(25))
    assert [(each.start, each.end, each.has_person) for each in ranges] == [(2.0, 3.2, True), (6.0, 7.2, False)]
    for share, is_uncertain in ((0.1, True), (0.01, False)):  # a still
        assert bool(uncertain_ranges(np.array([[0.3, share]], np.float32), Fraction(25))) == is_uncertain
    coarse = np.array([[0.0, 0.1, 0.5, 0.74], [0.9, 1.0, 1.0, 0.3]], np.float32)
    assert certainty(coarse) == (5 / 8, 3 / 8)


SCREEN_HEIGHT, SCREEN_WIDTH = 144, 192
COLOUR = ColourTags(6, False, 6, 6)
Colour = tuple[int, int, int]


GREEN, BLUE, TEAL = (40, 180, 70), (40, 90, 200), (60, 170, 190)


@pytest.fixture
def person() -> NDArray[np.float32]:
    """A head and shoulders, soft over some pixels."""
    plane = np.zeros((SCREEN_HEIGHT, SCREEN_WIDTH), np.float32)
    cv2.ellipse(plane, (96, 64), (26, 34), 0, 0, 360, 1.0, -1)
    cv2.ellipse(plane, (96, 150), (60, 60), 0, 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), 1.2), np.float32)


def _picture(screen: Colour, person: NDArray[np.float32], clothes: Colour = (40, 40, 45)) -> YuvFrame:
    """An RGB screen that is lit unevenly, behind a person with skin, dark hair and `clothes`."""
    light = np.linspace(0.75, 1.1, SCREEN_WIDTH, dtype=np.float32)[None, :, None]
    behind = np.asarray(screen, np.float32) * light + np.zeros((SCREEN_HEIGHT, 1, 1), np.float32)
    own = np.full((SCREEN_HEIGHT, SCREEN_WIDTH, 3), clothes, np.float32)
    own[30:96] = (198, 150, 125)
    own[:52] = (50, 38, 30)
    noise = np.random.default_rng(1).normal(0, 2, own.shape)
    mixed = person[..., None] * own + (1 - person[..., None]) * behind + noise
    return from_rgb(np.clip(mixed, 0, 255).astype(np.uint8), COLOUR)


def _keyed(
    frame: YuvFrame, person: NDArray[np.float32], unsure: NDArray[np.float32] | None = None
) -> NDArray[np.uint8]:
    """The matte of the frame, before a screen that is found with the person of the network."""
    screen = find_screen([frame], [person])
    assert screen is not None
    return key(frame, screen, person if unsure is None else unsure)


@pytest.mark.parametrize("screen", [GREEN, BLUE, TEAL], ids=["green", "blue", "teal"])
def test_find_screen_and_key_give_the_matte(person: NDArray[np.float32], screen: Colour) -> None:
    alpha = _keyed(_picture(screen, person), person).astype(np.float32) / 255
    assert np.abs(alpha - person).mean() < 0.01
    assert (alpha[person > 0.995] == 1).mean() > 0.98 and (alpha[person < 0.005] == 0).mean() > 0.98


def test_find_screen_partial_only_if_expected_wall_never(person: NDArray[np.float32]) -> None:
    mixed = YuvFrame(*(plane.copy() for plane in _picture(GREEN, person)))
    for plane, other in zip(mixed, _picture((170, 150, 140), person), strict=True):
        plane[:, plane.shape[1] // 2 :] = other[:, plane.shape[1] // 2 :]
    assert find_screen([mixed], [person]) is None
    assert find_screen([mixed], [person], is_expected=True) is not None
    for background in ((200, 195, 185), (60, 55, 50), (190, 120, 60), (128, 128, 128)):
        wall = [_picture(background, person)]
        assert find_screen(wall, [person]) is None and find_screen(wall, [person], is_expected=True) is None


def test_key_person_is_opaque_and_what_is_far_transparent(person: NDArray[np.float32]) -> None:
    frame = YuvFrame(*(plane.copy() for plane in _picture(GREEN, person, clothes=(45, 170, 75))))
    for plane, value, step in zip(frame, (230, 128, 128), (1, 2, 2), strict=True):
        plane[: 20 // step, : 24 // step] = value  # a lamp
        plane[14 // step : 18 // step, 80 // step : 112 // step] = value  # near the head, but separate
    alpha = _keyed(frame, person)
    assert (alpha[130:, 70:122] == 255).all() and not alpha[:20].any()


def test_key_clothes_of_the_screens_hue_are_opaque(person: NDArray[np.float32]) -> None:
    unsure = person.copy()
    unsure[96:] = np.minimum(unsure[96:], 0.7)  # the network is not sure of the clothes
    alpha = _keyed(_picture(BLUE, person, clothes=(12, 20, 48)), person, unsure)
    clothes = cv2.erode((person > 0.995).astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
    clothes[:100] = False
    assert (alpha[clothes] == 255).mean() > 0.95
