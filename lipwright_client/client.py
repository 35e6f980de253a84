"""The synchronous client: `async_client` over blocking I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import httpx

from lipwright_client.async_client import AsyncAvatars, AsyncEngines, AsyncJobs, Service
from lipwright_client.async_live import DEFAULT_RATE, RECONNECT_S
from lipwright_client.blocking import Blocking, blocking, iterate
from lipwright_client.files import Source
from lipwright_client.live import LiveSession
from lipwright_client.records import Job
from lipwright_client.retry import DEFAULT_RETRY, RetryPolicy
from lipwright_client.settings import Settings
from lipwright_client.transport import BlockingIO, Transport


class Jobs(Blocking[AsyncJobs]):
    """The jobs of the service; `AsyncJobs` describes the methods."""

    create = blocking(AsyncJobs.create)
    get = blocking(AsyncJobs.get)
    list = blocking(AsyncJobs.list)
    subtitles = blocking(AsyncJobs.subtitles)
    turns = blocking(AsyncJobs.turns)
    turn_audio = blocking(AsyncJobs.turn_audio)
    edit_turn = blocking(AsyncJobs.edit_turn)
    add_turn = blocking(AsyncJobs.add_turn)
    remove_turn = blocking(AsyncJobs.remove_turn)
    split_turn = blocking(AsyncJobs.split_turn)
    approve = blocking(AsyncJobs.approve)
    cancel = blocking(AsyncJobs.cancel)
    delete = blocking(AsyncJobs.delete)
    wait = blocking(AsyncJobs.wait)
    download = blocking(AsyncJobs.download)

    def events(self, job_id: str) -> Iterator[Job]:
        """Yield the job at every change until it ends. Reconnects if the connection breaks."""
        return iterate(self._async.events(job_id))

    def preview(self, job_id: str) -> Iterator[bytes]:
        """Yield the video while it is rendered: chunks of a fragmented MP4 that ends with the job."""
        return iterate(self._async.preview(job_id))


class Avatars(Blocking[AsyncAvatars]):
    """The avatars of the service; `AsyncAvatars` describes the methods."""

    create = blocking(AsyncAvatars.create)
    get = blocking(AsyncAvatars.get)
    wait = blocking(AsyncAvatars.wait)
    people = blocking(AsyncAvatars.people)
    list = blocking(AsyncAvatars.list)
    update = blocking(AsyncAvatars.update)
    delete = blocking(AsyncAvatars.delete)


class Engines(Blocking[AsyncEngines]):
    """The engines of the service."""

    list = blocking(AsyncEngines.list)
    steps = blocking(AsyncEngines.steps)


class Lipwright(Blocking[Service]):
    """A client of a Lipwright service. `AsyncLipwright` describes the arguments, and `Service` the methods."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retry: RetryPolicy = DEFAULT_RETRY,
        transport: httpx.BaseTransport | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        settings = Settings.of(base_url, api_key, timeout_s)
        io = BlockingIO(httpx.Client(transport=transport, **settings.httpx_options(headers)))
        super().__init__(Service(Transport(io, retry), settings, headers))
        self.base_url = settings.base_url
        self.jobs = Jobs(self._async.jobs)
        self.avatars = Avatars(self._async.avatars)
        self.engines = Engines(self._async.engines)

    speak = blocking(Service.speak)
    voices = blocking(Service.voices)
    create_subtitles = blocking(Service.create_subtitles)
    create_background = blocking(Service.create_background)
    delete_background = blocking(Service.delete_background)
    clone_voice = blocking(Service.clone_voice)
    delete_voice = blocking(Service.delete_voice)
    status = blocking(Service.status)
    close = blocking(Service.close)

    def live(
        self,
        avatar_id: str | None = None,
        sample_rate: int = DEFAULT_RATE,
        shows_at_once: bool = True,
        video: Source | None = None,
        expressiveness: float | None = None,
        motion: float | None = None,
        receives_video: bool = True,
        session_id: str | None = None,
        background: str | None = None,
        matte: str | None = None,
        background_file: Source | None = None,
        background_id: str | None = None,
        background_loop: str | None = None,
        reconnect_s: float = RECONNECT_S,
    ) -> LiveSession:
        """Return a live session: enter it with `with`, and iterate over its events. Arguments as for `Service.live`."""
        session = self._async.live(
            avatar_id,
            sample_rate,
            shows_at_once,
            video,
            expressiveness,
            motion,
            receives_video,
            session_id,
            background,
            matte,
            background_file,
            background_id,
            background_loop,
            reconnect_s,
        )
        return LiveSession(session)

    def __enter__(self) -> Lipwright:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
