"""The sample portrait as a still source: its file, its planes and the face in it."""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

from lipwright.media.probe import VideoInfo
from lipwright.media.reader import FrameReader
from lipwright.media.yuv_frame import YuvFrame
from models.face.choice import FaceChoice
from models.track.face_track import FaceTrack, finish_track
from models.track.raw_landmarks import RawLandmarks
from models.track.tracker import FaceTracker
from tests.unit.models.films import read_film

FPS = 25


@dataclass(frozen=True)
class Still:
    path: Path
    info: VideoInfo
    planes: YuvFrame
    raw: RawLandmarks
    track: FaceTrack

    def reader(self) -> FrameReader:
        return FrameReader(self.path, self.info, 2**20)


@cache
def make_still(path: Path) -> Still:
    """Tracks the face of a picture, once for all tests."""
    info, (planes,) = read_film(path, [0])
    info = replace(info, fps=Fraction(FPS))
    raw, _ = FaceTracker(1, "cpu").track_chunk([planes], info.colour, FaceChoice.parse("largest"), None)
    return Still(path, info, planes, raw, finish_track(raw.points, raw.present))
