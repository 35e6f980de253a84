"""What every engine and audio encoder does: a test module subclasses these classes and provides their fixtures."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from lipwright.errors import CancelledJobError, MediaError
from lipwright.media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from models.engines.protocol import AudioEncoder, Engine, FaceGenerator, FrameSpan
from models.speech.level import SpeechLevel, measure_level
from tests.unit.models.engines.paste.face_scene import ABSENT, analyse, patch_bytes

Speech = tuple[Path, SpeechLevel]

# A source frame that is shown twice, and one without a face.
SOURCE = np.array([0, 1, 2, 3, 4, ABSENT, 6, 7, 8, 9, 9, 11], np.int32)
NUM = len(SOURCE)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Speech:
    """Half a second of noise that comes and goes, and its level."""
    path = tmp_path_factory.mktemp("speech") / "speech.npy"
    loudness = 9000 * np.sin(np.arange(8000) / 1600) ** 2
    np.save(path, (loudness * np.random.default_rng(0).uniform(-1, 1, 8000)).astype(np.int16))
    return path, measure_level(path)


@dataclass(frozen=True)
class Setup:
    engine: Engine
    audio_encoder: Callable[[], AudioEncoder]
    face_generator: Callable[[], FaceGenerator]
    shows_speech: bool = True  # whether pasting keeps what speech changes in the pictures of its stand-in


class EngineContract:
    """Needs a fixture `setup`."""

    def test_encode_plan_crop_generate_in_parts_gives_same_bytes(
        self, setup: Setup, avatar: Avatar, frames: list[YuvFrame], speech: Speech
    ) -> None:
        """As the graph runs an engine: in blocks and chunks of any size, in any process, pickled between the steps."""
        analyse(setup.engine, avatar)

        def generate(face_generator: FaceGenerator, first: int, stop: int, size: int) -> list[bytes | None]:
            span = FrameSpan(Fraction(25), first, stop - first, NUM)
            features = pickle.loads(pickle.dumps(setup.audio_encoder().encode(*speech, span)))
            planned = setup.engine.plan(avatar, features, span, SOURCE[first:stop], None)
            assert (planned.state, planned.measures.num_frames) == (None, span.num)
            made: list[bytes | None] = []
            for start in range(0, span.num, size):
                part = pickle.loads(pickle.dumps(planned.plan.slice(start, min(start + size, span.num))))
                chunk = setup.engine.crop(avatar, part, [frames[i] for i in part.source_index])
                made += patch_bytes(face_generator.generate(pickle.loads(pickle.dumps(chunk))))
            return made

        whole = generate(setup.face_generator(), 0, NUM, NUM)
        other = setup.face_generator()
        assert [*generate(other, 0, 5, 2), *generate(other, 5, NUM, 3)] == whole
        assert [t for t, patch in enumerate(whole) if patch is None] == [SOURCE.tolist().index(ABSENT)]
        if setup.shows_speech:
            assert len(set(whole)) == NUM, "one picture, driven by different speech, gives different patches"

    def test_generate_changes_only_face(
        self, setup: Setup, avatar: Avatar, frames: list[YuvFrame], speech: Speech
    ) -> None:
        analyse(setup.engine, avatar)
        span = FrameSpan(Fraction(25), 0, 3, NUM)
        features = setup.audio_encoder().encode(*speech, span)
        plan = setup.engine.plan(avatar, features, span, SOURCE[7:10], None).plan
        chunk = setup.engine.crop(avatar, plan, [frames[i] for i in plan.source_index])
        patches = setup.face_generator().generate(chunk)
        for face in range(3):
            changed = np.argwhere(patches.y[face] != chunk.y[chunk.crop[face]])
            hull = cv2.convexHull(chunk.outline[face])
            assert len(changed) > 1000
            assert min(cv2.pointPolygonTest(hull, (float(x), float(y)), True) for y, x in changed) > -2.5
        with pytest.raises(CancelledJobError, match="0 of 3 faces"):
            setup.face_generator().generate(chunk, lambda: True)


class AudioEncoderContract:
    """Needs a fixture `audio_encoder`."""

    def test_encode_other_file_or_cancel_raises(self, audio_encoder: AudioEncoder, speech: Speech) -> None:
        path, level = speech
        span = FrameSpan(Fraction(25), 0, 10, 10)
        with pytest.raises(MediaError, match=r"Expected 5 samples.*speech\.npy, found 8000"):
            audio_encoder.encode(path, SpeechLevel(5, 1.0, -20.0), span)
        with pytest.raises(CancelledJobError):
            audio_encoder.encode(path, level, span, lambda: True)
