import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import av
import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

from benchmarks.analysis import AnalysedAvatar
from benchmarks.in_process import render_staged
from benchmarks.material import make_speech
from lipwright.config import LabelsConfig, PipelineConfig
from lipwright.errors import FaceNotFoundError, MediaError, StoredFileError
from lipwright.jobs.messages import AvatarRef, OutputInfo, SourceVideo
from lipwright.media.audio_parts import AudioPart
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.decoder import Decoders
from lipwright.media.matte import MatteFrames, matte_info
from lipwright.media.probe import probe_video
from lipwright.media.reader import FrameReader
from lipwright.rendering.avatar_builder import AvatarBuilder
from lipwright.rendering.matte_builder import MatteBuilder
from lipwright.rendering.result_writer import ResultWriter
from lipwright.rendering.source_readers import SourceReaders
from lipwright.storage import file_keys
from lipwright.storage.state import open_files
from models.avatar.avatar import Avatar
from models.avatar.folder import analysis_part
from models.engines.catalog import EngineCatalog
from models.face.choice import FaceChoice
from models.matting.generator import MatteGenerator
from models.matting.person import PersonSegmenter
from models.matting.report import MatteReport
from models.track.tracker import FaceTracker
from tests.unit.media.clips import info_of, noise, write_audio, write_video
from tests.unit.models.films import read_film
from tests.waiting import wait_until

KEY = "0" * 32


def _decoder_ids() -> set[int]:
    """The decoders of this process's fork servers."""
    found: set[int] = set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if "lipwright.media.decoding.forkserver" in " ".join(child.cmdline()):
                found |= {decoder.pid for decoder in child.children()}
    return found


def _stored(config: PipelineConfig, path: Path, **changes: Any) -> SourceVideo:
    """Copies a source to where the service keeps it."""
    source = SourceVideo(file_keys.source_key(KEY), replace(probe_video(path, config.limits), **changes))
    (config.data_dir / source.key).parent.mkdir(parents=True)
    shutil.copy(path, config.data_dir / source.key)
    open_files(config).make_folder(file_keys.tracks_folder(KEY))
    return source


@contextmanager
def _building(config: PipelineConfig) -> Iterator[tuple[SourceReaders, AvatarBuilder, MatteBuilder]]:
    files = open_files(config)
    with Decoders(config.decoder) as decoders:
        readers = SourceReaders(config, files, decoders, num_threads=1)
        tracker, matting = FaceTracker(num_threads=1, device="cpu"), MatteGenerator(PersonSegmenter(num_threads=1))
        builder = AvatarBuilder(config.limits, files, decoders, tracker, matting, readers)
        yield readers, builder, MatteBuilder(files, matting, readers, num_threads=1)


@pytest.mark.parametrize("fits", [False, True])
def test_track_decoder_ends_with_its_last_use(tmp_path: Path, sample_video: Path, fits: bool) -> None:
    """That is the last chunk; if all frames fit the decoder's cache, it is the analysis that reads them again."""
    config = PipelineConfig(data_dir=tmp_path)
    if not fits:
        config = config.model_copy(update={"render": config.render.model_copy(update={"reader_cache_bytes": 2**22})})
    source = _stored(config, sample_video, num_frames=24)
    before, decoders, state = _decoder_ids(), list[set[int]](), None
    with _building(config) as (readers, builder, _):
        for frames in (range(4), range(4, 8), range(8, 24)):
            out = file_keys.track_key(KEY, frames.start)
            state = builder.track(source, FaceChoice.parse("largest"), frames, state, out, CancelToken())
            decoders.append(_decoder_ids() - before)
        assert len(decoders[0]) == 1 and decoders[1] == decoders[0], "the next chunk continues in the same decoder"
        if fits:
            for is_last in (False, True):
                with readers.whole(source, CancelToken(), is_last=is_last) as reader:
                    assert len(list(reader.read(range(24)))) == 24
                    assert _decoder_ids() - before == decoders[0], "another decoder reads the frames again"
        else:
            tracks = [file_keys.track_key(KEY, start) for start in (0, 4, 8)]
            builder.build(AvatarRef(file_keys.avatar_folder(KEY), source), tracks, CancelToken())
            with Image.open(tmp_path / file_keys.avatar_picture_key(KEY)) as picture:
                size = max(source.info.width, source.info.height)
                assert (picture.format, max(picture.size)) == ("JPEG", min(640, size))
        wait_until(lambda: not _decoder_ids() - before)


def test_analysis_of_long_source_decodes_no_frame_again(tmp_path: Path, sample_video: Path) -> None:
    """The squares that tracking kept give the same analysis as the frames."""
    config, token, num_frames = PipelineConfig(data_dir=tmp_path), CancelToken(), 36
    config = config.model_copy(update={"render": config.render.model_copy(update={"reader_cache_bytes": 2**22})})
    source = _stored(config, sample_video, num_frames=num_frames)
    avatar, engine = AvatarRef(file_keys.avatar_folder(KEY), source), EngineCatalog(config).engine("warp")
    folder, analyses = tmp_path / avatar.folder / analysis_part(engine), []
    with _building(config) as (_, builder, _):
        tracks, state = [file_keys.track_key(KEY, start) for start in (0, 20)], None
        for out, frames in zip(tracks, (range(20), range(20, num_frames)), strict=True):
            state = builder.track(source, FaceChoice(), frames, state, out, token)
        builder.build(avatar, tracks, token)
        (tmp_path / source.key).rename(tmp_path / "moved")
        (tmp_path / source.key).write_bytes(b"cannot be decoded")
        builder.analyse(avatar, engine, None, token)
        analyses.append({path.name: path.read_bytes() for path in folder.iterdir()})
        shutil.rmtree(folder)
        with pytest.raises(MediaError):
            builder.analyse(avatar, engine, None, token)
        (tmp_path / "moved").replace(tmp_path / source.key)
        builder.analyse(avatar, engine, None, token)
        analyses.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert analyses[0]["bank_patches.npy"] == analyses[1]["bank_patches.npy"]
    assert analyses[0] == analyses[1]


def test_matte_builder_pieces_join_to_one_matte(tmp_path: Path, sample_video: Path) -> None:
    config, token = PipelineConfig(data_dir=tmp_path), CancelToken()
    source = _stored(config, sample_video, num_frames=12)
    avatar, tracked = AvatarRef(file_keys.avatar_folder(KEY), source), file_keys.track_key(KEY, 0)
    pieces = [f"{avatar.folder}/pieces/{file_keys.matte_piece(number)}" for number in range(2)]
    with _building(config) as (_, builder, matte_builder):
        builder.track(source, FaceChoice(), range(12), None, tracked, token)
        builder.build(avatar, [tracked], token)
        open_files(config).make_folder(f"{avatar.folder}/pieces")
        matte_builder.matte(avatar, None, range(6), None, pieces[0], token)
        matte_builder.matte(avatar, None, range(6, 12), pieces[0], pieces[1], token)
        first = (tmp_path / pieces[1]).read_bytes()
        matte_builder.matte(avatar, None, range(6, 12), pieces[0], pieces[1], token)
        assert (tmp_path / pieces[1]).read_bytes() == first, "a call can be repeated"
        matte_builder.join(avatar, "mattes/person/", None, pieces)
    made, info = tmp_path / avatar.folder / "mattes/person", source.info
    report = MatteReport.model_validate_json((made / file_keys.MATTE_REPORT).read_bytes())
    assert report.mode == "person" and 0 < report.uncertain_share < 0.2
    assert report.person_box is not None
    left, top, right, bottom = report.person_box
    with FrameReader(made / file_keys.MATTE_VIDEO, matte_info(info), 2**26) as reader:
        alphas = [frame.y for frame in MatteFrames(reader).read(range(12))]
    for alpha, points in zip(alphas, Avatar.load(tmp_path / avatar.folder).track.points, strict=True):
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
        matte_builder.join(avatar, "mattes/person/", None, pieces)


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
    config, picture, token = PipelineConfig(data_dir=tmp_path), _drawing(tmp_path / "face.png"), CancelToken()
    source = _stored(config, picture, fps=Fraction(25))
    avatar, track = AvatarRef(file_keys.avatar_folder(KEY), source), file_keys.track_key(KEY, 0)
    engine = EngineCatalog(config).engine("warp")
    with _building(config) as (_, builder, _):
        builder.track(source, FaceChoice(), range(1), None, track, token)
        with pytest.raises(FaceNotFoundError, match="mark the face with `face_points`"):
            builder.build(avatar, [track], token)
        builder.track(source, FaceChoice("points", MARKS), range(1), None, track, token)
        builder.build(avatar, [track], token)
        builder.analyse(avatar, engine, None, token)
    built = Avatar.load(tmp_path / avatar.folder)
    assert built.motion is not None
    upright = replace(built, motion=replace(built.motion, share=0.0))  # brows, gaze and lids may move
    render_staged(AnalysedAvatar(upright, engine, picture), make_speech(1.0, tmp_path), tmp_path)
    luma = np.stack([frame.y for frame in read_film(tmp_path / "result.mp4", range(25)).frames]).astype(np.float64)
    change = np.abs(luma - luma[:1]).max(0)
    assert change[150:185, 100:140].max() > 40, "the mouth opens"
    assert np.abs(luma - luma[:1])[:, 85:115, 80:160].mean((1, 2)).max() < 2, "the eyes are left alone"
    outside = np.ones(change.shape, np.bool_)
    outside[60:225, 50:190] = False
    assert change[outside].max() < 20 and change[outside].mean() < 2


NUM_FRAMES, RATE, FPS = 420, 16_000, 25
_MARK = b"U"


def _write(decoders: Decoders, data_dir: Path, job_id: str, samples: np.ndarray, earlier: str | None) -> list[bytes]:
    """Write the result of a job; return the packets of its sound."""
    config = PipelineConfig(data_dir=data_dir, labels=LabelsConfig(c2pa=False))
    speech, segment = file_keys.job_file_key(job_id, "audio"), file_keys.segment_key(job_id, 0)
    source, out = SourceVideo(file_keys.source_key(KEY), info_of(192, 128)), file_keys.result_key(job_id)
    (data_dir / segment).parent.mkdir(parents=True)
    write_audio(data_dir / speech, samples, RATE, "pcm_s16le", sample_format="s16", container_format="wav")
    write_video(data_dir / segment, NUM_FRAMES)
    output = OutputInfo(NUM_FRAMES, job_id, pieces=file_keys.sound_key(job_id), earlier_pieces=earlier)
    writer = ResultWriter(config, open_files(config), decoders)
    writer.write([segment], [AudioPart(speech)], out, source, output, CancelToken())
    assert (data_dir / file_keys.sound_key(job_id)).stat().st_size > 10_000
    with av.open(str(data_dir / out)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def test_write_of_a_revision_keeps_earlier_sound(tmp_path: Path) -> None:
    samples = noise(NUM_FRAMES / FPS, RATE)[None] * np.float32(0.3)
    changed, sound = samples.copy(), file_keys.sound_key("1" * 32)
    changed[:, :RATE] *= 0.5
    with Decoders(PipelineConfig().decoder) as decoders:
        first = _write(decoders, tmp_path, "1" * 32, samples, None)
        with ZipFile(tmp_path / sound) as file:
            contents = {name: file.read(name) for name in file.namelist()}
        with ZipFile(tmp_path / sound, "w") as file:
            for name, content in contents.items():
                file.writestr(name, content[:-1] + _MARK)  # in place of the last byte of the piece
        revised = _write(decoders, tmp_path, "2" * 32, changed, sound)
        (tmp_path / sound).unlink()
        encoded_again = _write(decoders, tmp_path, "3" * 32, changed, sound)
    assert len(first) == len(revised) and first[:20] != revised[:20]
    last_of_second_piece = 255
    assert revised[last_of_second_piece] == first[last_of_second_piece][:-1] + _MARK
    assert encoded_again[last_of_second_piece] == first[last_of_second_piece]
