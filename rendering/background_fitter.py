"""Makes the backgrounds of live sessions."""

from __future__ import annotations

import hashlib
from contextlib import closing

from jobs.messages import SourceVideo
from media.cancel_token import CancelToken
from media.output.fitted_background import fit_background
from media.playback import AfterEnd
from media.probe import VideoInfo
from rendering.background_opener import OpenSource
from storage.files import StoredFiles


class BackgroundFitter:
    """Decodes pictures and videos, and writes them as sessions show them; blocks."""

    def __init__(self, files: StoredFiles, open_source: OpenSource, num_threads: int) -> None:
        self._files, self._open_source, self._num_threads = files, open_source, num_threads

    def fit(self, background: SourceVideo, shown: VideoInfo, after_end: AfterEnd, out: str, token: CancelToken) -> str:
        """Write a background for sessions that show `shown` to the key `out`; see `Studio.fit_background`."""
        with (
            self._files.fetched(background.key) as path,
            closing(self._open_source(path, background.info, None)) as reader,
            token.on_cancel(reader.close),
        ):
            made = fit_background(reader, background.info, shown, after_end, self._num_threads)
        self._files.put(out, made)
        return hashlib.sha256(made).hexdigest()
