"""Copies parts of a source into segments without decoding them, in sandboxed processes."""

from __future__ import annotations

import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from config import PipelineConfig
from errors import MediaError
from jobs.messages import SourceVideo
from media.cancel_token import CancelToken
from media.decoding.decoder import Decoders
from media.result.stream_copy import copy_segment, find_copyable_keys
from storage.files import StoredFiles


class SourceCopier:
    """Finds what can be copied of a source, and copies it; all its work blocks."""

    def __init__(self, config: PipelineConfig, files: StoredFiles, decoders: Decoders) -> None:
        self._config, self._files, self._decoders = config, files, decoders

    def keys(self, source: SourceVideo, token: CancelToken) -> list[int]:
        """Return the frames before which a copy may start or end, see `media.result.stream_copy.copyable_keys`."""
        info = source.info
        with self._files.fetched(source.key) as path:
            work = partial(find_copyable_keys, path, info, self._config.limits)
            reply = self._decoders.run(work, file=path, timeout_s=self._timeout_s(info.num_frames), token=token)
        keys: list[int] = np.frombuffer(reply, np.int64).tolist()
        if any(not 0 <= before < after <= info.num_frames for before, after in pairwise(keys)):
            raise MediaError(f"{source.key}: expected ascending frame numbers from the decoder.")
        return keys

    def copy(self, source: SourceVideo, start: int, stop: int, token: CancelToken) -> bytes:
        """Return frames [start, stop) as an MP4 file.

        Raises:
            MediaError: The source does not have these frames.
        """
        with self._files.fetched(source.key) as path, tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "segment.mp4"
            work = partial(copy_segment, path, out, source.info, start, stop, self._config.limits)
            timeout_s = self._timeout_s(stop - start)
            self._decoders.run(work, file=path, timeout_s=timeout_s, token=token, writes=out.parent)
            return out.read_bytes()

    def _timeout_s(self, num_frames: int) -> float:
        return self._config.jobs.call_timeout_s(num_frames)
