"""The Python client of a Lipwright service: `from lipwright_client import Lipwright`. Does not need Ray."""

from lipwright_client import errors
from lipwright_client.async_client import AsyncLipwright
from lipwright_client.async_live import AsyncLiveSession
from lipwright_client.client import Lipwright, LiveSession
from lipwright_client.errors import *  # noqa: F403 - all names of `errors.__all__`
from lipwright_client.live_protocol import LiveEvent
from lipwright_client.records import (
    Avatar,
    AvatarInfo,
    Background,
    Clip,
    ClonedVoice,
    Engine,
    Failure,
    Job,
    JobInputs,
    JobSummary,
    MissingWeights,
    People,
    Person,
    QueueStatus,
    ServiceStatus,
    SpeakerTurn,
    TimeRange,
    Turn,
    Turns,
    Voices,
)
from lipwright_client.retry import RetryPolicy
from lipwright_client.settings import VERSION as __version__

__all__ = [
    "AsyncLipwright",
    "AsyncLiveSession",
    "Avatar",
    "Background",
    "Clip",
    "ClonedVoice",
    "AvatarInfo",
    "Engine",
    "Failure",
    "Job",
    "JobInputs",
    "JobSummary",
    "Lipwright",
    "LiveEvent",
    "LiveSession",
    "MissingWeights",
    "People",
    "Person",
    "QueueStatus",
    "RetryPolicy",
    "ServiceStatus",
    "SpeakerTurn",
    "TimeRange",
    "Turn",
    "Turns",
    "Voices",
    "__version__",
]
__all__ += errors.__all__
