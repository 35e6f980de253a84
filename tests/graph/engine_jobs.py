"""Jobs of several engines through one service, whose results are lossless and unmarked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.faults.load import Caller, Pair, digest, num_frames
from tests.faults.service_process import ServiceProcess, config_with, served
from tests.graph.engine_pictures import change, track_of
from tests.graph.inputs import long_wav

JOB_S = 120.0
FPS = 25


@contextmanager
def lossless_service(data: Path) -> Iterator[ServiceProcess]:
    """A service that leaves what an engine does not touch the same to the bit."""
    config = config_with(data.parent, render={"crf": 0, "segment_seconds": 1.0}, labels={"invisible": False})
    with served(data, config) as service:
        yield service


class Made:
    """The results of the engines, each made when a test first asks for it.

    Args:
        caller: The service.
        sample_video: The avatar.
        speech: What all say.
        frames: How many frames each engine is asked for.
    """

    def __init__(self, caller: Caller, sample_video: Path, speech: Path, frames: Mapping[str, int]) -> None:
        self.caller = caller
        self.source = sample_video.read_bytes()
        self._speech, self._frames = speech, frames
        self._videos: dict[str, bytes] = {}

    def pair(self, num: int) -> Pair:
        """The avatar, and speech that ends inside frame `num`."""
        return Pair(self.source, long_wav(self._speech, (num - 0.5) / FPS))

    def render_again(self, engine: str) -> bytes:
        """The video of one more job."""
        job_id = self.caller.accepted(self.pair(self._frames[engine]), engine=engine)
        job = self.caller.wait([job_id], JOB_S)[job_id]
        assert job["status"] == "succeeded", job["error"]
        return self.caller.video(job_id)

    def video(self, engine: str) -> bytes:
        """The video of the first job."""
        if engine not in self._videos:
            self._videos[engine] = self.render_again(engine)
        return self._videos[engine]

    def check(self, engine: str, data: Path) -> None:
        """An engine generates every mouth, changes nothing outside of the face, and does the same again."""
        video = self.video(engine)
        assert num_frames(video) == self._frames[engine]
        seen = change(self.source, video, track_of(avatar_of(data)))
        assert seen.num_outside == 0, "outside of the face nothing changes"
        assert seen.mouth.min() > 3, "every mouth is generated"
        assert digest(self.render_again(engine)) == digest(video)


def avatar_of(data: Path) -> Path:
    """The only avatar's folder."""
    (folder,) = (data / "avatars").iterdir()
    return folder
