"""Text-to-speech by the package hibari-tts (extra `[tts]`), in one process per text.

A process per text costs half a second, but nothing can hang or leak.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

from api.tts import hibari_process
from config import TtsConfig
from errors import OptionError, StageTimeoutError, VoiceError

BUILTIN_VOICE: Final = "heart"
"""The voice that is bundled with the package."""
_PIECE_BYTES: Final = 1 << 16
_PASSED_ON: Final = ("PATH", "HOME", "HIBARI_HOME", "XDG_CACHE_HOME", "LD_LIBRARY_PATH")
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class BuiltinBackend:
    """Speaks English, about a hundred times faster than real time."""

    def __init__(self, settings: TtsConfig) -> None:
        self._settings = settings

    async def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        """Yield a 24 kHz WAV file, deterministic; see `api.tts.service.TtsBackend`."""
        # Isolated: imports nothing from the working directory or the environment, and inherits no secrets.
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
            raise StageTimeoutError(f"The voice timed out after {self._settings.timeout_s:g} s.") from error
        finally:
            if process.returncode is None:
                process.kill()
                await asyncio.shield(process.wait())
        if status == hibari_process.UNKNOWN_VOICE:
            raise OptionError(f"voice: {voice!r} is not installed. GET /v1/voices lists the installed voices.")
        if status == hibari_process.NOTHING_TO_SAY:
            raise OptionError(
                "text: contains nothing that this voice can speak. It speaks English; GET /v1/voices lists all voices."
            )
        if status != 0:
            raise VoiceError(f"The voice process exited with status {status}.")

    async def voices(self) -> list[str]:
        """Return the installed voices."""
        return await asyncio.to_thread(_installed_voices)


def _installed_voices() -> list[str]:
    """Return the voices whose weights are on disk, without importing the package's runtime."""
    package = find_spec("hibari")
    if package is None or package.origin is None:
        return [BUILTIN_VOICE]
    spec = spec_from_file_location("_hibari_voices", Path(package.origin).with_name("voices.py"))
    assert spec is not None and spec.loader is not None
    registry = module_from_spec(spec)
    spec.loader.exec_module(registry)
    return [name for name in registry.VOICES if _is_installed(registry, name)]


def _is_installed(registry: ModuleType, name: str) -> bool:
    try:
        return Path(registry.voice_path(name, download_missing=False)).is_file()
    except OSError:
        return False
