"""MediaProbe: looks at inputs before anything is promised. Its own deployment, so that nobody waits behind renders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TypeVar

from ray import serve

from config import MediaLimits, PipelineConfig
from deployments.runtime.replica import Room, Threads, claim_threads, stage_call
from jobs.messages import Probed
from media.container import file_status
from media.decoding.decoder import Decoders
from media.probe import probe_audio, probe_video
from media.stop import Stop
from telemetry import metrics

T = TypeVar("T")


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
            limits = self._config.limits

            def look(probe: Callable[[Path, MediaLimits], T], file: Path) -> T:
                cpu_seconds = limits.probe_seconds(file_status(file).st_size) * self._config.decoder.cpu_share
                work = partial(probe, file, limits)
                return self._decoders.run(work, file=file, timeout_s=timeout_s, stop=stop, cpu_seconds=cpu_seconds)

            info = look(probe_video, video) if video is not None else None
            if info is not None and info.is_still:
                info = replace(info, fps=Fraction(self._config.render.still_fps))
            return Probed(info, look(probe_audio, audio) if audio is not None else None)

        return await self._threads.run(work, timeout_s)

    async def ready(self) -> bool:
        """True once the replica runs."""
        return True

    async def check_health(self) -> None:
        """Fail while work hangs; Serve then replaces the replica."""
        self._threads.check()
