"""A face that the caller marks in a drawing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.analysis import AnalysedAvatar
from benchmarks.in_process import render_staged
from benchmarks.material import make_speech
from config import PipelineConfig
from errors import FaceNotFoundError
from jobs.messages import AvatarRef, SourceVideo
from media.cancel_token import CancelToken
from media.decoding.decoder import Decoders
from media.probe import probe_video
from media.reader import FrameReader
from models.avatar.avatar import Avatar
from models.engines.catalog import EngineCatalog
from models.face.choice import FaceChoice
from models.matting.generator import MatteGenerator
from models.matting.person import PersonSegmenter
from models.track.tracker import FaceTracker
from rendering.avatar_builder import AvatarBuilder
from rendering.source_readers import SourceReaders
from storage.file_keys import avatar_folder, source_key, track_key, tracks_folder
from storage.state import open_files

MARKS = (90.0, 100.0, 150.0, 100.0, 95.0, 160.0, 145.0, 160.0, 120.0, 200.0)


def _drawing(path: Path) -> Path:
    """A face of 240 x 240 pixels in which no face is found: light eyes and a line in a grey circle."""
    picture = np.full((240, 240, 3), (200, 220, 200), np.uint8)
    cv2.circle(picture, (120, 120), 90, (170, 170, 175), -1, cv2.LINE_AA)
    for x in (90, 150):
        cv2.circle(picture, (x, 100), 10, (110, 230, 200), -1, cv2.LINE_AA)
    cv2.line(picture, (95, 160), (145, 160), (40, 40, 90), 3, cv2.LINE_AA)
    cv2.imwrite(str(path), picture)
    return path


def test_build_with_marked_face_moves_mouth_of_a_drawing(tmp_path: Path) -> None:
    config = PipelineConfig(data_dir=tmp_path)
    files, key = open_files(config), "0" * 32
    (tmp_path / source_key(key)).parent.mkdir(parents=True)
    picture = _drawing(tmp_path / "face.png")
    shutil.copy(picture, tmp_path / source_key(key))
    source = SourceVideo(source_key(key), replace(probe_video(picture, config.limits), fps=Fraction(25)))
    files.make_folder(tracks_folder(key))
    avatar, track, token = AvatarRef(avatar_folder(key), source), track_key(key, 0), CancelToken()
    engine = EngineCatalog(config).engine("warp")
    with Decoders(config.decoder) as decoders:
        readers = SourceReaders(config, files, decoders, num_threads=1)
        tracker, matting = FaceTracker(num_threads=1, device="cpu"), MatteGenerator(PersonSegmenter(num_threads=1))
        builder = AvatarBuilder(config.limits, files, decoders, tracker, matting, readers)
        builder.track(source, FaceChoice(), range(1), None, track, token)
        with pytest.raises(FaceNotFoundError, match="mark the face with `face_points`"):
            builder.build(avatar, [track], token)
        builder.track(source, FaceChoice("points", MARKS), range(1), None, track, token)
        builder.build(avatar, [track], token)
        builder.analyse(avatar, engine, None, token)
    built = Avatar.load(tmp_path / avatar_folder(key))
    assert built.motion is not None
    upright = replace(built, motion=replace(built.motion, share=0.0))  # brows, gaze and lids may move
    render_staged(AnalysedAvatar(upright, engine, picture), make_speech(1.0, tmp_path), tmp_path)
    with FrameReader(tmp_path / "result.mp4", probe_video(tmp_path / "result.mp4", config.limits), 2**27) as reader:
        luma = np.stack([frame.y for frame in reader.read(range(25))]).astype(np.float64)
    change = np.abs(luma - luma[:1]).max(0)
    assert change[150:185, 100:140].max() > 40, "the mouth opens"
    assert np.abs(luma - luma[:1])[:, 85:115, 80:160].mean((1, 2)).max() < 2, "the eyes are left alone"
    outside = np.ones(change.shape, np.bool_)
    outside[60:225, 50:190] = False
    assert change[outside].max() < 20 and change[outside].mean() < 2
