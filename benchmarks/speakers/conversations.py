"""Films of conversations, composed from clips of single speakers, with the truth of who speaks when."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.analysis import AnalysedAvatar, analyse
from benchmarks.in_process import render_staged
from config import MediaLimits
from media.audio import SPEECH_SAMPLE_RATE, extract_speech
from media.probe import probe_video
from media.reader import FrameReader
from media.yuv_frame import to_rgb
from models.engines.warp.avatar import WarpAvatar
from models.speech.level import ROWS_PER_SECOND, measure_level, open_speech, row_levels

FPS: Final = 25
PANEL: Final = 288  # pixels of the side of one person's picture
OFF_SCREEN, SILENCE = -1, -2
Listening = Literal["silent", "dubbed"]

_SAMPLES = SPEECH_SAMPLE_RATE // FPS  # of a frame
_MAX_SECONDS = 8.0  # of each clip
_FACE_SHARE = 2.2  # side of a picture relative to the face
_RMS = 2000.0  # of the speech of everybody
# Frames this far below the loud speech of a clip, and more, are silent: the noise in the GRID clips is 23 dB below it.
_SPEECH_RANGE_DB = 15.0
_HELD_ROWS = 8  # around speech that count as speech
HELD_FRAMES: Final = _HELD_ROWS * FPS // ROWS_PER_SECOND
_TURN_SECONDS = (1.5, 3.5)
_MAX_TURN_SECONDS = 6.0


@dataclass(frozen=True)
class Speaker:
    """One person for N frames, from the start again when they end."""

    name: str
    talking: NDArray[np.uint8]  # (N, 288, 288, 3) RGB
    silent: NDArray[np.uint8]  # the same pictures, rendered with a closed mouth
    samples: NDArray[np.float64]  # (N * 640,) 16 kHz, in sync with the pictures
    speaks: NDArray[np.bool_]  # (N,)


@dataclass(frozen=True)
class Scene:
    """What a film shows.

    Attributes:
        name: Heading in the table.
        num_people: People in the picture.
        listening: What the others do while one speaks: "silent": keep the mouth closed; "dubbed": talk on.
        has_off_screen: Whether somebody speaks who is not in the picture.
        music_db: Level of music under the speech; None for none.
        has_cuts: Whether close-ups of single people and the picture with all of them alternate.
    """

    name: str
    num_people: int
    listening: Listening = "silent"
    has_off_screen: bool = False
    music_db: float | None = None
    has_cuts: bool = False


@dataclass(frozen=True)
class Film:
    """A composed film of N frames."""

    path: Path
    truth: NDArray[np.int32]  # (N,) number of the speaker, `OFF_SCREEN` or `SILENCE`
    shown: NDArray[np.int32]  # (N,) number of the person in a close-up, -1 if all are seen


def load_speaker(clip: Path, folder: Path) -> Speaker:
    """Cuts the face out of a clip, renders it silent, and removes the clip's own audio-video offset."""
    folder.mkdir(parents=True, exist_ok=True)
    short = _shortened(clip, folder / "clip.mp4")
    analysed, _ = analyse(short, folder / "avatar")
    talking = _pictures(short)
    silent = _pictures(_silenced(analysed, len(talking), folder))
    extract_speech(short, folder / "speech.npy", MediaLimits())
    samples = open_speech(folder / "speech.npy").astype(np.float64)
    loud_db = measure_level(folder / "speech.npy").speech_db - _SPEECH_RANGE_DB
    levels = row_levels(samples.astype(np.int16), 0, 2 * len(talking))
    is_loud = np.convolve(levels > loud_db, np.ones(2 * _HELD_ROWS + 1), "same") > 0
    lag = round(_offset_seconds(analysed) * FPS)
    samples = _fitted(np.roll(_fitted(samples, len(talking) * _SAMPLES), -lag * _SAMPLES), len(talking) * _SAMPLES)
    speaks = np.roll(is_loud[::2][: len(talking)], -lag)
    box = _face_square(analysed)
    loud = np.sqrt(np.mean(samples**2))
    return Speaker(clip.stem, _cut(talking, box), _cut(silent, box), samples * _RMS / max(loud, 1.0), speaks)


def compose(scene: Scene, speakers: Sequence[Speaker], seconds: float, seed: int, path: Path) -> Film:
    """Writes a film of a scene; with `has_off_screen` the last one of the speakers is never seen."""
    random, num_frames = np.random.default_rng(seed), round(seconds * FPS)
    starts = [int(random.integers(len(each.speaks))) for each in speakers]
    frames = [(np.arange(num_frames) + start) % len(each.speaks) for start, each in zip(starts, speakers, strict=True)]
    speaks = np.array([each.speaks[index] for each, index in zip(speakers, frames, strict=True)])
    turn = _turns(speaks, random)
    truth = np.where(speaks[turn, np.arange(num_frames)], turn, SILENCE).astype(np.int32)
    truth[truth >= scene.num_people] = OFF_SCREEN
    shown = _close_ups(num_frames, scene.num_people, random) if scene.has_cuts else np.full(num_frames, -1, np.int32)
    truth[(truth >= 0) & (shown >= 0) & (truth != shown)] = OFF_SCREEN
    sound = _sound(speakers, frames, turn)
    if scene.music_db is not None:
        sound += compose_music(len(sound), random) * np.sqrt(np.mean(sound**2)) * 10 ** (scene.music_db / 20)
    pictures = []
    for number in range(num_frames):
        panels = []
        for person in range(scene.num_people):
            talks = scene.listening == "dubbed" or turn[number] == person
            source = speakers[person].talking if talks else speakers[person].silent
            panels.append(source[frames[person][number]])
        pictures.append(panels[shown[number]] if shown[number] >= 0 else np.concatenate(panels, 1))
    write_film(path, pictures, PANEL * scene.num_people, sound)
    return Film(path, truth, shown)


def _turns(speaks: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.intp]:
    """Returns (N,) whose turn it is; turns end where the speaker pauses, and if possible the next one does, too."""
    num_speakers, num_frames = speaks.shape
    turn = np.zeros(num_frames, np.intp)
    start, current = 0, int(random.integers(num_speakers))
    while start < num_frames:
        following = int(random.choice([each for each in range(num_speakers) if each != current]))
        first, last = start + round(random.uniform(*_TURN_SECONDS) * FPS), start + round(_MAX_TURN_SECONDS * FPS)
        window = np.arange(first, max(first + 1, min(last, num_frames)))
        window = window[window < num_frames]
        both, own = (window[~speaks[who][:, window].any(0)] for who in ([current, following], [current]))
        end = int(both[0] if len(both) else own[0] if len(own) else min(last, num_frames))
        turn[start:end] = current
        start, current = max(end, start + 1), following
    return turn


def _close_ups(num_frames: int, num_people: int, random: np.random.Generator) -> NDArray[np.int32]:
    shown = np.full(num_frames, -1, np.int32)
    start = 0
    while start < num_frames:
        stop = start + round(random.uniform(2, 5) * FPS)
        shown[start:stop] = random.integers(-1, num_people)
        start = stop
    return shown


def _sound(
    speakers: Sequence[Speaker], frames: Sequence[NDArray[np.intp]], turn: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Returns the sound in which everybody is heard in their turns only, with fades of 20 ms."""
    fade = np.hanning(_SAMPLES) / np.hanning(_SAMPLES).sum()
    total = np.zeros(len(turn) * _SAMPLES)
    for number, (speaker, index) in enumerate(zip(speakers, frames, strict=True)):
        own = np.convolve(np.repeat(turn == number, _SAMPLES).astype(np.float64), fade, "same")
        total += own * speaker.samples.reshape(-1, _SAMPLES)[index].ravel()
    return total


def compose_music(num_samples: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Returns plucked notes, two a second, with an RMS of 1."""
    times = np.arange(num_samples) / SPEECH_SAMPLE_RATE
    music = np.zeros(num_samples)
    for beat in np.arange(0, times[-1], 0.5):
        since = times - beat
        envelope = np.where(since >= 0, np.exp(-3 * since.clip(0)) * (since / 0.01).clip(0, 1), 0)
        tone = 110 * 2 ** (random.integers(0, 24) / 12)
        music += envelope * sum(np.sin(2 * np.pi * tone * harmonic * times) / harmonic for harmonic in (1, 2, 3, 4))
    return np.asarray(music / np.sqrt(np.mean(music**2)))


def _shortened(clip: Path, out: Path) -> Path:
    """Re-encodes the first seconds at 25 fps, nearly without loss."""
    info = probe_video(clip, MediaLimits())
    num = int(min(info.duration_seconds, _MAX_SECONDS) * FPS)
    with FrameReader(clip, info, 2**26) as reader:
        wanted = [min(round(number * float(info.fps) / FPS), info.num_frames - 1) for number in range(num)]
        pictures = [to_rgb(frame, info.colour) for frame in reader.read(wanted)]
    extract_speech(clip, out.with_suffix(".npy"), MediaLimits())
    write_film(out, pictures, info.width, open_speech(out.with_suffix(".npy"))[: num * _SAMPLES].astype(np.float64))
    return out


def _silenced(analysed: AnalysedAvatar, num_frames: int, folder: Path) -> Path:
    with wave.open(str(folder / "silence.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SPEECH_SAMPLE_RATE)
        file.writeframes(bytes(2 * num_frames * _SAMPLES))
    rendered = folder / "silent"
    rendered.mkdir(exist_ok=True)
    render_staged(analysed, folder / "silence.wav", num_frames, rendered)
    return rendered / "result.mp4"


def _offset_seconds(analysed: AnalysedAvatar) -> float:
    own = WarpAvatar.load(analysed.avatar, analysed.avatar.folder_of(analysed.engine)).calibration.own_speech
    return 0.0 if own is None or own.sync.offset_seconds is None else own.sync.offset_seconds


def _face_square(analysed: AnalysedAvatar) -> tuple[int, int, int]:
    """Returns x, y and side of a square around the face of all frames."""
    points = analysed.avatar.track.points[analysed.avatar.track.visible][..., :2]
    low, high = np.quantile(points.min(1), 0.1, axis=0), np.quantile(points.max(1), 0.9, axis=0)
    info = analysed.avatar.info
    side = int(min(_FACE_SHARE * (high - low).max(), info.width, info.height))
    x, y = ((low + high) / 2 - side / 2).clip(0, [info.width - side, info.height - side]).astype(int)
    return int(x), int(y), side


def _cut(pictures: list[NDArray[np.uint8]], box: tuple[int, int, int]) -> NDArray[np.uint8]:
    x, y, side = box
    parts = [picture[y : y + side, x : x + side] for picture in pictures]
    return np.stack([cv2.resize(part, (PANEL, PANEL), interpolation=cv2.INTER_AREA) for part in parts]).astype(np.uint8)


def _pictures(path: Path) -> list[NDArray[np.uint8]]:
    info = probe_video(path, MediaLimits())
    with FrameReader(path, info, 2**26) as reader:
        return [to_rgb(frame, info.colour) for frame in reader.read(range(info.num_frames))]


def _fitted(samples: NDArray[np.float64], num: int) -> NDArray[np.float64]:
    return np.pad(samples[:num], (0, max(0, num - len(samples))))


def write_film(path: Path, pictures: list[NDArray[np.uint8]], width: int, sound: NDArray[np.float64]) -> None:
    """Writes H.264 and FLAC; pictures narrower than `width` stand in its middle."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "16", "preset": "veryfast"})
        height = pictures[0].shape[0] // 2 * 2
        video.width, video.height, video.pix_fmt = width // 2 * 2, height, "yuv420p"
        audio = container.add_stream("flac", rate=SPEECH_SAMPLE_RATE)
        audio.layout = "mono"
        for picture in pictures:
            canvas = np.zeros((height, video.width, 3), np.uint8)
            left = (video.width - picture.shape[1]) // 2 if picture.shape[1] < video.width else 0
            canvas[:, left : left + picture.shape[1]] = picture[:height, : video.width]
            container.mux(video.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
        container.mux(video.encode())
        block = av.AudioFrame.from_ndarray(sound.clip(-32768, 32767).astype(np.int16)[None], "s16", "mono")
        block.sample_rate, block.pts, block.time_base = SPEECH_SAMPLE_RATE, 0, Fraction(1, SPEECH_SAMPLE_RATE)
        container.mux(audio.encode(block))
        container.mux(audio.encode())
