"""Director: accepts jobs and runs them; see `lipwright.jobs.director`. Its state is the job table."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.runtime.replica import GRACE_S, service_name, set_up_telemetry
from deployments.runtime.replica_watch import ReplicaWatch, replica_counts
from deployments.runtime.stages import ServeStages
from lipwright.api.v1.protocol import webhook_view
from lipwright.config import PipelineConfig
from lipwright.jobs.director import JobDirector
from lipwright.media.labels.labeller import Labeller
from lipwright.speech.limits import check_texts
from lipwright.telemetry.log_context import CallContext, call_context
from lipwright.telemetry.tracing import span
from models.engines.protocol import EngineClass
from models.engines.registry import ENGINES

_DRAIN_S: Final = 0.75 * GRACE_S


@serve.deployment(graceful_shutdown_timeout_s=GRACE_S)
class Director(JobDirector):
    """One replica. `call` calls the methods of `lipwright.jobs.director.JobDirector`."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits a coroutine constructor
        self,
        config: PipelineConfig,
        media_probe: DeploymentHandle[Any],
        audio_features: DeploymentHandle[Any],
        landmark_generator: DeploymentHandle[Any],
        studio: DeploymentHandle[Any],
        speech_synthesis: DeploymentHandle[Any],
        engines: Mapping[str, str | EngineClass] = ENGINES,
    ) -> None:
        """Open the job table, and lead or wait until no other service does."""
        set_up_telemetry()
        await asyncio.to_thread(Labeller(config.labels, config.data_dir).check_signing)
        stages = ServeStages(config, media_probe, audio_features, landmark_generator, studio, speech_synthesis)
        watch, checks = ReplicaWatch(replica_counts), partial(check_texts, config.tts)
        super().__init__(config, stages, service_name(), watch, engines, webhook_view, checks)
        await self.start()

    async def call(self, context: CallContext, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Return the result of a method, called in the trace of a request."""
        with call_context(context), span(f"Director.{method}"):
            return await getattr(self, method)(*args, **kwargs)

    async def __del__(self) -> None:
        """Finish the segments in progress when Serve ends this replica, for example with its node, and resign."""
        await self.stop(_DRAIN_S)

    async def check_health(self) -> None:
        """Raise when this replica must be replaced; see `JobDirector.check`."""
        await self.check()
