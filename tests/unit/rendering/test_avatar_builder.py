"""A source is tracked in chunks: its decoder is kept from one to the next, and no longer than that."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from PIL import Image

from config import PipelineConfig
from jobs.messages import AvatarRef, SourceVideo
from media.cancel_token import CancelToken
from media.decoding.decoder import Decoders
from media.probe import probe_video
from models.face.choice import FaceChoice
from models.matting.generator import MatteGenerator
from models.matting.person import PersonSegmenter
from models.track.tracker import FaceTracker
from rendering.avatar_builder import AvatarBuilder
from rendering.source_readers import SourceReaders
from storage.file_keys import avatar_folder, avatar_picture_key, source_key, track_key, tracks_folder
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
        _await_end(before)
