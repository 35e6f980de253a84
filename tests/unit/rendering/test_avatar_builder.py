"""Sources are tracked in chunks, whose decoder is kept as long as it is needed; marked faces are not searched for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

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
from storage.file_keys import avatar_folder, avatar_picture_key, source_key, track_key, tracks_folder
from storage.files import StoredFiles
from storage.state import open_files


def _decoder_ids() -> set[int]:
    """The decoders of this process's fork servers."""
    found: set[int] = set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if "media.decoding.forkserver" in " ".join(child.cmdline()):
                found |= {decoder.pid for decoder in child.children()}
    return found


def _track(builder: AvatarBuilder, source: SourceVideo, key: str, before: set[int]) -> list[set[int]]:
    """Tracks a source in three chunks; returns the decoders after each."""
    state, seen, num_frames = None, [], source.info.num_frames
    for frames in (range(4), range(4, 8), range(8, num_frames)):
        out = track_key(key, frames.start)
        state = builder.track(source, FaceChoice.parse("largest"), frames, state, out, CancelToken())
        seen.append(_decoder_ids() - before)
    return seen


@contextmanager
def _builder(config: PipelineConfig, files: StoredFiles) -> Iterator[tuple[AvatarBuilder, SourceReaders]]:
    with Decoders(config.decoder) as decoders:
        readers = SourceReaders(config, files, decoders, num_threads=1)
        tracker = FaceTracker(num_threads=1, device="cpu")
        matting = MatteGenerator(PersonSegmenter(num_threads=1))
        yield AvatarBuilder(config.limits, files, decoders, tracker, matting, readers), readers


def _await_end(before: set[int]) -> None:
    deadline = time.monotonic() + 20
    while _decoder_ids() - before:
        assert time.monotonic() < deadline, "a decoder that nobody will use any more is kept"
        time.sleep(0.02)


@pytest.mark.parametrize("fits", [False, True])
def test_track_decoder_ends_with_its_last_use(tmp_path: Path, sample_video: Path, fits: bool) -> None:
    """That is the last chunk; if all frames fit the decoder's cache, it is the analysis that reads them again."""
    config = PipelineConfig(data_dir=tmp_path)
    if not fits:
        config = config.model_copy(update={"render": config.render.model_copy(update={"reader_cache_bytes": 2**22})})
    files, key = open_files(config), "0" * 32
    info = replace(probe_video(sample_video, config.limits), num_frames=24)
    source = SourceVideo(source_key(key), info)
    (tmp_path / source.key).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(sample_video, tmp_path / source.key)
    files.make_folder(tracks_folder(key))
    before = _decoder_ids()
    with _builder(config, files) as (builder, readers):
        seen = _track(builder, source, key, before)
        assert len(seen[0]) == 1 and seen[1] == seen[0], "the next chunk continues in the same decoder"
        if fits:
            for is_last in (False, True):
                with readers.whole(source, CancelToken(), is_last=is_last) as reader:
                    assert len(list(reader.read(range(info.num_frames)))) == info.num_frames
                    assert _decoder_ids() - before == seen[0], "another decoder reads the frames again"
        else:
            tracks = [track_key(key, start) for start in (0, 4, 8)]
            builder.build(AvatarRef(avatar_folder(key), source), tracks, CancelToken())
            with Image.open(tmp_path / avatar_picture_key(key)) as picture:
                assert (picture.format, max(picture.size)) == ("JPEG", min(640, max(info.width, info.height)))
        _await_end(before)


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


def test_build_with_marked_face_moves_only_the_mouth_of_a_drawing(tmp_path: Path) -> None:
    config = PipelineConfig(data_dir=tmp_path)
    files, key = open_files(config), "0" * 32
    (tmp_path / source_key(key)).parent.mkdir(parents=True)
    picture = _drawing(tmp_path / "face.png")
    shutil.copy(picture, tmp_path / source_key(key))
    source = SourceVideo(source_key(key), replace(probe_video(picture, config.limits), fps=Fraction(25)))
    files.make_folder(tracks_folder(key))
    avatar, track, token = AvatarRef(avatar_folder(key), source), track_key(key, 0), CancelToken()
    engine = EngineCatalog(config).engine("warp")
    with _builder(config, files) as (builder, _):
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
