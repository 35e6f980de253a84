"""Writes the 16 kHz mono copy for the models while mono or stereo audio is decoded."""

from __future__ import annotations

import os
import tempfile
from math import exp, pi
from pathlib import Path
from typing import IO, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from lipwright.media.array_files import load_array

SPEECH_SAMPLE_RATE: Final = 16000
"""Samples per second of the speech copy."""
# If one channel is phase-inverted, the common signal cancels in the mean and remains in half the difference. In
# music and room recordings the difference is the weaker one.
_MIN_SIDE_LEAD: Final = 10.0  # ratio of powers
# A DC offset below a three-hundredth of the power (25 dB) hides no pause; speech itself has about 40 dB.
_MAX_OFFSET_SHARE: Final = 1 / 300
_OFFSET_POLE: Final = exp(-2 * pi * 10.0 / SPEECH_SAMPLE_RATE)  # of a high pass at 10 Hz
_SAMPLES_AT_A_TIME: Final = 1 << 20
_HEADER_BYTES: Final = 128  # numpy pads this header so that a longer first axis fits in place


class SpeechWriter:
    """Writes `out`, atomically, when the block ends without an error, and leaves no file otherwise.

    The file holds (samples,) int16: the mean of two channels, or half their difference if the mean is much weaker,
    because a phase-inverted channel would cancel the other. A DC offset is removed.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._files: list[IO[bytes]] = []
        self._num_samples = 0
        self._sums: list[float] = [0.0, 0.0]
        self._powers: list[float] = [0.0, 0.0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            for file in self._files:
                file.close()
                Path(file.name).unlink(missing_ok=True)

    def add(self, block: NDArray[np.int16]) -> None:
        """Append a (1, n) or (2, n) int16 block; all blocks have the same number of channels."""
        wide = block.astype(np.int32)
        candidates = [wide[0]] if len(block) == 1 else [(wide[0] + wide[1]) // 2, (wide[0] - wide[1]) // 2]
        while len(self._files) < len(candidates):
            self._files.append(self._new_file())
        for i, samples in enumerate(candidates):
            self._files[i].write(samples.astype("<i2").tobytes())
            self._sums[i] += float(samples.sum())
            self._powers[i] += float(np.square(samples, dtype=np.float64).sum())
        self._num_samples += block.shape[1]

    def _new_file(self) -> IO[bytes]:
        file = tempfile.NamedTemporaryFile(dir=self._out.parent, prefix=self._out.name, delete=False)  # noqa: SIM115
        file.write(bytes(_HEADER_BYTES))
        return file

    def _finish(self) -> None:
        if not self._files:
            self._files.append(self._new_file())
        chosen = int(self._powers[1] > _MIN_SIDE_LEAD * self._powers[0])
        file = self._files[chosen]
        file.seek(0)
        header = {"descr": "<i2", "fortran_order": False, "shape": (self._num_samples,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        if self._sums[chosen] ** 2 > _MAX_OFFSET_SHARE * self._powers[chosen] * self._num_samples:
            _remove_offset(load_array(Path(file.name), "r+"))
        os.replace(file.name, self._out)


def _remove_offset(samples: NDArray[np.int16]) -> None:
    """Apply a first-order high-pass filter to (N,) int16 in place, with the first sample as initial state."""
    from scipy.signal import lfilter  # importing it takes a third of a second, and few files need it

    state: NDArray[Any] = np.array([-float(samples[0])])
    for start in range(0, len(samples), _SAMPLES_AT_A_TIME):
        part = samples[start : start + _SAMPLES_AT_A_TIME]
        passed, state = lfilter([1.0, -1.0], [1.0, -_OFFSET_POLE], part.astype(np.float64), zi=state)
        part[:] = np.rint(passed).clip(-32768, 32767)
