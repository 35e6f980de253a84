"""Two people in one film, compared with jobs of one face: `python -m benchmarks.speakers.turns FIRST.mp4 SECOND.mp4`.

The clips, of one speaker each, are put side by side. Each person then says what they say in their clip, alone and both
at once. Printed are the correlation of the rendered mouth opening with the clip's own, the difference of both jobs in
the frames, the CPU time of each job, and what it costs to change a minute of a long film.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Annotated, NamedTuple

import av
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.analysis import analyse
from benchmarks.process_tree import cpu_between, cpu_seconds
from config import MediaLimits
from launch.service import running_service
from lipwright_client import Lipwright
from media.audio import convert_to_wav

SIDE = 288
FPS = 25
_CHANGED = (60.0, 75.0)  # the turn in the long film, in seconds


class Turn(NamedTuple):
    """A turn as the API takes it."""

    face: str
    start: float
    end: float
    audio: str = "audio"


def main(
    first: Annotated[Path, typer.Argument(help="Clip of one speaker.")],
    second: Annotated[Path, typer.Argument(help="Clip of another speaker.")],
    seconds: Annotated[float, typer.Option(min=1, help="Length of the film.")] = 20.0,
    long_seconds: Annotated[float, typer.Option(min=80, help="Length of the film that is mostly copied.")] = 600.0,
) -> None:
    """Measures and prints."""
    clips = (first, second)
    with tempfile.TemporaryDirectory(prefix="lipwright-turns-") as name:
        folder = Path(name)
        film, long_film = (_film(clips, folder / f"{length:g}.mp4", length) for length in (seconds, long_seconds))
        speech = [speech_of(clip, folder / f"{number}.wav") for number, clip in enumerate(clips)]
        with running_service(data_dir=folder / "data") as url, Lipwright(url) as client:
            _compare(client, film, speech, clips, seconds, folder)
            _change_a_minute(client, long_film, speech[0], long_seconds)


def _compare(
    client: Lipwright, film: Path, speech: list[Path], clips: tuple[Path, Path], seconds: float, folder: Path
) -> None:
    avatar = client.avatars.create(video=film).id
    turns = [
        Turn(f"point:{SIDE // 2 + number * SIDE},{SIDE // 2}", 0.0, seconds, f"audio_{number}") for number in range(2)
    ]
    audio = {f"audio_{number}": path for number, path in enumerate(speech)}
    both, _ = run_turns(client, avatar, turns, audio, folder / "both.mp4")  # analyses both faces
    jobs = {"first": turns[:1], "second": turns[1:], "both": turns}
    cost, results = {}, {}
    for name, spoken in jobs.items():
        files = {turn.audio: audio[turn.audio] for turn in spoken}
        results[name], cost[name] = run_turns(client, avatar, spoken, files, folder / f"{name}.mp4")
        print(f"{name}: {1000 * cost[name] / seconds / FPS:.1f} CPU ms per frame")
    print(f"both against the larger of one face: {cost['both'] / max(cost['first'], cost['second']):.2f} times")
    for number, name in enumerate(("first", "second")):
        own = opening_of(clips[number], folder / f"own-{number}")
        openings = [
            opening_of(_half(results[job], number, folder / f"{job}-{number}.mp4"), folder / f"track-{job}-{number}")
            for job in (name, "both")
        ]
        num = min(len(own), *(len(opening) for opening in openings))
        alone, together = (float(np.corrcoef(opening[:num], own[:num])[0, 1]) for opening in openings)
        halves = [_luma(folder / f"{job}-{number}.mp4").astype(float) for job in (name, "both")]
        print(
            f"{name} speaker: opening r {alone:.3f} alone, {together:.3f} with the other; "
            f"PSNR of both results {10 * np.log10(255**2 / np.square(halves[0] - halves[1]).mean()):.1f} dB"
        )


def _change_a_minute(client: Lipwright, film: Path, speech: Path, seconds: float) -> None:
    turn = Turn(f"point:{SIDE // 2},{SIDE // 2}", *_CHANGED)
    avatar = client.avatars.create(video=film).id
    with tempfile.TemporaryDirectory() as folder:
        run_turns(client, avatar, [turn], {"audio": speech}, Path(folder) / "once.mp4")
        out, cost = run_turns(client, avatar, [turn], {"audio": speech}, Path(folder) / "again.mp4")
        mine, theirs = _packets(out), _packets(film)
    num_copied = sum(own == other for own, other in zip(mine, theirs, strict=True))
    print(
        f"{_CHANGED[1] - _CHANGED[0]:g} of {seconds:g} s changed: {cost:.1f} CPU s; "
        f"{num_copied} of {len(theirs)} packets are those of the source"
    )


def run_turns(
    client: Lipwright, avatar: str, turns: list[Turn], audio: dict[str, Path], out: Path
) -> tuple[Path, float]:
    """Runs a job and returns its video, and the CPU seconds of the service."""
    before = cpu_seconds()
    first, *others = audio
    named = [turn._replace(audio="audio") if turn.audio == first else turn for turn in turns]
    job = client.jobs.create(
        avatar_id=avatar,
        audio=audio[first],
        more_audio={name: audio[name] for name in others},
        turns=[turn._asdict() for turn in named],
    )
    for seen in client.jobs.events(job.id):
        job = seen
    client.jobs.download(job.check().id, out)
    return out, sum(cpu_between(before, cpu_seconds()).values())


def _film(clips: tuple[Path, Path], out: Path, seconds: float) -> Path:
    """Both clips side by side, each played back and forth, with a key frame every two seconds and silent sound."""
    sides = [squares(clip) for clip in clips]
    with av.open(str(out), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "16", "preset": "veryfast", "g": "50"})
        stream.width, stream.height, stream.pix_fmt = 2 * SIDE, SIDE, "yuv420p"
        for number in range(round(seconds * FPS)):
            both = np.concatenate([side[_back_and_forth(number, len(side))] for side in sides], axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(both, format="rgb24")))
        container.mux(stream.encode(None))
    return out


def _back_and_forth(number: int, num_frames: int) -> int:
    step = number % max(2 * num_frames - 2, 1)
    return min(step, 2 * num_frames - 2 - step)


def squares(clip: Path) -> NDArray[np.uint8]:
    """The middle of each frame, (T, 288, 288, 3) RGB."""
    frames = []
    with av.open(str(clip)) as container:
        for frame in itertools.islice(container.decode(video=0), 30 * FPS):
            rgb = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            side = min(rgb.shape[:2])
            top, left = (rgb.shape[0] - side) // 2, (rgb.shape[1] - side) // 2
            square = np.ascontiguousarray(rgb[top : top + side, left : left + side])
            scaled = av.VideoFrame.from_ndarray(square, format="rgb24").reformat(SIDE, SIDE)
            frames.append(np.asarray(scaled.to_ndarray(format="rgb24"), np.uint8))
    return np.stack(frames)


def speech_of(clip: Path, out: Path) -> Path:
    convert_to_wav(clip, out, 16000, MediaLimits())
    return out


def _half(video: Path, number: int, out: Path) -> Path:
    """One person of a film, as a film of its own."""
    with av.open(str(video)) as source, av.open(str(out), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "8", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for frame in source.decode(video=0):
            rgb = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)[:, number * SIDE : (number + 1) * SIDE]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")))
        container.mux(stream.encode(None))
    return out


def opening_of(video: Path, folder: Path) -> NDArray[np.float32]:
    """(T,) mouth opening as the tracker of this project sees it, in eye distances."""
    avatar, _ = analyse(video, folder)
    return avatar.avatar.track.shape[:, 0]


def _luma(video: Path) -> NDArray[np.uint8]:
    with av.open(str(video)) as container:
        return np.stack([np.asarray(frame.to_ndarray(format="gray"), np.uint8) for frame in container.decode(video=0)])


def _packets(video: Path) -> list[bytes]:
    with av.open(str(video)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]


if __name__ == "__main__":
    typer.run(main)
