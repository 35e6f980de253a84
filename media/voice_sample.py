"""Writes the recording of a speaker in the one format that every speech server reads: WAV, 24 kHz, mono, 16 bits."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Final

from config import MediaLimits
from media.audio import AudioTrack
from media.probe import AudioInfo

SAMPLE_RATE: Final = 24000
"""Samples per second; speech models work at 16 or 24 kHz."""


def write_voice_sample(path: Path, out: Path, limits: MediaLimits) -> AudioInfo:
    """Writes the audio of `path` to the WAV file `out`.

    Args:
        path: Any file with audio, also a video.
        out: The file to write.
        limits: Limits on the input.

    Returns:
        The track's own rate, channels and counted duration.

    Raises:
        MediaError: No usable audio.
        MediaLimitError: Longer or larger than allowed.
    """
    track = AudioTrack(path, limits)
    try:
        with wave.open(str(out), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            for block in track.blocks(SAMPLE_RATE, "mono", "s16p"):
                file.writeframes(block.astype("<i2").tobytes())
    finally:
        track.close()
    return track.info
