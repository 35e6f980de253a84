"""The voice of the package hibari-tts (extra `[tts]`), in a process of its own for each text.

The process loads the voice, speaks and ends: half a second more, and nothing that hangs or grows stays.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from api.speech import hibari_process
from config import TtsConfig
from errors import OptionError, StageTimeoutError, VoiceError

PACKAGED_VOICE: Final = "heart"
"""The one voice whose weights are in the package."""
_PIECE_BYTES: Final = 1 << 16
_PASSED_ON: Final = ("PATH", "HOME", "HIBARI_HOME", "XDG_CACHE_HOME", "LD_LIBRARY_PATH")
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class PackagedVoice:
    """Speaks English, about a hundred times faster than it is heard."""

    def __init__(self, settings: TtsConfig) -> None:
        self._settings = settings

    async def speak(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        """Pieces of a WAV file of 24 kHz, the same each time; see `api.speech.voice.Voice`."""
        # Isolated: neither the folder of this process nor its environment adds to what is imported; no key goes along.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(Path(hibari_process.__file__)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _ONE_THREAD,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                process.stdin.write(json.dumps({"text": text, "voice": voice}).encode())
                process.stdin.write_eof()
                while piece := await process.stdout.read(_PIECE_BYTES):
                    yield piece
                status = await process.wait()
        except TimeoutError as error:
            raise StageTimeoutError(f"The voice did not speak within {self._settings.timeout_s:.0f} s.") from error
        finally:
            if process.returncode is None:
                process.kill()
                await asyncio.shield(process.wait())
        if status == hibari_process.UNKNOWN_VOICE:
            raise OptionError(f"voice: expected one that is installed here, such as {PACKAGED_VOICE}, got {voice!r}.")
        if status == hibari_process.NOTHING_TO_SAY:
            raise OptionError("text: there is nothing in it that this voice can say; it speaks English.")
        if status != 0:
            raise VoiceError(f"The voice ended with status {status}.")
