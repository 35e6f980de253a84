"""The shipped avatar under a drawn moustache, and in soft dim light: its mouth does not move where nobody speaks."""

from __future__ import annotations

import wave
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.analysis import AnalysedAvatar, analyse
from benchmarks.in_process import render_staged
from config import MediaLimits
from media.audio import SPEECH_SAMPLE_RATE
from media.probe import probe_video
from media.reader import FrameReader
from media.writer import SegmentWriter
from media.yuv_frame import from_rgb, to_rgb
from models.quality.findings import STILL
from models.quality.report import QualityReport
from tests.unit.models.conftest import Filmed

# From the avatar's widest mouths to its closed ones.
FIRST, STOP = 20, 68
NOSE_BASE, CORNERS, UPPER_LIP = 2, (61, 291), 0

Points = NDArray[np.float32]  # (468, 3) of one picture


def _moustache(picture: NDArray[np.uint8], points: Points) -> NDArray[np.uint8]:
    """Brown hair from below the nose over the edge of the upper lip."""
    across = np.diff(points[list(CORNERS), :2], axis=0)[0]
    root, edge = points[NOSE_BASE, :2], points[UPPER_LIP, :2]
    hair = np.zeros(picture.shape[:2], np.float32)
    strands = np.random.default_rng(11).uniform((-0.4, 0.8, 0.2), (0.4, 1.1, 0.6), (400, 3))
    for along, length, weight in strands.tolist():
        droop = 1.5 * along**2  # it follows the bow of the lip
        begin = root + along * across + (0.4 + droop) * (edge - root)
        end = root + 1.03 * along * across + (length + droop) * (edge - root)
        ends = [(round(float(x)), round(float(y))) for x, y in (begin, end)]
        cv2.line(hair, ends[0], ends[1], weight, 1, cv2.LINE_AA)
    share = cv2.GaussianBlur(hair, (0, 0), 0.8)[..., None]
    return np.asarray(picture * (1 - share) + np.array([90, 66, 52]) * share, np.uint8)


def _soft_light(picture: NDArray[np.uint8], points: Points) -> NDArray[np.uint8]:
    """A dim picture out of focus, in which the inside of the mouth hardly differs from the lips."""
    soft = cv2.GaussianBlur(picture, (0, 0), 3.0).astype(np.float32)
    noise = np.random.default_rng(int(1e3 * points[0, 0])).normal(0, 2, soft.shape)
    return np.asarray((60 + 0.28 * soft + noise).clip(0, 255), np.uint8)


@pytest.fixture(scope="module", params=[_moustache, _soft_light])
def film(request: pytest.FixtureRequest, filmed_sample: Filmed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The avatar in another guise, as a film."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    colour, shown = filmed_sample.info.colour, slice(FIRST, STOP)
    writer = SegmentWriter(filmed_sample.info, 12, "ultrafast")
    for frame, points in zip(filmed_sample.frames[shown], filmed_sample.raw.points[shown], strict=True):
        picture = np.ascontiguousarray(to_rgb(frame, colour))
        writer.write(from_rgb(request.param(picture, points), colour))
    path.write_bytes(writer.finish())
    return path


@pytest.fixture(scope="module")
def cached(film: Path, tmp_path_factory: pytest.TempPathFactory) -> AnalysedAvatar:
    return analyse(film, tmp_path_factory.mktemp("avatar"))[0]


def _spoken(cached: AnalysedAvatar, sound: NDArray[np.int16], folder: Path) -> tuple[QualityReport, Path]:
    """A job with this sound: its report, and its film."""
    wav = folder / "sound.wav"
    with wave.open(str(wav), "wb") as target:
        target.setnchannels(1)
        target.setsampwidth(2)
        target.setframerate(SPEECH_SAMPLE_RATE)
        target.writeframes(sound.tobytes())
    rendered = render_staged(cached, wav, folder)
    return rendered.report, folder / "result.mp4"


def _light_of_mouth(cached: AnalysedAvatar, film: Path) -> NDArray[np.float64]:
    """(T, 24) light down the middle of the mouth, in a window that the head carries, over its mean."""
    track, info = cached.avatar.track, cached.avatar.info
    seam = track.rest[[13, 14]].mean(0)
    lines = seam + np.linspace(0.16, -0.16, 24)[:, None] * np.array([0.0, 1.0, 0.0])
    places = track.place(np.arange(info.num_frames), np.repeat(lines[None], info.num_frames, 0)).astype(np.float32)
    with FrameReader(film, probe_video(film, MediaLimits()), 2**27) as reader:
        light = [
            cv2.remap(cv2.blur(frame.y, (9, 1)), place[None, :, 0], place[None, :, 1], cv2.INTER_LINEAR)[0]
            for frame, place in zip(reader.read(range(info.num_frames)), places, strict=True)
        ]
    lit = np.array(light, np.float64)
    return np.asarray(lit / lit.mean(1, keepdims=True))


def _motion(light: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(light - light.mean(0)).mean()))


def test_generate_on_sample_in_silence_keeps_mouth_still(cached: AnalysedAvatar, tmp_path: Path) -> None:
    silence = np.zeros(round(cached.avatar.info.duration_seconds * SPEECH_SAMPLE_RATE), np.int16)
    report, film = _spoken(cached, silence, tmp_path)
    talking, silent = (_motion(_light_of_mouth(cached, seen)) for seen in (cached.video, film))
    assert silent < 0.35 * talking
    assert report.mouth.num_silent_frames == cached.avatar.info.num_frames
    assert report.mouth.motion_silence is not None and report.mouth.motion_silence < STILL
    assert not any("moves in silence" in warning for warning in report.warnings)
