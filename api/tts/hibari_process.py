"""Runs hibari-tts in its own process: `{"text", "voice"}` on standard input, a WAV file on standard output.

Executed by path; imports nothing from this project.
"""

from __future__ import annotations

import io
import json
import os
import sys
import wave
from typing import Final

UNKNOWN_VOICE: Final = 3
"""Exit status: the voice is not installed. Nothing is downloaded."""
NOTHING_TO_SAY: Final = 4
"""Exit status: the text produced no audio."""
_SEED: Final = 0
_NICE: Final = 5  # rendering has priority


def main() -> int:
    """Synthesize, and return the exit status."""
    import numpy as np
    from hibari import Hibari
    from hibari.voices import voice_path

    os.nice(_NICE)
    asked = json.load(sys.stdin)
    try:
        model = voice_path(asked["voice"], download_missing=False)
    except (ValueError, FileNotFoundError):
        return UNKNOWN_VOICE
    hibari = Hibari(voice=asked["voice"], model=model)
    samples = hibari(asked["text"], seed=_SEED)
    if not len(samples):
        return NOTHING_TO_SAY
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, hibari.sample_rate, 0, "NONE", ""))
        file.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    sys.stdout.buffer.write(out.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(main())
