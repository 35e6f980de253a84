"""Effect of the short look-ahead of live sessions: mouth shapes of a stream compared with those of the whole file.

    python -m benchmarks.live.hearing samples/speech.wav ../shared/clips/*.wav --lead 0.16

Without `--lead` all speech is available at once; with it, speech arrives in real time, and that many seconds are
buffered when speech starts (`live.min_buffer_seconds`).

Prints for each file the correlation of the opening and of all channels, the lag in frames, the share of the opening's
movement, and by how much the gate differs.
"""

from __future__ import annotations

import argparse
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from config import MediaLimits
from media.audio import extract_speech
from models.speech.features import SpeechFeatures, measure_level
from models.speech.speech_to_mouth import MouthBlock, SpeechToMouth
from models.speech.stream import LOOK_AHEAD_SECONDS, SpeechStream

FPS = Fraction(25)
MOMENT_FRAMES = 2
MAX_SECONDS = 20
LAGS = range(-3, 4)


def offline(speech: Path, features: SpeechFeatures, network: SpeechToMouth, num_frames: int) -> MouthBlock:
    block = features.extract(speech, measure_level(speech), 0, float(num_frames / FPS))
    return network.predict(block, FPS, 0, num_frames)


def live(
    samples: NDArray[np.int16],
    features: SpeechFeatures,
    network: SpeechToMouth,
    num_frames: int,
    lead_seconds: float | None,
) -> MouthBlock:
    """Processes speech as a session does: audio arrives in real time, and frames are made as soon as possible."""
    stream, parts = SpeechStream(), []
    for first in range(0, num_frames, MOMENT_FRAMES):
        stop = min(first + MOMENT_FRAMES, num_frames)
        known = stop / FPS + LOOK_AHEAD_SECONDS if lead_seconds is None else first / FPS + lead_seconds
        heard = int(known * 16000) if stop < num_frames else len(samples)
        stream.push(samples[stream.num_samples : heard])
        block = features.extract_window(stream.window(float(first / FPS), float(stop / FPS)))
        parts.append(network.predict(block, FPS, first, stop - first))
    return MouthBlock(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("shape", "gate")))


def compare(whole: MouthBlock, stream: MouthBlock) -> tuple[float, float, int, float, float]:
    """Returns correlation of the opening, mean correlation, lag in frames, movement ratio, gate difference."""
    a, b = whole.shape, stream.shape
    r = [float(np.corrcoef(a[:, channel], b[:, channel])[0, 1]) for channel in range(a.shape[1])]
    shifted = [float(np.corrcoef(np.roll(b[:, 0], lag)[5:-5], a[5:-5, 0])[0, 1]) for lag in LAGS]
    lag = list(LAGS)[int(np.argmax(shifted))]
    return (
        r[0],
        float(np.mean(r)),
        lag,
        float(b[:, 0].std() / a[:, 0].std()),
        float(np.abs(whole.gate - stream.gate).mean()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--lead", type=float, help="Seconds of audio buffered before speech starts.")
    options = parser.parse_args()
    features, live_features = SpeechFeatures(), SpeechFeatures(is_quantised=True)
    network, rows = SpeechToMouth(), []
    print("| clip | opening r | mean r | lag (frames) | movement ratio | gate difference |\n|---|---|---|---|---|---|")
    for file in options.files:
        with tempfile.TemporaryDirectory() as folder:
            speech = Path(folder) / "speech.npy"
            extract_speech(file, speech, MediaLimits())
            samples = np.load(speech)[: MAX_SECONDS * 16000]
            np.save(speech, samples)
            num_frames = len(samples) * FPS.numerator // 16000
            whole = offline(speech, features, network, num_frames)
            row = compare(whole, live(samples, live_features, network, num_frames, options.lead))
        rows.append(row)
        print(f"| {file.stem} | {row[0]:.3f} | {row[1]:.3f} | {row[2]} | {row[3]:.2f} | {row[4]:.3f} |")
    mean = np.mean(rows, 0)
    print(f"| mean | {mean[0]:.3f} | {mean[1]:.3f} | {mean[2]:.1f} | {mean[3]:.2f} | {mean[4]:.3f} |")


if __name__ == "__main__":
    main()
