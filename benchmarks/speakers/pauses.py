"""When people begin and stop speaking: `python -m benchmarks.speakers.pauses --clips FOLDER --clips FOLDER`.

Clips of single speakers are composed into films of two people who speak in turns, with pauses of .7 to 2.5 seconds in
which both keep their mouths closed. The sound of a turn exists exactly as long as the turn; pauses are digital silence,
or noise or music goes on all the time. The table says by how much the start and the end of each true turn differ from
those that `models.people` finds for the same person. The clips are not part of this repository (benchmarks/README.md).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.speakers.__main__ import PeopleFinder
from benchmarks.speakers.conversations import FPS, HELD_FRAMES, PANEL, Speaker, compose_music, load_speaker, write_film
from media.audio import SPEECH_SAMPLE_RATE
from models.people.identities import identify
from models.people.report import SpeakerTurn

_SAMPLES = SPEECH_SAMPLE_RATE // FPS
_PAUSE_SECONDS = (0.7, 2.5)
_MIN_TURN_FRAMES, _MAX_TURN_FRAMES = 15, 75
_MERGED_FRAMES = 12  # pauses inside a turn, as in `models.people.speakers`
_EDGE_FRAMES = 1  # of sound around a turn
_LIP_FRAMES = 6  # around a turn in which the picture moves
_FADE_SAMPLES = 320


class Background(NamedTuple):
    """What is heard all the time: pink noise at a level in dBFS, or music at one relative to the speech."""

    name: str
    noise_dbfs: float | None = None
    music_db: float | None = None


BACKGROUNDS = (
    Background("digital silence"),
    Background("room tone at -55 dBFS", -55.0),
    Background("room tone at -42 dBFS", -42.0),
    Background("room tone at -35 dBFS", -35.0),
    Background("music 12 dB below the speech", None, -12.0),
)


class TrueTurn(NamedTuple):
    """Frames [start, stop) in which person 0 or 1 speaks."""

    person: int
    start: int
    stop: int


class Conversation(NamedTuple):
    """Two people who speak in turns, with pauses."""

    pictures: list[NDArray[np.uint8]]
    speech: NDArray[np.float64]
    turns: list[TrueTurn]


def converse(speakers: Sequence[Speaker], seconds: float, seed: int) -> Conversation:
    """Compose a conversation of two people."""
    random, num_frames = np.random.default_rng(seed), round(seconds * FPS)
    phrases = [_phrases(each.speaks) for each in speakers]
    shown = [np.arange(num_frames) % len(each.speaks) for each in speakers]
    talks = np.zeros((2, num_frames), np.bool_)
    speech, turns = np.zeros(num_frames * _SAMPLES), []
    person, time = int(random.integers(2)), round(random.uniform(*_PAUSE_SECONDS) * FPS)
    while True:
        first, last = phrases[person][int(random.integers(len(phrases[person])))]
        stop = time + last - first
        if stop + _LIP_FRAMES > num_frames:
            break
        before = min(_LIP_FRAMES, first)
        around = np.arange(first - before, min(last + _LIP_FRAMES, len(speakers[person].speaks)))
        place = slice(time - before, time - before + len(around))
        shown[person][place], talks[person, place] = around, True
        speech[max(time - _EDGE_FRAMES, 0) * _SAMPLES : (stop + _EDGE_FRAMES) * _SAMPLES] += _heard(
            speakers[person], first, last
        )
        turns.append(TrueTurn(person, time, stop))
        time = stop + round(random.uniform(*_PAUSE_SECONDS) * FPS)
        person = int(random.integers(2))
    pictures = [
        np.concatenate(
            [
                (each.talking if talks[number, frame] else each.silent)[shown[number][frame]]
                for number, each in enumerate(speakers)
            ],
            1,
        )
        for frame in range(num_frames)
    ]
    return Conversation(pictures, speech, turns)


def mixed(speech: NDArray[np.float64], background: Background, seed: int) -> NDArray[np.float64]:
    """Return the speech with a background, in units of 16 bit samples."""
    random, sound = np.random.default_rng(seed), speech.copy()
    if background.noise_dbfs is not None:
        sound += _pink_noise(len(sound), random) * 32768 * 10 ** (background.noise_dbfs / 20)
    if background.music_db is not None:
        loud = np.sqrt(np.mean(speech[speech != 0] ** 2))
        sound += compose_music(len(sound), random) * loud * 10 ** (background.music_db / 20)
    return sound


def edge_errors(turns: Sequence[TrueTurn], found: Sequence[SpeakerTurn], places: Sequence[int]) -> NDArray[np.float64]:
    """Return (T, 2) seconds by which starts and ends are late; NaN for turns that are not found.

    Args:
        turns: The truth.
        found: The turns of the report.
        places: The true number of each person in the report.
    """
    errors = np.full((len(turns), 2), np.nan)
    for number, turn in enumerate(turns):
        start, stop = turn.start / FPS, turn.stop / FPS
        own = [each for each in found if each.person is not None and places[each.person] == turn.person]
        near = [each for each in own if min(stop, each.end) - max(start, each.start) > 0.3 * (stop - start)]
        if near:
            errors[number] = near[0].start - start, near[-1].end - stop
    return errors


def main(
    clips: Annotated[list[Path], typer.Option(help="Folders of speakers, one to a .mp4 file.")],
    seconds: Annotated[float, typer.Option(min=10, help="Length of each film.")] = 24.0,
    films: Annotated[int, typer.Option(min=1, help="Films of each background.")] = 4,
) -> None:
    """Composes the films, finds who speaks when and prints the table."""
    table = Table("background", "turns", "not found", "starts: median, worst (s)", "ends: median, worst (s)")
    finder = PeopleFinder()
    with tempfile.TemporaryDirectory() as work:
        paths = [path for folder in clips for path in sorted(folder.glob("*.mp4"))]
        speakers = [load_speaker(path, Path(work) / path.stem) for path in paths]
        speakers = [each for each in speakers if _phrases(each.speaks)]
        errors: dict[str, list[NDArray[np.float64]]] = {each.name: [] for each in BACKGROUNDS}
        for number in range(films):
            chosen = [speakers[(2 * number + each) % len(speakers)] for each in range(2)]
            conversation = converse(chosen, seconds, number)
            for background in BACKGROUNDS:
                film = Path(work) / "film.mkv"
                write_film(film, conversation.pictures, 2 * PANEL, mixed(conversation.speech, background, number))
                report, rows = finder(film, Path(work))
                places = [
                    int(np.median(rows.box[each.rows][:, [0, 2]].mean(1) // PANEL)) for each in identify(rows, FPS)
                ]
                errors[background.name].append(edge_errors(conversation.turns, report.turns, places))
    for name, films_of_name in errors.items():
        table.add_row(name, *_cells(np.concatenate(films_of_name)))
    Console(width=120).print(table)


def _cells(errors: NDArray[np.float64]) -> list[str]:
    size = np.abs(errors[~np.isnan(errors).any(1)])
    edges = [f"{np.median(each):.2f}, {each.max():.2f}" if len(each) else "-" for each in size.T]
    return [str(len(errors)), str(len(errors) - len(size)), *edges]


def _phrases(speaks: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return frames [start, stop) of speech without longer pauses; what lasts longer than three seconds is cut."""
    frames = np.flatnonzero(speaks)
    frames = frames[(frames >= _EDGE_FRAMES) & (frames < len(speaks) - _EDGE_FRAMES)]
    parts = np.split(frames, np.flatnonzero(np.diff(frames) > _MERGED_FRAMES) + 1)
    spans = [(int(part[0]) + HELD_FRAMES, int(part[-1]) + 1 - HELD_FRAMES) for part in parts if len(part)]
    return [(start, min(stop, start + _MAX_TURN_FRAMES)) for start, stop in spans if stop - start >= _MIN_TURN_FRAMES]


def _heard(speaker: Speaker, first: int, last: int) -> NDArray[np.float64]:
    """Return the sound of frames [first, last) with a frame around them, faded in and out."""
    sound = speaker.samples[(first - _EDGE_FRAMES) * _SAMPLES : (last + _EDGE_FRAMES) * _SAMPLES].copy()
    fade = np.linspace(0, 1, _FADE_SAMPLES)
    sound[:_FADE_SAMPLES] *= fade
    sound[-_FADE_SAMPLES:] *= fade[::-1]
    return sound


def _pink_noise(num_samples: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return noise with the same power in each octave from 40 Hz, and an RMS of 1."""
    spectrum = np.fft.rfft(random.standard_normal(num_samples))
    frequency = np.fft.rfftfreq(num_samples, 1 / SPEECH_SAMPLE_RATE)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, 40.0)), num_samples)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


if __name__ == "__main__":
    typer.run(main)
