from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.material import FramesInMemory
from lipwright.errors import OptionError
from lipwright.media.yuv_frame import YuvFrame
from models.avatar.avatar import own_track
from models.clips.compose import ClipSource, compose_clips
from models.clips.graph import ClipGraph
from tests.unit.models.films import read_film
from tests.unit.models.synthetic_avatar import FilmedAvatar, make_avatar


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> FilmedAvatar:
    return make_avatar(tmp_path_factory.mktemp("filmed"), 0.2)


@pytest.fixture(scope="module")
def sources(filmed: FilmedAvatar) -> list[ClipSource]:
    track, _ = own_track(filmed.raw, filmed.reader(), filmed.info)
    names = ("", None), ("talk", "talk"), ("wave", "action")
    return [ClipSource(name, kind, filmed.reader(), filmed.info, track) for name, kind in names]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def composed(sources: list[ClipSource], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ClipGraph]:
    path = tmp_path_factory.mktemp("composed") / "composite.mp4"
    return path, compose_clips(sources, path)


def test_compose_clips_writes_all_clips_and_bridges(
    composed: tuple[Path, ClipGraph], sources: list[ClipSource], filmed: FilmedAvatar
) -> None:
    path, graph = composed
    (info, frames), num = read_film(path), filmed.info.num_frames
    expected = [(source.name, number * num, (number + 1) * num) for number, source in enumerate(sources)]
    assert [(clip.name, clip.start, clip.stop) for clip in graph.clips] == expected
    assert info.num_frames == 3 * num + sum(each.num_bridge for each in graph.transitions)
    for name in ("width", "height", "fps", "colour"):
        assert getattr(info, name) == getattr(filmed.info, name)
    for frame, original in zip(frames[: 3 * num], 3 * read_film(filmed.path).frames, strict=True):
        assert np.abs(frame.y.astype(int) - original.y).mean() < 1.5
    assert list(path.parent.iterdir()) == [path]


def test_compose_clips_bridges_are_between_their_frames(composed: tuple[Path, ClipGraph]) -> None:
    path, graph = composed
    bridged = [each for each in graph.transitions if each.num_bridge]
    assert bridged and [each.leave for each in graph.transitions] == sorted(each.leave for each in graph.transitions)
    first = graph.clips[-1].stop
    for each in bridged:
        assert each.bridge == first
        first += each.num_bridge
        indices = [each.leave, each.bridge, each.bridge + each.num_bridge - 1, each.enter]
        leave, start, end, enter = (frame.y.astype(float) for frame in read_film(path, indices).frames)
        jump = np.abs(leave - enter).mean()
        assert np.abs(leave - start).mean() <= jump + 0.5
        assert np.abs(end - enter).mean() <= jump + 0.5


def test_compose_clips_enlarges_until_no_edge_shows(sources: list[ClipSource], tmp_path: Path) -> None:
    own, talk, _ = sources
    # 12 pixels further right; the columns that leave the picture come back on the left.
    track = replace(talk.track, points=talk.track.points + np.array([12, 0, 0], np.float32))
    rolled = [
        YuvFrame(*(np.roll(plane, 12 // step, 1) for plane, step in zip(frame, (1, 2, 2), strict=True)))
        for frame in talk.reader.read(range(talk.info.num_frames))
    ]
    path = tmp_path / "composite.mp4"
    graph = compose_clips([own, replace(talk, reader=FramesInMemory(rolled), track=track)], path)
    there, here = (read_film(path, [clip.start]).frames[0].y.astype(int) for clip in graph.clips)
    for side in (slice(0, 8), slice(-8, None)):
        assert np.abs(there - here)[:, side].mean() < 3


def test_compose_clips_clip_that_does_not_fit_raises(sources: list[ClipSource], tmp_path: Path) -> None:
    short = replace(sources[1], info=replace(sources[1].info, num_frames=3, duration_seconds=0.12))
    with pytest.raises(OptionError, match="'talk': expected a video of 1 to 60 s and at least 12 frames, found 0.1 s"):
        compose_clips([sources[0], short], tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())
