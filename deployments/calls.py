"""One bounded, retried call from a deployment to another: the only way in which stages talk.

Ray Serve neither bounds nor retries an accepted request. Here every call has a deadline, a full stage slows the
caller down, a dead replica costs one more try, and a remote error arrives as the error that was raised.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentResponse, DeploymentResponseGenerator

from deployments.metrics import timed_call
from errors import LipwrightError, ReplicaLostError, StageTimeoutError

logger = logging.getLogger("ray.serve")

Sent = DeploymentResponse[Any] | DeploymentResponseGenerator[Any]
"""What a handle returns: Serve types it as either, and `call_stage` awaits the unary one."""

_BACKOFF_S = (0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True)
class CallBounds:
    """Bounds of one call.

    Attributes:
        timeout_s: Wall clock for all tries together.
        max_attempts: Tries that may end with a dead replica.
    """

    timeout_s: float
    max_attempts: int


async def call_stage(stage: str, start: Callable[[], Sent], bounds: CallBounds) -> Any:
    """Return the result of `start()`, which sends one request (or a chain of requests) and must be repeatable.

    Args:
        stage: Name used in errors and logs.
        start: Sends the request; called again for every try.
        bounds: Deadline and number of tries.

    Raises:
        StageTimeoutError: The deadline passed; the request is cancelled.
        ReplicaLostError: Each of `bounds.max_attempts` tries ended with a dead replica.
        LipwrightError: Whatever the stage raised.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + bounds.timeout_s
    lost = refused = 0
    while True:
        response = start()
        assert isinstance(response, Awaitable)
        try:
            with timed_call(stage):
                return await asyncio.wait_for(response, max(0.0, deadline - loop.time()))
        except asyncio.CancelledError:
            response.cancel()  # type: ignore[no-untyped-call]
            raise
        except TimeoutError as error:
            if isinstance(error, LipwrightError):
                raise _unwrapped(error) from None
            response.cancel()  # type: ignore[no-untyped-call]
            message = f"{stage}: expected an answer within {bounds.timeout_s:.0f} s, found none"
            raise StageTimeoutError(message) from None
        except BackPressureError:
            refused += 1
        except (RayActorError, DeploymentUnavailableError, RayServeException) as error:
            if isinstance(error, RayServeException) and not _upstream_died(error):
                raise
            lost += 1
            logger.warning("%s: replica lost (try %d of %d): %s", stage, lost, bounds.max_attempts, error)
            if lost >= bounds.max_attempts:
                raise ReplicaLostError(f"{stage}: the replica died in each of {lost} tries") from error
        except RayTaskError as error:
            raise _unwrapped(error) from None
        await asyncio.sleep(_BACKOFF_S[min(lost + refused, len(_BACKOFF_S)) - 1])
        if loop.time() >= deadline:
            raise StageTimeoutError(f"{stage}: expected room within {bounds.timeout_s:.0f} s, found a full stage")


def _upstream_died(error: RayServeException) -> bool:
    """True for the form in which the death of an earlier stage of a chain arrives."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RayActorError | DeploymentUnavailableError):
            return True
        cause = cause.__cause__
    return False


def _unwrapped(error: BaseException) -> BaseException:
    """Return the error that the stage raised, without Ray's wrapper."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error
