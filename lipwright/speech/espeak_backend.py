"""Text-to-speech by the program espeak-ng, if it is installed: a hundred languages, with a robotic sound."""

from __future__ import annotations

import asyncio
import math
import os
import re
import shutil
import struct
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from lipwright.config import TtsConfig
from lipwright.errors import OptionError, StageTimeoutError, VoiceError
from lipwright.media.language import parse_language
from lipwright.speech import voice_process
from lipwright.speech.child_process import kill
from lipwright.speech.package_backend import unknown_voice

PREFIX: Final = "espeak:"
"""Start of the name of every voice, as in `espeak:cmn`; the rest is espeak-ng's name of the language."""
_PROGRAM: Final = "espeak-ng"
_LANGUAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{1,40}")  # neither an option nor the path of a voice file
_NAME: Final = re.compile(_LANGUAGE.pattern + r"(\+[mf][1-5])?")
"""A language, in a variant: another speaker of it."""
_VARIANTS: Final = ("", "+f2", "+m3", "+f4", "+m1", "+f3", "+m5", "+f5", "+m4")
_HEAD_BYTES: Final = 44
_NOTHING_BYTES: Final = 2000  # without words, espeak-ng writes 308 bytes of silence; a single vowel has 20,000
_LIST_S: Final = 5.0
_PIECE_BYTES: Final = 1 << 16
_PASSED_ON: Final = ("PATH", "LD_LIBRARY_PATH", "ESPEAK_DATA_PATH")


class EspeakBackend:
    """Runs espeak-ng in one process per text, about 500 times faster than real time."""

    def __init__(self, settings: TtsConfig) -> None:
        self._settings = settings
        self._printed: dict[tuple[str, int, str], str] = {}  # by path and modification time of the program, and option

    async def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        """Yield a 22.05 kHz WAV file, deterministic; see `lipwright.speech.service.TtsBackend`."""
        program = shutil.which(_PROGRAM)
        if program is None:
            raise OptionError(
                f"voice: {voice!r} needs the program {_PROGRAM}. Ask the operator to install it (Debian package "
                f"{_PROGRAM}), or choose one of GET /v1/voices."
            )
        name = voice.removeprefix(PREFIX)
        if not _NAME.fullmatch(name):
            raise unknown_voice(voice)
        limits = self._settings
        launcher = str(Path(voice_process.__file__))
        cpu_seconds = str(math.ceil(limits.timeout_s))
        try:
            async with (
                asyncio.timeout(limits.timeout_s),
                _running(sys.executable, "-I", "-S", launcher, program, name, cpu_seconds) as process,
            ):
                wav = await _exchange(process, text.encode(errors="replace"), limits.max_bytes)
                status = await process.wait()
        except TimeoutError as error:
            raise StageTimeoutError(f"The voice timed out after {limits.timeout_s:g} s.") from error
        if status != 0:
            if status > 0 and voice.partition("+")[0] not in await self.voices():
                raise unknown_voice(voice)
            raise VoiceError(f"The voice process exited with status {status}.")
        if len(wav) < _HEAD_BYTES + _NOTHING_BYTES:
            raise OptionError("text: contains nothing that this voice can speak.")
        if wav[_HEAD_BYTES - 8 : _HEAD_BYTES - 4] == b"data":  # of the program, which did not know the length
            struct.pack_into("<I", wav, 4, len(wav) - 8)
            struct.pack_into("<I", wav, _HEAD_BYTES - 4, len(wav) - _HEAD_BYTES)
        yield bytes(wav)

    async def check_voice(self, voice: str) -> None:
        """Raise OptionError if the voice does not exist; see `lipwright.speech.service.TtsBackend`."""
        if voice.partition("+")[0] not in await self.voices():
            raise unknown_voice(voice)

    async def identity(self, voice: str) -> str:
        """Return the voice with the version of espeak-ng; see `lipwright.speech.service.TtsBackend`."""
        return f"{voice}\n{await self._output('--version')}"

    async def voices(self) -> list[str]:
        """Return a voice per installed language; none without espeak-ng.

        Raises:
            VoiceError: The program does not answer in time.
        """
        _, *lines = (await self._output("--voices")).splitlines() or [""]
        languages = (line.split()[1] for line in lines if len(line.split()) > 1)
        return list(dict.fromkeys(PREFIX + each for each in languages if _LANGUAGE.fullmatch(each)))

    async def _output(self, option: str) -> str:
        """Return what the program prints; nothing if it is not installed or cannot be run.

        Raises:
            VoiceError: It does not answer in time, as on a busy machine.
        """
        program = shutil.which(_PROGRAM)
        if program is None:
            return ""
        try:
            state = program, os.stat(program).st_mtime_ns, option
            if state not in self._printed:
                async with asyncio.timeout(_LIST_S), _running(program, option) as process:
                    output = await _exchange(process, b"", _PIECE_BYTES)
                self._printed = {key: text for key, text in self._printed.items() if key[:2] == state[:2]}
                self._printed[state] = output.decode(errors="replace")
            return self._printed[state]
        except TimeoutError as error:
            raise VoiceError(f"{_PROGRAM} {option} timed out after {_LIST_S:g} s.") from error
        except OSError:
            return ""


def language_of(voice: str) -> str | None:
    """Return the language of one of these voices, ISO 639-3; None if it has no code."""
    try:
        return parse_language(voice.removeprefix(PREFIX).partition("+")[0])
    except ValueError:
        return None


def speakers_of(voices: Sequence[str]) -> list[str]:
    """Return different speakers of the most general one of several voices; none without any."""
    return [min(voices, key=len) + variant for variant in _VARIANTS] if voices else []


def is_installed() -> bool:
    """Whether the program exists on this machine."""
    return shutil.which(_PROGRAM) is not None


@asynccontextmanager
async def _running(*command: str) -> AsyncIterator[Process]:
    """Run a command, which ends with the block; it inherits no secrets."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            await asyncio.shield(kill(process))


async def _exchange(process: Process, text: bytes, max_bytes: int) -> bytearray:
    """Send the text and return the output.

    Raises:
        VoiceError: There is more of it than `max_bytes`.
    """
    assert process.stdin is not None and process.stdout is not None
    with suppress(RuntimeError, ConnectionError):  # it has ended already; uvloop raises the former
        process.stdin.write(text)
        process.stdin.write_eof()
    output = bytearray()
    while piece := await process.stdout.read(_PIECE_BYTES):
        output += piece
        if len(output) > max_bytes:
            raise VoiceError(f"The voice returned more than {max_bytes} bytes of audio.")
    return output
