"""Finds the times of the phones of English speech with PocketSphinx (BSD licence, models in the package)."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pocketsphinx import Decoder

_FRAME_SECONDS: Final = 0.01
# The phones whose mouths are looked at, in ARPAbet. Vowels end in a stress digit in some dictionaries, not in this one.
PHONES: Final = {
    "u": ("UW", "UH"),
    "w": ("W",),
    "o": ("OW", "AO"),
    "i": ("IY",),
    "m": ("M", "B", "P"),
    "f": ("F", "V"),
}


class Phone(NamedTuple):
    """A phone in speech; one of `PHONES`, or its ARPAbet symbol."""

    name: str
    start_seconds: float
    stop_seconds: float

    @property
    def middle_seconds(self) -> float:
        """Half-way through the phone."""
        return (self.start_seconds + self.stop_seconds) / 2


def find_phones(speech: NDArray[np.int16], text: str | None = None) -> list[Phone]:
    """Aligns speech with its text.

    Args:
        speech: (N,) 16 kHz mono samples.
        text: What is said; recognised if it is not known.

    Raises:
        ValueError: A word is not in the dictionary, or the text does not fit the speech.
    """
    samples = speech.tobytes()
    if text is None:
        text = _recognise(samples)
    decoder = Decoder(lm=None, loglevel="FATAL")  # a language model takes most of the time of loading
    words = [word.strip(".,;:!?\"'") for word in text.lower().split()]
    unknown = [word for word in words if decoder.lookup_word(word) is None]
    if unknown or not words:
        raise ValueError(f"Expected English words of the CMU dictionary, got {' '.join(unknown) or 'nothing'!r}.")
    decoder.set_align_text(" ".join(words))
    _decode(decoder, samples)
    if decoder.hyp() is None:
        raise ValueError(f"The speech does not say {text!r}.")
    decoder.set_alignment()
    _decode(decoder, samples)
    name_of = {symbol: name for name, symbols in PHONES.items() for symbol in symbols}
    return [
        Phone(
            name_of.get(phone.name, phone.name),
            phone.start * _FRAME_SECONDS,
            (phone.start + phone.duration) * _FRAME_SECONDS,
        )
        for word in decoder.get_alignment()
        for phone in word
    ]


def read_labels(path: Path) -> list[Phone]:
    """Reads an Audacity label file: a line per phone with start and end in seconds and its name, tab-separated."""
    phones = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            start, stop, name = line.split("\t")
            phones.append(Phone(name.strip(), float(start), float(stop)))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: expected start, end and name, got {line!r}.") from error
    return phones


def _recognise(samples: bytes) -> str:
    decoder = Decoder(loglevel="FATAL")
    _decode(decoder, samples)
    heard = decoder.hyp()
    return "" if heard is None else str(heard.hypstr)


def _decode(decoder: Decoder, samples: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()
