"""MediaProbe: looks at inputs before anything is promised. Its own deployment, so that nobody waits behind renders."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from ray import serve

from config import PipelineConfig
from deployments.runtime.replica import Room, Threads, claim_threads, stage_call
from jobs.messages import Probed
from media.decoding.decoder import Decoders
from media.probe import probe_audio, probe_video
from media.stop import Stop
from telemetry import metrics


@serve.deployment
class MediaProbe:
    """Opens files in decoder processes and says what they are."""

    def __init__(self, config: PipelineConfig) -> None:
        """Have a decoder process ready."""
        claim_threads()
        self._config = config
        self._room = Room()
        self._threads = Threads("MediaProbe")
        self._decoders = Decoders(config.decoder, metrics.decoder_died)
        self._decoders.warm()

    @stage_call
    async def probe(self, video: Path | None, audio: Path | None) -> Probed:
        """Check inputs before anything is promised.

        Raises:
            MediaError: One of them cannot be used.
            MediaLimitError: One of them passes a limit.
        """
        timeout_s = self._config.jobs.call_timeout_s(0)

        def work(stop: Stop) -> Probed:
            decode = partial(self._decoders.run, timeout_s=timeout_s, stop=stop)
            limits = self._config.limits
            info = decode(partial(probe_video, video, limits), file=video) if video is not None else None
            if info is not None and info.is_still:
                info = replace(info, fps=Fraction(self._config.render.still_fps))
            return Probed(info, decode(partial(probe_audio, audio, limits), file=audio) if audio is not None else None)

        return await self._threads.run(work, timeout_s)

    async def ready(self) -> bool:
        """True once the replica runs."""
        return True

    async def check_health(self) -> None:
        """Fail while work hangs; Serve then replaces the replica."""
        self._threads.check()
