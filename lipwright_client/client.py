"""The synchronous client: `async_client`, `async_jobs` and `async_live` over blocking I/O, without an event loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import httpx

from lipwright_client.async_client import AsyncAvatars, AsyncEngines, Service
from lipwright_client.async_jobs import AsyncJobs
from lipwright_client.async_live import AsyncLiveSession
from lipwright_client.blocking import Blocking, blocking, converted, finish, iterating
from lipwright_client.retry import DEFAULT_RETRY, RetryPolicy
from lipwright_client.settings import Settings
from lipwright_client.transport import BlockingIO, Transport


class LiveSession(Blocking[AsyncLiveSession]):
    """A live session: a context manager and an iterator over its events. `AsyncLiveSession` describes the methods.

    One thread may iterate while another one sends.
    """

    speak = blocking(AsyncLiveSession.speak)
    speak_text = blocking(AsyncLiveSession.speak_text)
    speak_end = blocking(AsyncLiveSession.speak_end)
    interrupt = blocking(AsyncLiveSession.interrupt)
    action = blocking(AsyncLiveSession.action)
    update_avatar = blocking(AsyncLiveSession.update_avatar)
    keep_alive = blocking(AsyncLiveSession.keep_alive)
    start_output = blocking(AsyncLiveSession.start_output)
    stop_output = blocking(AsyncLiveSession.stop_output)
    list_outputs = blocking(AsyncLiveSession.list_outputs)
    report_playback = blocking(AsyncLiveSession.report_playback)
    say = iterating(AsyncLiveSession.say)
    __iter__ = iterating(AsyncLiveSession.__aiter__)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the sent audio, in Hz."""
        return self._async.sample_rate

    @property
    def connected(self) -> Mapping[str, Any]:
        """The session's properties: `width`, `height`, `fps` and limits."""
        return self._async.connected

    def __enter__(self) -> Self:
        finish(self._async.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        finish(self._async.__aexit__(*error))


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
    revise = blocking(AsyncJobs.revise)
    cancel = blocking(AsyncJobs.cancel)
    delete = blocking(AsyncJobs.delete)
    wait = blocking(AsyncJobs.wait)
    download = blocking(AsyncJobs.download)
    events = iterating(AsyncJobs.events)
    preview = iterating(AsyncJobs.preview)


class Avatars(Blocking[AsyncAvatars]):
    """The avatars of the service; `AsyncAvatars` describes the methods."""

    create = blocking(AsyncAvatars.create)
    get = blocking(AsyncAvatars.get)
    wait = blocking(AsyncAvatars.wait)
    people = blocking(AsyncAvatars.people)
    list = blocking(AsyncAvatars.list)
    update = blocking(AsyncAvatars.update)
    add_clip = blocking(AsyncAvatars.add_clip)
    list_clips = blocking(AsyncAvatars.list_clips)
    delete_clip = blocking(AsyncAvatars.delete_clip)
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
        settings = Settings.of(base_url, api_key, timeout_s, headers)
        io = BlockingIO(httpx.Client(transport=transport, **settings.httpx_options()))
        super().__init__(Service(Transport(io, retry), settings))
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
    live = converted(Service.live, LiveSession)

    def __enter__(self) -> Lipwright:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
