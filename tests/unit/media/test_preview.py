"""The preview: fragments that play before the rest is there, and are together what the joined file is."""

from __future__ import annotations

import io
import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from lipwright.errors import MediaError, StoredFileError
from lipwright.media.preview import LivePreview, finished_preview, frame_size, frame_thumbnail, thumbnail
from lipwright.media.probe import ColourTags
from lipwright.media.writer import SegmentWriter
from tests.unit.media.clips import decode_all, info_of, planes_of, write_segment
from tests.unit.segmented_job import LENGTHS, NUM_FRAMES, SegmentedJob


@pytest.fixture(scope="module", params=[Fraction(25), Fraction(30000, 1001)], ids=["25", "29.97"])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SegmentedJob:
    return SegmentedJob(tmp_path_factory.mktemp("job"), request.param)


def _boxes(stream: bytes) -> list[str]:
    names, place = [], 0
    while place < len(stream):
        size, name = struct.unpack_from(">I4s", stream, place)
        names.append(name.decode())
        place += size
    assert place == len(stream)
    return names


def _is_whole(stream: bytes, job: SegmentedJob, folder: Path) -> None:
    """The stream has the pictures of the joined file at the same times, and the speech beside them."""
    (folder / "preview.mp4").write_bytes(stream)
    shown, expected = decode_all(folder / "preview.mp4"), decode_all(job.result)
    assert len(shown) == NUM_FRAMES
    assert all(np.array_equal(flat, other) for (_, flat), (_, other) in zip(shown, expected, strict=True))
    steps = np.diff([pts for pts, _ in shown])
    assert shown[0][0] == 0 and (steps == steps[0]).all()
    with av.open(str(folder / "preview.mp4")) as container:
        heard = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
        video = container.streams.video[0]
        assert video.duration is not None and video.time_base is not None
        assert heard == pytest.approx(float(video.duration * video.time_base), abs=2 * 1024 / 16000)


def test_live_preview_segments_play_from_the_start(job: SegmentedJob, tmp_path: Path) -> None:
    preview = LivePreview(job.segments[0], job.speech)
    first = b"".join(preview.add_segment(job.segments[0]))
    assert _boxes(first)[:4] == ["ftyp", "moov", "moof", "mdat"]
    (tmp_path / "first.mp4").write_bytes(first)
    shown = decode_all(tmp_path / "first.mp4")
    assert LENGTHS[0] - 6 <= len(shown) <= LENGTHS[0], "at most a fifth of a second waits for what follows"
    rest = b"".join(piece for path in job.segments[1:] for piece in preview.add_segment(path))
    assert preview.num_frames == NUM_FRAMES
    _is_whole(first + rest + b"".join(preview.end()), job, tmp_path)


def test_finished_preview_has_the_same_stream(job: SegmentedJob, tmp_path: Path) -> None:
    pieces = list(finished_preview(job.result))
    stream = b"".join(piece for _, piece in pieces)
    assert _boxes(stream)[:4] == ["ftyp", "moov", "moof", "mdat"]
    _is_whole(stream, job, tmp_path)
    assert [seconds for seconds, _ in pieces] == sorted(seconds for seconds, _ in pieces)


def test_live_preview_missing_segment_is_in_add_rest(job: SegmentedJob, tmp_path: Path) -> None:
    preview = LivePreview(job.segments[0], job.speech)
    first = b"".join(piece for path in job.segments[:2] for piece in preview.add_segment(path))
    with pytest.raises(StoredFileError, match="gone"):
        list(preview.add_segment(tmp_path / "gone.mp4"))
    _is_whole(first + b"".join(preview.add_rest(job.result)), job, tmp_path)


@pytest.mark.parametrize(("width", "height", "expected"), [(640, 480, (320, 240)), (128, 192, (128, 192))])
def test_thumbnail_is_scaled_first_frame(tmp_path: Path, width: int, height: int, expected: tuple[int, int]) -> None:
    planes, writer = planes_of(3, width, height), SegmentWriter(info_of(width, height), 20, "veryfast")
    path = write_segment(tmp_path / "segment.mp4", [3] * 5, writer, (width, height))
    picture = Image.open(io.BytesIO(thumbnail(path)))
    assert (picture.format, picture.size) == ("JPEG", expected)
    shown = np.asarray(picture.convert("L"), np.float64)
    luma = (planes.y.astype(np.float64) - 16) * 255 / 219  # the segment's range is limited, a JPEG's is full
    luma = np.asarray(Image.fromarray(luma.clip(0, 255).astype(np.uint8)).resize(expected), np.float64)
    assert np.abs(shown - luma).mean() < 8
    path.write_bytes(b"no video" * 100)
    with pytest.raises(MediaError):
        thumbnail(path)


def test_thumbnail_of_wide_hdr_pixels_is_that_of_the_frame(tmp_path: Path) -> None:
    hlg = ColourTags(matrix=9, full_range=False, primaries=9, transfer=18)
    info = info_of(720, 576, colour=hlg, sample_aspect_ratio=Fraction(64, 45))
    path = write_segment(tmp_path / "segment.mp4", [3], SegmentWriter(info, 10, "veryfast"), (720, 576))
    expected = Image.open(io.BytesIO(frame_thumbnail(planes_of(3, 720, 576), hlg, 64 / 45, 320)))
    picture = Image.open(io.BytesIO(thumbnail(path)))
    assert picture.size == expected.size == (320, 180)
    assert np.abs(np.asarray(picture, np.float64) - np.asarray(expected, np.float64)).mean() < 8


def test_results_beyond_the_limit_of_uploads_are_read(job: SegmentedJob, tmp_path: Path) -> None:
    path = tmp_path / "result.mp4"
    path.write_bytes(job.result.read_bytes())
    width, height = frame_size(path)
    os.truncate(path, 2**31 + 1)  # a sparse file
    assert frame_size(path) == (width, height) == Image.open(io.BytesIO(thumbnail(path))).size
    assert b"".join(piece for _, piece in finished_preview(path))
