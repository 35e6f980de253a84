import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from PIL import Image

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
from rendering.avatar_builder import AvatarBuilder
from rendering.matte_builder import MatteBuilder
from rendering.source_readers import SourceReaders
from storage.file_keys import (
    MATTE_REPORT,
    MATTE_VIDEO,
    avatar_folder,
    avatar_picture_key,
    matte_piece,
    source_key,
    track_key,
    tracks_folder,
)
from storage.state import open_files
from tests.waiting import wait_until


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
    with Decoders(config.decoder) as decoders:
        readers = SourceReaders(config, files, decoders, num_threads=1)
        tracker = FaceTracker(num_threads=1, device="cpu")
        matting = MatteGenerator(PersonSegmenter(num_threads=1))
        builder = AvatarBuilder(config.limits, files, decoders, tracker, matting, readers)
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
        wait_until(lambda: not _decoder_ids() - before, 20)


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
