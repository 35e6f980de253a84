from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.media.array_files import load_arrays, save_arrays
from lipwright.media.audio import extract_speech
from lipwright.media.yuv_frame import YuvFrame, from_rgb, to_rgb
from models.face.finder import FaceFinder
from models.people.people import find_people
from models.people.scan import FaceRows, PeopleScanner
from models.people.speakers import SourceMouth
from models.speech.features import SpeechFeatures
from models.speech.level import measure_level, open_speech
from models.speech.speech_to_mouth import SpeechToMouth
from models.speech.voice_detector import VoiceDetector
from tests.unit.models.conftest import COLOUR
from tests.unit.models.films import read_film

FPS = 25
NUM_BOTH, NUM_ALONE = 60, 20
SIDE = 256


def _square(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = min(rgb.shape[:2])
    left = (rgb.shape[1] - side) // 2
    small = cv2.resize(rgb[:side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


@pytest.fixture(scope="module")
def frames(sample_video: Path, portrait: NDArray[np.uint8]) -> list[YuvFrame]:
    """The speaker on the right of the portrait, then a cut to the speaker alone, on the left."""
    info, filmed = read_film(sample_video, range(NUM_BOTH + NUM_ALONE))
    speaker = [_square(to_rgb(frame, info.colour)) for frame in filmed]
    other, nobody = _square(portrait), np.full((SIDE, SIDE, 3), 30, np.uint8)
    pairs = [(other, each) for each in speaker[:NUM_BOTH]] + [(each, nobody) for each in speaker[NUM_BOTH:]]
    return [from_rgb(np.concatenate(pair, 1), COLOUR) for pair in pairs]


@pytest.fixture(scope="module")
def scanner() -> PeopleScanner:
    return PeopleScanner(FaceFinder(1, "cpu"))


def _scan(scanner: PeopleScanner, frames: list[YuvFrame], step: int) -> FaceRows:
    state, chunks = None, []
    for start in range(0, len(frames), step):
        rows, state = scanner.scan_chunk(frames[start : start + step], COLOUR, start, FPS, state)
        chunks.append(rows)
    return FaceRows.concatenate(chunks)


@pytest.fixture(scope="module")
def rows(scanner: PeopleScanner, frames: list[YuvFrame]) -> FaceRows:
    return _scan(scanner, frames, len(frames))


def test_find_people_knows_people_across_a_cut(rows: FaceRows) -> None:
    report = find_people(rows, Fraction(FPS), None).report
    ranges = sorted([(each.start, each.end) for each in person.seen] for person in report.people)
    assert ranges == [[(0.0, NUM_BOTH / FPS)], [(0.0, (NUM_BOTH + NUM_ALONE) / FPS)]]
    assert all(person.frontal_share > 0.9 and 60 < person.face_pixels < 250 for person in report.people)
    assert report.turns == ()


def test_find_people_speaker_is_the_matching_mouth(rows: FaceRows, sample_video: Path, tmp_path: Path) -> None:
    speech = tmp_path / "speech.npy"
    extract_speech(sample_video, speech, MediaLimits())
    num_rows = 2 * (NUM_BOTH + NUM_ALONE)
    features = SpeechFeatures().extract(speech, measure_level(speech), 0, num_rows / 50)
    is_heard = VoiceDetector().detect(open_speech(speech), measure_level(speech), 0, num_rows)
    found = find_people(rows, Fraction(FPS), SourceMouth.predict(SpeechToMouth(), features, is_heard, 0))
    speaker = next(each for each in found.report.people if each.seen[-1].end > NUM_BOTH / FPS)
    assert found.report.main_speaker() == speaker.number
    assert found.report.speaking_seconds(speaker.number) > 0.8 * len(rows.scenes) / FPS
    left, _, right, _ = found.pictures[1 - speaker.number].box
    assert right <= SIDE, "the other one is on the left"


def test_scan_chunk_in_chunks_equals_one_run(scanner: PeopleScanner, frames: list[YuvFrame], tmp_path: Path) -> None:
    few = frames[NUM_BOTH - 8 : NUM_BOTH + 8]
    whole, pieces = _scan(scanner, few, len(few)), _scan(scanner, few, 5)
    save_arrays(tmp_path / "rows.npz", pieces)
    for one, other in zip(whole, FaceRows(**load_arrays(tmp_path / "rows.npz")), strict=True):
        np.testing.assert_array_equal(one, other)
    grey = _scan(scanner, [from_rgb(np.full((128, 128, 3), 90, np.uint8), COLOUR)] * 3, 2)
    assert len(grey.frame) == len(grey.appearance) == 0
    report = find_people(grey, Fraction(FPS), None).report
    assert report.people == () and report.main_speaker() is None
