"""Looks at the files of one request at the door, all of them within one bound of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from config import MediaLimits, PipelineConfig
from errors import MediaLimitError
from media.cancel_token import CancelToken
from media.container import file_status
from media.decoding.decoder import Decoders, DecoderTimeoutError

T = TypeVar("T")

_ORDINARY_SHARE: Final = 0.2
"""Of the processor time that a file may take: ordinary ones take a hundredth of it, large ones a tenth."""
_LEAST_S: Final = 0.1


class UploadProbe:
    """What is left of the time in which the files of one request are opened and probed.

    Args:
        decoders: Where processes come from.
        config: `limits.open_timeout_s` bounds all files together in wall clock, `decoder.cpu_share` of it their work.
        files: All of them.

    Raises:
        StoredFileError: One of them is gone.
    """

    def __init__(self, decoders: Decoders, config: PipelineConfig, files: Sequence[Path]) -> None:
        self._decoders, self._limits, self._cpu_share = decoders, config.limits, config.decoder.cpu_share
        self.seconds = self._limits.probe_seconds(sum(file_status(file).st_size for file in files))
        self._deadline = time.monotonic() + self.seconds

    def run(self, probe: Callable[[Path, MediaLimits], T], file: Path, token: CancelToken | None = None) -> T:
        """Return what `probe` (module-level) says of a file.

        Raises:
            MediaError: The file cannot be used.
            MediaLimitError: It passes a limit, or costs more than any ordinary file.
            StageTimeoutError: The time is over, and the file is not to blame: the machine has none for it.
        """
        left_s = max(self._deadline - time.monotonic(), _LEAST_S)
        cpu_seconds = left_s * self._cpu_share
        work = partial(probe, file, self._limits)
        try:
            return self._decoders.run(work, file=file, timeout_s=left_s, token=token, cpu_seconds=cpu_seconds)
        except DecoderTimeoutError as error:
            if error.cpu_seconds < self.seconds * self._cpu_share * _ORDINARY_SHARE:
                raise
            raise MediaLimitError(
                f"{file.name}: expected a file that is opened within {self.seconds:.0f} s, found no end after "
                f"{error.cpu_seconds:.1f} s of processor time."
            ) from error
