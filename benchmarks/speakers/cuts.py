"""Three people in a film with a cut: `python -m benchmarks.speakers.cuts FIRST.mp4 SECOND.mp4 THIRD.mp4`.

The first shot shows the first clip beside the second, the other shot the third beside the first. Everybody says what
they say in their clip, in each shot in which they are seen, alone and all together. Printed is the correlation of the
rendered mouth opening with that of the clip.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import av
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.speakers.turns import FPS, SIDE, Turn, opening_of, run_turns, speech_of, squares
from launch.service import running_service
from lipwright_client import Lipwright
from lipwright_client.records import TimeRange

_SHOTS = ((0, 1), (2, 0))
"""The clips that are seen on the left and on the right."""


class _Place(NamedTuple):
    """Where somebody is seen: the number of the shot, and the half of the picture."""

    shot: int
    half: int


def main(
    first: Annotated[Path, typer.Argument(help="Clip of one speaker.")],
    second: Annotated[Path, typer.Argument(help="Clip of another one.")],
    third: Annotated[Path, typer.Argument(help="Clip of a third one.")],
    shot_seconds: Annotated[float, typer.Option(min=1, help="Length of each shot.")] = 3.0,
) -> None:
    """Measures and prints."""
    clips = (first, second, third)
    places = [
        [_Place(shot, half) for shot, seen in enumerate(_SHOTS) for half, clip in enumerate(seen) if clip == number]
        for number in range(len(clips))
    ]
    with tempfile.TemporaryDirectory(prefix="lipwright-cuts-") as name:
        folder = Path(name)
        film = _film(clips, folder / "film.mp4", round(shot_seconds * FPS))
        audio = {f"audio_{number}": speech_of(clip, folder / f"{number}.wav") for number, clip in enumerate(clips)}
        with running_service(data_dir=folder / "data") as url, Lipwright(url) as client:
            avatar = client.avatars.create(video=film).id
            people = client.avatars.people(avatar).people
            print(f"{len(people)} people found")
            turns: list[list[Turn]] = []
            for number, seen in enumerate(places):
                starts = [place.shot * shot_seconds for place in seen]
                person = next(each for each in people if _is_seen(each.seen, starts, shot_seconds))
                face, field = f"person:{person.number}", f"audio_{number}"
                turns.append([Turn(face, start, start + shot_seconds, field) for start in starts])
            together, _ = run_turns(
                client, avatar, [turn for of_person in turns for turn in of_person], audio, folder / "together.mp4"
            )
            for number, own_turns in enumerate(turns):
                files = {f"audio_{number}": audio[f"audio_{number}"]}
                alone, _ = run_turns(client, avatar, own_turns, files, folder / f"alone-{number}.mp4")
                own = opening_of(clips[number], folder / f"own-{number}")
                correlations = [
                    _correlation(result, places[number], own, folder / f"{result.stem}-{number}", shot_seconds)
                    for result in (alone, together)
                ]
                print(f"{clips[number].stem}: opening r {correlations[0]:.3f} alone, {correlations[1]:.3f} together")


def _is_seen(seen: Sequence[TimeRange], starts: list[float], shot_seconds: float) -> bool:
    """Whether somebody is seen in exactly the shots that start at `starts`."""
    middles = [shot * shot_seconds + shot_seconds / 2 for shot in range(len(_SHOTS))]
    wanted = [any(start <= middle < start + shot_seconds for start in starts) for middle in middles]
    found = [any(each.start <= middle < each.end for each in seen) for middle in middles]
    return wanted == found


def _film(clips: tuple[Path, ...], out: Path, num_frames: int) -> Path:
    pictures = [squares(clip) for clip in clips]
    with av.open(str(out), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "16", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 2 * SIDE, SIDE, "yuv420p"
        for left, right in _SHOTS:
            for number in range(num_frames):
                both = np.concatenate([pictures[clip][number % len(pictures[clip])] for clip in (left, right)], axis=1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(both, format="rgb24")))
        container.mux(stream.encode(None))
    return out


def _correlation(result: Path, places: list[_Place], own: NDArray[np.float32], folder: Path, seconds: float) -> float:
    """Correlation of the opening of one person in all shots with that in the clip."""
    num_frames = round(seconds * FPS)
    with av.open(str(result)) as container:
        frames = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]
    rendered, true = [], []
    for place in places:
        path = folder.with_suffix(f".{place.shot}.mp4")
        with av.open(str(path), "w") as out:
            stream = out.add_stream("libx264", rate=FPS, options={"crf": "8", "preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
            for frame in frames[place.shot * num_frames : (place.shot + 1) * num_frames]:
                half = np.ascontiguousarray(frame[:, place.half * SIDE : (place.half + 1) * SIDE])
                out.mux(stream.encode(av.VideoFrame.from_ndarray(half, format="rgb24")))
            out.mux(stream.encode(None))
        opening = opening_of(path, folder.with_suffix(f".{place.shot}"))
        num = min(len(own), len(opening))
        rendered.append(opening[:num])
        true.append(own[:num])
    return float(np.corrcoef(np.concatenate(rendered), np.concatenate(true))[0, 1])


if __name__ == "__main__":
    typer.run(main)
