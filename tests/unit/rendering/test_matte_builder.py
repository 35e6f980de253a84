"""The matte of a real clip is made in pieces, and opaque where the face is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from config import PipelineConfig
from errors import StoredFileError
from jobs.messages import AvatarRef, SourceVideo
from media.cancel_token import CancelToken
from media.decoding.decoder import Decoders
from media.matte import MatteFrames, matte_info
from media.probe import probe_video
from media.reader import FrameReader
from models.avatar.avatar import own_track
from models.avatar.folder import TRACK_FILE
from models.face.choice import FaceChoice
from models.matting.generator import MatteGenerator
from models.matting.person import PersonSegmenter
from models.matting.report import MatteReport
from models.track.tracker import FaceTracker
from rendering.matte_builder import MatteBuilder
from rendering.source_readers import SourceReaders
from storage.file_keys import MATTE_REPORT, MATTE_VIDEO, avatar_folder, matte_piece, source_key
from storage.state import open_files

KEY = "0" * 32


def test_matte_builder_pieces_join_to_one_matte(tmp_path: Path, sample_video: Path) -> None:
    config = PipelineConfig(data_dir=tmp_path)
    files = open_files(config)
    info = replace(probe_video(sample_video, config.limits), num_frames=16)
    avatar = AvatarRef(avatar_folder(KEY), SourceVideo(source_key(KEY), info))
    folder = tmp_path / avatar.folder
    folder.mkdir(parents=True)
    shutil.copy(sample_video, tmp_path / avatar.source.key)
    with FrameReader(sample_video, info, 2**26) as reader:
        frames = list(reader.read(range(info.num_frames)))
        raw, _ = FaceTracker(num_threads=1, device="cpu").track_chunk(frames, info.colour, FaceChoice(), None)
        track, _ = own_track(raw, reader, info)
    track.save(folder / TRACK_FILE)
    files.make_folder(f"{avatar.folder}/pieces")
    half, pieces = info.num_frames // 2, [f"{avatar.folder}/pieces/{matte_piece(number)}" for number in range(2)]
    with Decoders(config.decoder) as decoders:
        readers = SourceReaders(config, files, decoders, num_threads=1)
        builder = MatteBuilder(files, MatteGenerator(PersonSegmenter(num_threads=1)), readers, num_threads=1)
        token = CancelToken()
        builder.matte(avatar, None, range(half), None, pieces[0], token)
        builder.matte(avatar, None, range(half, info.num_frames), pieces[0], pieces[1], token)
        first = (tmp_path / pieces[1]).read_bytes()
        builder.matte(avatar, None, range(half, info.num_frames), pieces[0], pieces[1], token)
        assert (tmp_path / pieces[1]).read_bytes() == first, "a call can be repeated"
        builder.join(avatar, "mattes/person/", None, pieces)
    made = folder / "mattes/person"
    report = MatteReport.model_validate_json((made / MATTE_REPORT).read_bytes())
    assert report.mode == "person" and 0 < report.uncertain_share < 0.2
    assert report.person_box is not None
    left, top, right, bottom = report.person_box
    with FrameReader(made / MATTE_VIDEO, matte_info(info), 2**26) as reader:
        alphas = [frame.y for frame in MatteFrames(reader).read(range(info.num_frames))]
    for alpha, points in zip(alphas, track.points, strict=True):
        face = points[:, :2].round().astype(int)
        assert (alpha[face[:, 1], face[:, 0]] == 255).mean() > 0.95
        assert 0.02 < (alpha > 127).mean() < 0.9
        columns, rows = points[:, 0] / info.width, points[:, 1] / info.height
        assert left < columns.min() < columns.max() < right
        assert top < rows.min() < rows.max() < bottom
        inside = alpha[round(top * info.height) : round(bottom * info.height)]
        inside = inside[:, round(left * info.width) : round(right * info.width)]
        assert (inside > 127).sum() > 0.93 * (alpha > 127).sum()
    (tmp_path / pieces[0]).write_bytes(b"damaged")
    with pytest.raises(StoredFileError, match="damaged"):
        builder.join(avatar, "mattes/person/", None, pieces)
