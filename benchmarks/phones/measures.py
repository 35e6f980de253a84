"""Mouth shapes at the phones of speech: planned, rendered and true."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.analysis import AnalysedAvatar, TrackedVideo, analyse, plan_speech, tracked_video
from benchmarks.in_process import render_staged
from benchmarks.phones.alignment import PHONES, Phone
from models.engines.warp.painting.fields import CONTROL_IDS
from models.engines.warp.plan import MouthPlan
from models.mouth.shape import CHANNELS, measure

SHOWN: Final = ("width", "open_in", "protrude")
_SHOWN: Final = [CHANNELS.index(name) for name in SHOWN]


@dataclass(frozen=True)
class Shapes:
    """Mouth shapes of one source, as (T, 3) offsets of the channels `SHOWN` from its rest, in eye distances.

    Attributes:
        planned: What the speech and the calibration ask for.
        videos: By name ("rendered", "before", "true"): what the tracker sees in a video. These may have fewer frames.
    """

    planned: NDArray[np.float32]
    videos: dict[str, NDArray[np.float32]]

    def means(self, frames: dict[str, list[int]]) -> dict[str, dict[str, NDArray[np.float32]]]:
        """Returns, by phone and name, the (3,) mean over the frames of a phone that all videos have."""
        every = {"planned": self.planned, **self.videos}
        last = min(len(shape) for shape in every.values())
        kept = {phone: [frame for frame in numbers if frame < last] for phone, numbers in frames.items()}
        return {
            phone: {name: np.asarray(shape[numbers].mean(0), np.float32) for name, shape in every.items()}
            for phone, numbers in kept.items()
            if numbers
        }


def render_source(source: Path, speech: Path, result: Path) -> tuple[AnalysedAvatar, Shapes, TrackedVideo]:
    """Renders a source with speech into `result`, and measures planned and rendered mouths."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cached, _ = analyse(source, folder / "avatar")
        num_frames = render_staged(cached, speech, folder).num_frames
        result.write_bytes((folder / "result.mp4").read_bytes())
        plan = plan_speech(cached, speech, num_frames, folder)
    assert isinstance(plan, MouthPlan)
    seen = tracked_video(result)
    track = cached.avatar.track
    faces = track.head_points[plan.source_index]
    faces[:, list(CONTROL_IDS)] = plan.target_head
    rest = measure(track.rest[None])
    return cached, Shapes((measure(faces) - rest)[:, _SHOWN], {"rendered": shape_of(seen, cached)}), seen


def shape_of(video: TrackedVideo, cached: AnalysedAvatar) -> NDArray[np.float32]:
    """Returns the (T, 3) channels `SHOWN` of a video of the avatar, as offsets from the avatar's rest."""
    shape = measure(video.track.head_points) - measure(cached.avatar.track.rest[None])
    return np.asarray(shape[:, _SHOWN], np.float32)


def frames_of(phones: list[Phone], fps: float) -> dict[str, list[int]]:
    """Returns the middle frames of the phones in `PHONES`, by name; the longest phones come first."""
    longest = sorted(phones, key=lambda phone: phone.start_seconds - phone.stop_seconds)
    return {name: [round(phone.middle_seconds * fps) for phone in longest if phone.name == name] for name in PHONES}
