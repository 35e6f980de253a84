"""MediaProbe: inspects inputs before a job is accepted. A deployment of its own, so that no render delays it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final

from ray import serve

from deployments.runtime.replica import GRACE_S, StageReplica, claim_threads, make_decoders, stage_method
from lipwright.config import PipelineConfig
from lipwright.jobs.fair_queue import run_in_thread
from lipwright.jobs.messages import ProbeResult
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.upload_probe import UploadProbe
from lipwright.media.probe import STILL_FPS, probe_audio, probe_video
from lipwright.storage.state import open_files

_NICENESS: Final = 2  # above renders: a caller waits for it, and its work takes seconds at most
_GRACE_S: Final = 5.0
"""A decoder ends itself first and says why; this is the limit if the machine is too busy for that."""


@serve.deployment(graceful_shutdown_timeout_s=GRACE_S)
class MediaProbe(StageReplica):
    """Opens files in decoder processes and returns their properties; see `lipwright.jobs.ports.Stages.probe`."""

    def __init__(self, config: PipelineConfig) -> None:
        """Start a decoder process."""
        super().__init__("MediaProbe", config)
        claim_threads(_NICENESS)
        self._files = open_files(config)
        self._decoders = make_decoders(config)

    @stage_method
    async def probe(self, video: str | None, audio: str | None) -> ProbeResult:
        with ExitStack() as held:
            paths, probes = await run_in_thread(lambda token: self._enter((video, audio), held))

            def work(token: CancelToken) -> ProbeResult:
                info = probes.run(probe_video, paths[video], token) if video is not None else None
                if info is not None and info.is_still:
                    info = replace(info, fps=Fraction(STILL_FPS))
                return ProbeResult(info, probes.run(probe_audio, paths[audio], token) if audio is not None else None)

            return await self._threads.run(work, probes.seconds + _GRACE_S)

    def _enter(self, keys: Sequence[str | None], held: ExitStack) -> tuple[dict[str, Path], UploadProbe]:
        """The files, which are on this machine until `held` ends, and what looks at them."""
        paths = {key: held.enter_context(self._files.fetched(key)) for key in keys if key is not None}
        return paths, UploadProbe(self._decoders, self._config, list(paths.values()))
