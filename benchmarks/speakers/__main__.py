"""Active speaker detection on composed films: `python -m benchmarks.speakers --clips FOLDER`.

Clips of single speakers are composed into films of conversations (`conversations.py`): side by side, with cuts, with
somebody who is never seen, and with music. The people in each film are found as the service finds them. The table says
what share of the frames with speech is assigned to the right person, or rightly to nobody who is seen, and in how many
films the right number of people is found. The clips are not part of this repository (benchmarks/README.md).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.speakers.conversations import (
    FPS,
    HELD_FRAMES,
    OFF_SCREEN,
    PANEL,
    SILENCE,
    Film,
    Scene,
    Speaker,
    compose,
    load_speaker,
)
from config import MediaLimits, RenderConfig
from media.audio import extract_speech
from media.probe import probe_video
from media.reader import FrameReader
from models.face.finder import FaceFinder
from models.people.identities import identify
from models.people.people import find_people
from models.people.report import PeopleReport
from models.people.scan import FaceRows, PeopleScanner
from models.people.speakers import SourceMouth
from models.speech.features import SpeechFeatures
from models.speech.level import ROWS_PER_SECOND, measure_level, open_speech
from models.speech.speech_to_mouth import SpeechToMouth
from models.speech.voice_detector import VoiceDetector

SCENES = (
    Scene("two people", 2),
    Scene("three people", 3),
    Scene("two people, one off screen", 2, has_off_screen=True),
    Scene("two people, music", 2, music_db=-12.0),
    Scene("two people, cuts", 2, has_cuts=True),
    Scene("three people, cuts, one off screen", 3, has_off_screen=True, has_cuts=True),
    Scene("two people, the silent one dubbed", 2, "dubbed"),
    Scene("two people dubbed, one off screen", 2, "dubbed", has_off_screen=True),
)


class Result(NamedTuple):
    """One film: frames with speech, those that are assigned correctly, and whether the number of people is right."""

    num_speech: int
    num_correct: int
    has_all_people: bool


class PeopleFinder:
    """Finds people as the service does, in this process."""

    def __init__(self) -> None:
        cv2.setNumThreads(0)  # as in a replica
        self._scanner = PeopleScanner(FaceFinder(1, "cpu"))
        self._features, self._network, self._voices = SpeechFeatures(), SpeechToMouth(), VoiceDetector()

    def __call__(self, path: Path, folder: Path) -> tuple[PeopleReport, FaceRows]:
        """Returns the report on a film with sound, and the scan."""
        info, step = probe_video(path, MediaLimits()), RenderConfig().track_chunk_frames
        chunks, state = [], None
        with FrameReader(path, info, 2**26) as reader:
            for start in range(0, info.num_frames, step):
                frames = reader.read(range(start, min(start + step, info.num_frames)))
                rows, state = self._scanner.scan_chunk(frames, info.colour, start, float(info.fps), state)
                chunks.append(rows)
        speech = folder / "speech.npy"
        extract_speech(path, speech, MediaLimits())
        num_rows, level = int(info.duration_seconds * ROWS_PER_SECOND), measure_level(speech)
        features = self._features.extract(speech, level, 0, num_rows / ROWS_PER_SECOND)
        rows = FaceRows.concatenate(chunks)
        is_heard = self._voices.detect(open_speech(speech), level, 0, num_rows)
        sound = SourceMouth.predict(self._network, features, is_heard, 0)
        return find_people(rows, info.fps, sound).report, rows


def main(
    clips: Annotated[list[Path], typer.Option(help="Folders of speakers, one to a .mp4 file; one column each.")],
    seconds: Annotated[float, typer.Option(min=5, help="Length of each film.")] = 16.0,
    films: Annotated[int, typer.Option(min=1, help="Films of each scene.")] = 2,
    verbose: Annotated[bool, typer.Option(help="Print each film: truth, then result, one letter a frame.")] = False,
) -> None:
    """Composes the films, finds the people in them and prints the table."""
    table = Table("scene", *(f"{folder.name}: {what}" for folder in clips for what in ("speech frames", "people")))
    finder, columns = PeopleFinder(), []
    for folder in clips:
        with tempfile.TemporaryDirectory() as work:
            speakers = [load_speaker(clip, Path(work) / clip.stem) for clip in sorted(folder.glob("*.mp4"))]
            columns.append([_results(scene, speakers, seconds, films, finder, Path(work), verbose) for scene in SCENES])
    for row, scene in enumerate(SCENES):
        table.add_row(scene.name, *(cell for column in columns for cell in _cells(column[row])))
    for name, scenes in (("all with silent listeners", slice(0, 6)), ("all dubbed", slice(6, 8))):
        table.add_row(name, *(cell for column in columns for cell in _cells(sum(column[scenes], []))))
    Console(width=160).print(table)


def _cells(results: list[Result]) -> tuple[str, str]:
    share = sum(each.num_correct for each in results) / max(1, sum(each.num_speech for each in results))
    return f"{share:.1%}", f"{sum(each.has_all_people for each in results)} of {len(results)}"


def _results(
    scene: Scene,
    speakers: list[Speaker],
    seconds: float,
    num_films: int,
    finder: PeopleFinder,
    folder: Path,
    verbose: bool,
) -> list[Result]:
    results = []
    for number in range(num_films):
        seed = 100 * SCENES.index(scene) + number
        chosen = np.random.default_rng(seed).choice(len(speakers), scene.num_people + scene.has_off_screen, False)
        film = compose(scene, [speakers[index] for index in chosen], seconds, seed, folder / "film.mkv")
        report, rows = finder(film.path, folder)
        found = _places(film, rows, scene.num_people)[_assigned(film, report)]
        is_speech = _inside(film.truth != SILENCE)
        num_seen = scene.num_people if -1 in film.shown else len(np.unique(film.shown))
        result = Result(
            int(is_speech.sum()), int((found == film.truth)[is_speech].sum()), len(report.people) == num_seen
        )
        results.append(result)
        if verbose:
            names = ", ".join(speakers[index].name for index in chosen)
            print(f"{scene.name} ({names}): {result.num_correct} of {result.num_speech}, {report.audio_offset_ms} ms")
            print("".join("_.ABC"[value + 2] for value in film.truth))
            print("".join("_.ABC?"[value + 2] for value in found), flush=True)
    return results


def _inside(is_speech: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns (N,) speech without the frames around it that `Speaker.speaks` includes."""
    return np.convolve(~is_speech, np.ones(2 * HELD_FRAMES + 1), "same") < 0.5


def _assigned(film: Film, report: PeopleReport) -> NDArray[np.intp]:
    """Returns (N,) the number of the person who is found to speak in each frame, or `OFF_SCREEN`."""
    found = np.full(len(film.truth), OFF_SCREEN, np.intp)
    for turn in report.turns:
        if turn.person is not None:
            found[round(turn.start * FPS) : round(turn.end * FPS)] = turn.person
    return found


def _places(film: Film, rows: FaceRows, num_people: int) -> NDArray[np.intp]:
    """Returns the true number of each person found: whose pictures they are in most often."""
    numbers = []
    for person in identify(rows, FPS):
        column = rows.box[person.rows][:, [0, 2]].mean(1) // PANEL
        place = np.where(film.shown[rows.frame[person.rows]] >= 0, film.shown[rows.frame[person.rows]], column)
        numbers.append(int(np.bincount(place.astype(np.intp), minlength=num_people).argmax()))
    return np.array([*numbers, OFF_SCREEN], np.intp)


if __name__ == "__main__":
    typer.run(main)
