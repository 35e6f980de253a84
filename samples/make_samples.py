"""Recreates the sample files; their sources are listed in README.md.

    python -m samples.make_samples portrait PHOTO      # PHOTO: astronaut.png, see README.md
    python -m samples.make_samples closed PHOTO        # PHOTO: grace_hopper.jpg, see README.md
    python -m samples.make_samples speech              # needs the program `flite`
    python -m samples.make_samples presenter           # needs portrait.jpg and speech.wav

`presenter` animates the portrait with the speech and moves a virtual camera over the result, to get a video of a
moving, talking head.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.media.audio_parts import AudioPart
from lipwright.media.probe import probe_video
from lipwright.media.reader import FrameReader
from lipwright.media.result.concat import concat_segments
from lipwright.media.result.sound_mix import ResultSound
from lipwright.media.writer import SegmentWriter
from lipwright.media.yuv_frame import from_rgb, to_rgb

FOLDER = Path(__file__).resolve().parent
SIZE = 512
# File, and head and shoulders in the photo: left, top, side.
PORTRAITS = {"portrait": ("portrait.jpg", (96, 0, 256)), "closed": ("portrait_closed.jpg", (0, 0, 512))}
VOICE = "slt"
SENTENCE = "Welcome! My name is Mary. This movie was made from one photo, by Lip wright."
SHORT_SENTENCE = "My photo moves."
QUIET = 300  # of 32768
PRESENTER_SECONDS = 4
# Camera motions, each an amplitude and a period in seconds: drift in pixels, roll in degrees, zoom as a share.
DRIFT_X, DRIFT_Y, ROLL, ZOOM = (7.0, 3.7), (4.0, 2.9), (1.2, 4.3), (0.02, 5.1)
BASE_ZOOM = 1.06  # hides the edges of the moved picture


def make_portrait(photo: Path, crop: tuple[int, int, int], out: Path) -> None:
    """Cuts `crop` (left, top, side) out of a photo that is 512 pixels wide, and resizes it to 512 x 512."""
    picture = cv2.imread(str(photo), cv2.IMREAD_COLOR)
    if picture is None or picture.shape[1] != SIZE:
        raise ValueError(f"Expected a picture {SIZE} wide in {photo.name}, got {getattr(picture, 'shape', None)}.")
    left, top, side = crop
    cut = picture[top : top + side, left : left + side]
    large = cv2.resize(cut, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(out), large, [cv2.IMWRITE_JPEG_QUALITY, 92])


def make_speech(sentence: str, out: Path) -> None:
    """Synthesises a sentence with flite, trims the silence to a tenth of a second; 16 kHz mono PCM."""
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder) / "spoken.wav"
        subprocess.run(["flite", "-voice", VOICE, "-t", sentence, "-o", str(spoken)], check=True)
        with wave.open(str(spoken), "rb") as file:
            rate, samples = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), np.int16)
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > QUIET)
    samples = samples[max(0, loud[0] - rate // 10) : loud[-1] + rate // 10]
    with wave.open(str(out), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def make_presenter(out: Path) -> None:
    """Animates the portrait with the speech, then moves the camera over the result."""
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder) / "spoken.mp4"
        options = ["--video", FOLDER / "portrait.jpg", "--audio", FOLDER / "speech.wav", "--out", spoken]
        subprocess.run(
            [sys.executable, "-c", "from lipwright import cli; cli.app()", "speak", *map(str, options)], check=True
        )
        move_camera(spoken, FOLDER / "speech.wav", out)


def move_camera(source: Path, sound: Path, out: Path) -> None:
    """Writes the first four seconds of `source`, filmed by a slowly moving camera, with `sound`."""
    info = probe_video(source, MediaLimits())
    num_frames = min(round(PRESENTER_SECONDS * info.fps), info.num_frames)
    writer = SegmentWriter(info, crf=22, preset="slow")
    with FrameReader(source, info, cache_bytes=1) as reader:
        for index, planes in enumerate(reader.read(range(num_frames))):
            moved = _move(to_rgb(planes, info.colour), float(index / info.fps))
            writer.write(from_rgb(moved, info.colour))
    with tempfile.TemporaryDirectory() as folder:
        segment = Path(folder) / "segment.mp4"
        segment.write_bytes(writer.finish())
        concat_segments([segment], ResultSound([AudioPart(sound)]), out, info, num_frames)


def _move(picture: NDArray[np.uint8], seconds: float) -> NDArray[np.uint8]:
    """Returns the picture (H, W, 3) as the camera sees it at a time; it starts upright and centred."""
    (x, y, roll, zoom) = (
        swing * math.sin(2 * math.pi * seconds / period) for swing, period in (DRIFT_X, DRIFT_Y, ROLL, ZOOM)
    )
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), roll, BASE_ZOOM + zoom)
    matrix[:, 2] += np.array([x, y])
    moved = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved, np.uint8)


def main() -> None:
    """Makes the sample named on the command line."""
    parser = argparse.ArgumentParser(description="Make the sample files again.")
    parser.add_argument("sample", choices=[*PORTRAITS, "speech", "presenter"])
    parser.add_argument("photo", type=Path, nargs="?", help="the photo of a portrait")
    options = parser.parse_args()
    if options.sample in PORTRAITS:
        if options.photo is None:
            parser.error("a portrait needs PHOTO")
        name, crop = PORTRAITS[options.sample]
        make_portrait(options.photo, crop, FOLDER / name)
    elif options.sample == "speech":
        make_speech(SENTENCE, FOLDER / "speech.wav")
        make_speech(SHORT_SENTENCE, FOLDER / "speech_short.wav")
    else:
        make_presenter(FOLDER / "presenter.mp4")


if __name__ == "__main__":
    main()
