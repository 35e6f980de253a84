import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import av
import numpy as np
import psutil
import pytest
from PIL import Image

from config import LabelsConfig, PipelineConfig
from errors import StoredFileError
from jobs.messages import AvatarRef, OutputInfo, SourceVideo
from media.audio_parts import AudioPart
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
from rendering.result_writer import ResultWriter
from rendering.source_readers import SourceReaders
from storage import file_keys
from storage.state import open_files
from tests.unit.media.clips import info_of, noise, write_audio, write_video
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
        out = file_keys.track_key(key, frames.start)
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
    source = SourceVideo(file_keys.source_key(key), info)
    (tmp_path / source.key).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(sample_video, tmp_path / source.key)
    files.make_folder(file_keys.tracks_folder(key))
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
            tracks = [file_keys.track_key(key, start) for start in (0, 4, 8)]
            builder.build(AvatarRef(file_keys.avatar_folder(key), source), tracks, CancelToken())
            with Image.open(tmp_path / file_keys.avatar_picture_key(key)) as picture:
                assert (picture.format, max(picture.size)) == ("JPEG", min(640, max(info.width, info.height)))
        wait_until(lambda: not _decoder_ids() - before, 20)


KEY = "0" * 32


def test_matte_builder_pieces_join_to_one_matte(tmp_path: Path, sample_video: Path) -> None:
    config = PipelineConfig(data_dir=tmp_path)
    files = open_files(config)
    info = replace(probe_video(sample_video, config.limits), num_frames=16)
    avatar = AvatarRef(file_keys.avatar_folder(KEY), SourceVideo(file_keys.source_key(KEY), info))
    folder = tmp_path / avatar.folder
    folder.mkdir(parents=True)
    shutil.copy(sample_video, tmp_path / avatar.source.key)
    with FrameReader(sample_video, info, 2**26) as reader:
        frames = list(reader.read(range(info.num_frames)))
        raw, _ = FaceTracker(num_threads=1, device="cpu").track_chunk(frames, info.colour, FaceChoice(), None)
        track, _ = own_track(raw, reader, info)
    track.save(folder / TRACK_FILE)
    files.make_folder(f"{avatar.folder}/pieces")
    half, pieces = (
        info.num_frames // 2,
        [f"{avatar.folder}/pieces/{file_keys.matte_piece(number)}" for number in range(2)],
    )
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
    report = MatteReport.model_validate_json((made / file_keys.MATTE_REPORT).read_bytes())
    assert report.mode == "person" and 0 < report.uncertain_share < 0.2
    assert report.person_box is not None
    left, top, right, bottom = report.person_box
    with FrameReader(made / file_keys.MATTE_VIDEO, matte_info(info), 2**26) as reader:
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


NUM_FRAMES, RATE, FPS = 500, 16_000, 25
FIRST, REVISION = "1" * 32, "2" * 32
_MARK = b"U"


def _write(data_dir: Path, job_id: str, samples: np.ndarray, earlier: str | None) -> list[bytes]:
    """Write the result of a job; return the packets of its sound."""
    config = PipelineConfig(data_dir=data_dir, labels=LabelsConfig(c2pa=False))
    files, source = open_files(config), SourceVideo(file_keys.source_key("0" * 32), info_of(192, 128))
    speech, out = data_dir / file_keys.job_file_key(job_id, "audio"), data_dir / file_keys.result_key(job_id)
    (data_dir / file_keys.segment_key(job_id, 0)).parent.mkdir(parents=True)
    write_audio(speech, samples, RATE, "pcm_s16le", sample_format="s16", container_format="wav")
    write_video(data_dir / file_keys.segment_key(job_id, 0), NUM_FRAMES)
    output = OutputInfo(NUM_FRAMES, job_id, pieces=file_keys.sound_key(job_id), earlier_pieces=earlier)
    part = AudioPart(file_keys.job_file_key(job_id, "audio"))
    with Decoders(config.decoder) as decoders:
        writer = ResultWriter(config, files, decoders)
        writer.write(
            [file_keys.segment_key(job_id, 0)], [part], file_keys.result_key(job_id), source, output, CancelToken()
        )
    assert (data_dir / file_keys.sound_key(job_id)).stat().st_size > 10_000
    assert [path.name for path in out.parent.iterdir() if path.is_file()].count("result.mp4") == 1
    with av.open(str(out)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def _mark(pieces: Path) -> None:
    """Change the last byte of each piece."""
    with ZipFile(pieces) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    with ZipFile(pieces, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content[:-1] + _MARK)


@pytest.mark.parametrize("is_kept", [True, False])
def test_write_of_a_revision_keeps_earlier_sound(tmp_path: Path, is_kept: bool) -> None:
    samples = noise(NUM_FRAMES / FPS, RATE)[None] * np.float32(0.3)
    first = _write(tmp_path, FIRST, samples, None)
    _mark(tmp_path / file_keys.sound_key(FIRST))
    if not is_kept:
        (tmp_path / file_keys.sound_key(FIRST)).unlink()
    changed = samples.copy()
    changed[:, :RATE] *= 0.5
    revised = _write(tmp_path, REVISION, changed, file_keys.sound_key(FIRST))
    assert len(first) == len(revised) and first[:20] != revised[:20]
    assert revised[255] == (first[255][:-1] + _MARK if is_kept else first[255]), "the last packet of the second piece"
