"""Probes the files of one request, all of them within one timeout."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from lipwright.config import MediaLimits, PipelineConfig
from lipwright.errors import MediaLimitError
from lipwright.media.cancel_token import CancelToken
from lipwright.media.container import file_status
from lipwright.media.decoding.decoder import Decoders, DecoderTimeoutError

T = TypeVar("T")

_ORDINARY_SHARE: Final = 0.2
"""Share of the CPU time allowed to a file: ordinary files take a hundredth of it, large ones a tenth."""
_LEAST_S: Final = 0.1


class UploadProbe:
    """Probes the files of one request within a common deadline, which starts when this is created.

    `limits.open_timeout_s` bounds the wall-clock time of all files together, and times `decoder.cpu_share` their CPU
    time.

    Raises:
        StoredFileError: One of them is missing.
    """

    def __init__(self, decoders: Decoders, config: PipelineConfig, files: Sequence[Path]) -> None:
        self._decoders, self._limits, self._cpu_share = decoders, config.limits, config.decoder.cpu_share
        self.seconds = self._limits.probe_seconds(sum(file_status(file).st_size for file in files))
        self._deadline = time.monotonic() + self.seconds

    def run(self, probe: Callable[[Path, MediaLimits], T], file: Path, token: CancelToken | None = None) -> T:
        """Run `probe` (a module-level function) on a file in a decoder process and return its result.

        Raises:
            MediaError: The file cannot be used.
            MediaLimitError: It exceeds a limit, or needs more CPU time than any ordinary file.
            StageTimeoutError: The deadline has passed although the file used little CPU time: the machine is busy.
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
                f"{file.name}: opening it took more than {self.seconds:.0f} s, {error.cpu_seconds:.1f} s of them CPU "
                "time (limit: limits.open_timeout_s)."
            ) from error
