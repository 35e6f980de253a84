"""The one settings model: what the graph is built with (`args:` in serve_config.yaml)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from errors import ConfigError

_ROOT = Path(__file__).resolve().parent
STATE_VARIABLE: Final = "LIPWRIGHT_STATE"
"""Environment variable that gives `PipelineConfig.state` where the Serve config does not name it."""
FILES_VARIABLE: Final = "LIPWRIGHT_FILES"
"""The same for `PipelineConfig.files`."""
_STATE_URL: Final = "^postgres(ql)?://"
_FILES_URL: Final = "^s3://"
_PROBED_BYTES_PER_SECOND = 32 * 1024**2
"""Packets of an ordinary file are read ten times as fast."""
_MAX_COPIED_BYTES = 5 * 1024**3
"""What S3 copies in one request (CopyObject)."""


def _beside_this_file(path: Path) -> Path:
    """An absolute path: replicas have working folders of their own, on several machines."""
    return _ROOT / path


def is_state_url(text: str) -> bool:
    """Whether `PipelineConfig.state` can have this value."""
    return re.match(_STATE_URL, text) is not None


def _of_environment(variable: str, pattern: str, expected: str) -> Callable[[], str | None]:
    """What gives a setting where the Serve config has none: from the environment of the process that builds the graph.

    It raises ConfigError where the variable does not fit the pattern.
    """

    def url() -> str | None:
        url = os.environ.get(variable, "").strip()
        if url and re.match(pattern, url) is None:
            scheme = url.partition("://")[0] if "://" in url else "no URL"  # the rest may hold a password
            raise ConfigError(f"{variable}: expected {expected}, found {scheme}.")
        return url or None

    return url


def _beside_this_file_if_any(path: Path | None) -> Path | None:
    return None if path is None else _beside_this_file(path)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MediaLimits(_Frozen):
    """Bounds of what the one probe lets in (facts: headers lie, so they are checked again while decoding)."""

    max_pixels: int = Field(3840 * 2160, gt=0, description="Pixels of one frame.")
    max_video_seconds: float = Field(3600.0, gt=0, description="Duration of the source video.")
    max_audio_seconds: float = Field(3 * 3600.0, gt=0, description="Duration of the speech.")
    max_upload_bytes: int = Field(2 * 1024**3, gt=0, description="Bytes of one uploaded file.")
    max_gap_seconds: float = Field(
        300.0,
        ge=0,
        description="Time without sound, or with a picture that stands still, beyond as much as there is really.",
    )
    min_upload_bytes_per_s: int = Field(
        16 * 1024, gt=0, description="Slowest body taken: from its start on, and over any time beyond the next setting."
    )
    max_upload_pause_s: float = Field(20.0, gt=0, description="Longest pause of a body that is fast enough otherwise.")
    max_streams: int = Field(16, gt=0, description="Streams in one container.")
    open_timeout_s: float = Field(
        10.0,
        gt=0,
        description="Opening and probing the files of one request, beside what their bytes take to read: in wall clock,"
        " and decoder.cpu_share of it in processor time.",
    )

    def probe_seconds(self, num_bytes: int) -> float:
        """Bound of opening and probing files that have so many bytes together."""
        return self.open_timeout_s + num_bytes / _PROBED_BYTES_PER_SECOND


class DecoderConfig(_Frozen):
    """Bounds of one decoder process: files that callers sent are decoded in processes of their own."""

    max_memory_bytes: int = Field(3 * 1024**3, gt=0, description="Address space of one decoder process.")
    max_file_bytes: int = Field(8 * 1024**3, gt=0, description="Length of any file that a decoder process writes.")
    max_shared_memory_bytes: int = Field(
        4 * 1024**3,
        gt=0,
        description="Memory of all decoder processes of a machine together, half of the machine's at most;"
        " the largest one goes.",
    )
    is_confined: bool = Field(
        True, description="Whether decoders run without privileges, other files and calls, where the kernel has that."
    )
    cpu_share: float = Field(
        0.5, gt=0, description="Processor time of one request to a decoder, as a share of its bound in wall clock."
    )
    batch_bytes: int = Field(8 * 1024**2, gt=0, description="Decoded frames handed over at a time; at least one.")
    idle_s: float = Field(60.0, gt=0, description="A decoder that nobody asked for so long ends; another takes over.")


class NetworkConfig(_Frozen):
    """What this service may fetch and call: URL inputs and webhooks."""

    url_schemes: tuple[str, ...] = Field(("https", "http"), description="Schemes of URL inputs and webhooks.")
    allowed_networks: tuple[str, ...] = Field(
        (), description="Private networks (CIDR) that may be reached all the same, such as an object store's."
    )
    connect_timeout_s: float = Field(10.0, gt=0, description="Bound of one connection, name look-up included.")
    stall_timeout_s: float = Field(20.0, gt=0, description="Bound of a wait for the next bytes.")
    min_bytes_per_s: int = Field(
        64 * 1024, gt=0, description="Slowest answer taken, on average; bounds a download by its size."
    )
    max_redirects: int = Field(5, ge=0, description="Redirects followed; each target is checked anew.")
    max_callback_attempts: int = Field(8, ge=1, description="Tries of one webhook, over about 30 hours.")


def _networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    for network in networks:
        ip_network(network, strict=False)
    return networks


_Origin = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/\s?#@*A-Z]+)$")]


class AccessConfig(_Frozen):
    """Who may use the API."""

    allow_without_keys: bool = Field(
        False, description="Serve other machines though no API key exists. Loopback clients need none until one exists."
    )
    allowed_origins: tuple[_Origin, ...] = Field(
        (),
        description="Origins of web pages elsewhere whose scripts may call the API (CORS), as `https://app.example`; "
        "`*` is every page, with an API key. They send a key; cookies are never taken from them.",
    )
    trusted_proxies: Annotated[tuple[str, ...], AfterValidator(_networks)] = Field(
        (),
        description="Networks (CIDR) of reverse proxies whose X-Forwarded-Proto, -Host and -Prefix make links "
        "absolute. It lets nobody in.",
    )


class HeygemConfig(_Frozen):
    """The door for programs that were written for HeyGem or Duix: `/easy/*` beside the API."""

    enabled: bool = Field(False, description="Whether the door is open.")
    root: Annotated[Path | None, AfterValidator(_beside_this_file_if_any)] = Field(
        None,
        description="The folder that HeyGem's container has at `container_root`: inputs that are no URLs lie in it, "
        "bare names in its `temp`, and results are copied to there. None takes URLs only and copies nothing. Whoever "
        "may use the service may name any file in it.",
    )
    container_root: str = Field("/code/data", pattern="^/", description="How clients' absolute paths call `root`.")
    strict: bool = Field(
        False,
        description="HeyGem's own habits: 10001 while anything is unfinished, in place of a queue; a final answer is "
        "given once, and its code is unknown afterwards.",
    )
    chaofen_engine: str | None = Field(
        None, max_length=64, description="Engine of jobs with `chaofen` 1, one that sharpens; None takes the default."
    )


class SpeechConfig(_Frozen):
    """What speaks a text that comes in place of sound: an endpoint of yours, or the voice of the extra `[tts]`."""

    url: str | None = Field(
        None,
        pattern="^https?://",
        description="Base URL of a service with OpenAI's `/audio/speech`, such as http://127.0.0.1:8880/v1. None takes "
        "the voice of the extra `[tts]` (English) where it is installed. Private addresses are allowed: it is yours.",
    )
    packaged: bool = Field(True, description="Whether the voice of the extra `[tts]` is used, where there is no `url`.")
    api_key_env: str | None = Field(None, description="Environment variable that holds the key of that service.")
    model: str = Field("tts-1", max_length=128, description="The model that it is asked for.")
    voice: str = Field("alloy", max_length=128, description="The voice of a job that names none.")
    response_format: Literal["wav", "mp3", "flac", "opus", "aac"] = Field("wav", description="What it is asked for.")
    timeout_s: float = Field(120.0, gt=0, le=200, description="Bound of making one speech.")
    max_chars: int = Field(4096, gt=0, description="Longest text; 4096 is what OpenAI takes at a time.")
    max_bytes: int = Field(128 * 1024**2, gt=0, description="Largest sound taken.")
    max_at_a_time: int = Field(2, ge=1, description="Speeches made at a time by one Ingress replica; then 503 `busy`.")


class LabelsConfig(_Frozen):
    """Marks that say of every result that it is synthetic; docs/labels.md says who asks for which."""

    metadata: bool = Field(True, description="The tag `AIGC` (GB 45438-2025) and a comment, in results and previews.")
    c2pa: bool = Field(True, description="A signed C2PA manifest in every result; a running preview cannot have one.")
    producer: str = Field(
        "Lipwright", min_length=1, max_length=128, description="Name or code of who makes the videos: you."
    )
    propagator: str = Field("", max_length=128, description="Name or code of who passes them on, if you do that too.")
    certificate: Annotated[Path | None, AfterValidator(_beside_this_file_if_any)] = Field(
        None,
        description="PEM file of the certificates that sign manifests, the signer's first. None signs with a test "
        "certificate made at first use in the data folder, which nobody trusts and which says so.",
    )
    private_key: Annotated[Path | None, AfterValidator(_beside_this_file_if_any)] = Field(
        None, description="PEM file of the signer's key, without a password; readable for the service alone."
    )
    visible: bool = Field(False, description="A visible mark in every result; a job may ask for one all the same.")
    visible_language: Literal["en", "zh"] = Field("en", description="Its text: `AI generated` or `AI 生成`.")
    visible_seconds: float | None = Field(
        None, ge=2, description="How long it stands, from the opening frame on; None for the whole video."
    )
    visible_height: float = Field(
        0.05, ge=0.05, le=0.2, description="Height of its text, as a share of the frame's shorter side."
    )

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("expected both labels.certificate and labels.private_key, or neither, found one")
        return self


class GradioConfig(_Frozen):
    """A page by Gradio at `/gradio`, beside the service's own. Needs the extra `gradio`, and one replica of Ingress."""

    enabled: bool = Field(False, description="Whether the page is shown.")
    service_url: str = Field(
        "http://127.0.0.1:8000",
        description="Where the page's process reaches this very service; `lipwright serve` sets its own address.",
    )


class RenderConfig(_Frozen):
    """How a job is cut up and rendered."""

    block_seconds: float = Field(30.0, gt=1, description="Speech analysed and turned into landmarks at a time.")
    first_segment_seconds: float = Field(1.0, gt=0, description="First segment, short for an early preview.")
    segment_seconds: float = Field(4.0, gt=0, description="Length of every later segment.")
    chunk_frames: int = Field(32, ge=1, le=64, description="Frames in one FaceSynthesis call.")
    max_chunk_bytes: int = Field(
        32 * 1024**2, gt=0, description="Decoded frames of one chunk; large frames make shorter chunks."
    )
    chunk_window: int = Field(2, ge=1, le=4, description="Un-awaited FaceSynthesis calls of one segment.")
    segment_window: int = Field(
        2, ge=1, description="Segments of one job in flight. With one Studio, 1: its reader then never seeks."
    )
    segments_per_studio: float = Field(
        0.0,
        ge=0,
        description="Segments of all jobs in flight for each Studio that runs, up to which a job may have more than "
        "its `segment_window`. More than Studio's `target_ongoing_requests`, so that Serve adds Studios; 0 for none.",
    )
    track_chunk_frames: int = Field(48, ge=1, description="Source frames tracked in one LandmarkGenerator call.")
    reader_cache_bytes: int = Field(128 * 1024**2, gt=0, description="Decoded frames a reader may hold (reverse play).")
    crf: int = Field(20, ge=0, le=51, description="libx264 constant rate factor.")
    encoder_threads: int = Field(2, ge=1, le=16, description="libx264 threads of one segment; part of its bytes.")
    preset: str = Field("superfast", description="libx264 preset.")
    still_fps: int = Field(25, ge=1, le=60, description="Frame rate of a result made from a still picture.")
    still_idle_motion: bool = Field(
        True, description="Whether the head of a still picture sways, blinks, and nods with what it says."
    )


class LiveConfig(_Frozen):
    """Live sessions: sound in, a talking face out, over one WebSocket."""

    max_sessions: int = Field(1, ge=0, description="Sessions of one Ingress replica; one more is refused at the door.")
    engine: str = Field("warp", description="Engine of live sessions; one that can speak what is still being said.")
    moment_seconds: float = Field(0.08, ge=0.04, le=0.5, description="Pictures made and sent at a time.")
    lead_seconds: float = Field(
        0.16, ge=0.04, le=2, description="Sound that is there before somebody begins to speak, or all that was said."
    )
    crf: int = Field(20, ge=0, le=51, description="libx264 constant rate factor; above it, groups begin to show.")
    preset: str = Field("veryfast", description="libx264 preset.")
    max_buffered_seconds: float = Field(60.0, gt=0, description="Sound of one session that waits to be spoken.")
    max_message_bytes: int = Field(2 * 1024**2, gt=0, description="One message of a client.")
    max_messages_per_s: float = Field(200.0, gt=0, description="Messages of a client, on average over 2 s.")
    max_ahead_seconds: float = Field(3.0, gt=0.5, description="Pictures sent beyond what the client says it has shown.")
    max_speed: float = Field(
        1.0, ge=1, description="Seconds of stream in a second. More is for streams that are kept, not watched."
    )
    max_stall_s: float = Field(10.0, gt=0, description="How long a client may show nothing before it is closed.")
    idle_timeout_s: float = Field(300.0, gt=0, description="How long nobody may speak or ask to be kept.")
    max_session_s: float = Field(4 * 3600.0, gt=0, description="Length of one session.")
    stand_in_after_s: float = Field(
        0.5, gt=0, description="Wait for a moment before the presenter is shown idle, and what it says is held back."
    )
    max_kept_bytes: int = Field(8 * 1024**2, gt=0, description="Idle pictures of one session, kept for that.")
    moment_timeout_s: float = Field(15.0, gt=0, description="Bound of making one moment.")

    @property
    def has_sessions(self) -> bool:
        """Whether there are any."""
        return self.max_sessions > 0


class JobConfig(_Frozen):
    """How many jobs, for how long, with how many tries."""

    max_running_jobs: int = Field(4, ge=1, description="Jobs rendered at the same time.")
    running_jobs_per_studio: int = Field(
        0, ge=0, description="The same for each Studio that runs, where that is more: a cluster grows."
    )
    max_queued_jobs: int = Field(64, ge=1, description="Accepted jobs that wait; one more is refused with 429.")
    max_queued_bytes: int = Field(
        16 * 1024**3, gt=0, description="Uploads of waiting jobs, those still on their way included."
    )
    max_queue_share: float = Field(
        0.5, gt=0, le=1, description="Share of the queue, in jobs and in bytes, that one API key may hold."
    )
    max_followers: int = Field(
        256,
        ge=1,
        description="Event streams of one Ingress replica; one more is refused with 503. Shared like the queue.",
    )
    max_attempts: int = Field(6, ge=1, description="Tries of one call whose replica died.")
    max_takeups: int = Field(8, ge=1, description="Starts of one job without any progress between them.")
    min_call_timeout_s: float = Field(60.0, gt=0, description="Smallest bound of one call between deployments.")
    timeout_s_per_frame: float = Field(1.0, gt=0, description="Added to a call's bound for each of its frames.")
    timeout_s_per_sound_second: float = Field(
        1.0, gt=0, description="Added to the bound of a call that decodes sound, for each second of it."
    )
    max_stage_wait_s: float = Field(3600.0, gt=0, description="Longest wait of one call for room in a busy stage.")
    max_cached_avatars: int = Field(64, ge=1, description="Analysed presenters kept that nobody asked to keep.")
    keep_finished_s: float = Field(7 * 86400.0, gt=0, description="Age at which finished jobs go, with their files.")
    min_free_bytes: int = Field(1024**3, ge=0, description="Disk space that no job may use up.")

    def call_timeout_s(self, num_frames: int) -> float:
        """Bound of one call between deployments, and of the work that it does there, for so many frames."""
        return self.min_call_timeout_s + self.timeout_s_per_frame * num_frames

    def sound_timeout_s(self, seconds: float) -> float:
        """The same for a call that decodes so many seconds of sound."""
        return self.min_call_timeout_s + self.timeout_s_per_sound_second * seconds


class BucketConfig(_Frozen):
    """How files are kept in a bucket, where `files` names one."""

    cache_dir: Annotated[Path | None, AfterValidator(_beside_this_file_if_any)] = Field(
        None,
        description="Folder of each machine in which its processes keep what they have fetched; not shared with other "
        "machines. None is `cache` in the data folder. A machine that has its disk elsewhere says so in the "
        "environment of its processes: LIPWRIGHT_CACHE_DIR.",
    )
    max_cache_bytes: int = Field(
        50 * 1024**3, gt=0, description="Fetched files of one machine that nobody uses; the least recently used go."
    )
    max_cache_idle_s: float = Field(
        3600.0, gt=0, description="How long one stays that nobody uses: so long a deleted file is still on a machine."
    )
    redirects: bool = Field(
        False,
        description="Whether videos and sources are downloaded from the bucket itself, by a redirect (307) to a URL "
        "that holds for five minutes; clients have to reach it. Else they come through the API.",
    )


class EngineMemoryConfig(_Frozen):
    """How long the networks of engines stay in the memory of a replica."""

    max_loaded: int = Field(3, ge=1, description="Engines that one replica holds; one more drops the idlest.")
    max_idle_s: float = Field(900.0, gt=0, description="How long one stays that nobody uses; the default one always.")
    tensorrt: bool = Field(False, description="Run ONNX networks of engines with TensorRT on GPUs.")
    load_timeout_s: float = Field(120.0, gt=0, description="Bound of loading one.")


class PipelineConfig(_Frozen):
    """Everything that `graph.build` needs. Serve's own options stand in serve_config.yaml, not here."""

    data_dir: Annotated[Path, AfterValidator(_beside_this_file)] = Field(
        Path("data"),
        validate_default=True,
        description="Job table, uploads, avatars, results, as far as they are not elsewhere. Relative to the folder of "
        "this file and serve_config.yaml.",
    )
    state: str | None = Field(
        default_factory=_of_environment(STATE_VARIABLE, _STATE_URL, "postgresql://user@host/name"),
        pattern=_STATE_URL,
        repr=False,  # it may hold a password
        description="PostgreSQL of the job table, API keys and webhook secrets, `postgresql://user@host/name`: for "
        "several machines. Without it, LIPWRIGHT_STATE of the environment; where that is not set either, or with "
        "None, they are kept in the data folder. Needs the extra `postgres`. A password may come from PGPASSWORD or a "
        ".pgpass file instead.",
    )
    newest_leads: bool = Field(
        False,
        description="Of several services with the same `state`, whether this one asks an older one that leads to hand "
        "over as soon as it is ready: where callers are sent to the newest (KubeRay). Otherwise it waits for its end.",
    )
    files: str | None = Field(
        default_factory=_of_environment(FILES_VARIABLE, _FILES_URL, "s3://bucket/prefix"),
        pattern=_FILES_URL,
        description="Bucket of uploads, jobs, avatars and results, `s3://bucket/prefix?endpoint=...&region=...`: for "
        "machines that share no disk. Without it, LIPWRIGHT_FILES of the environment; where that is not set either, or "
        "with None, they are kept in the data folder. Needs the extra `s3`; credentials come from the environment "
        "(AWS_ACCESS_KEY_ID and so on), as may the endpoint (AWS_ENDPOINT_URL).",
    )
    bucket: BucketConfig = BucketConfig()
    engine: str = Field("warp", description="Engine of a job that names none.")
    engines: dict[str, dict[str, Any]] = Field(
        {}, description="Options of engines, by name; each engine checks its own."
    )
    memory: EngineMemoryConfig = EngineMemoryConfig()
    limits: MediaLimits = MediaLimits()
    decoder: DecoderConfig = DecoderConfig()
    network: NetworkConfig = NetworkConfig()
    access: AccessConfig = AccessConfig()
    heygem: HeygemConfig = HeygemConfig()
    gradio: GradioConfig = GradioConfig()
    labels: LabelsConfig = LabelsConfig()
    speech: SpeechConfig = SpeechConfig()
    render: RenderConfig = RenderConfig()
    jobs: JobConfig = JobConfig()
    live: LiveConfig = LiveConfig()

    @model_validator(mode="after")
    def _uploads_that_a_bucket_takes(self) -> Self:
        if self.files is not None and self.limits.max_upload_bytes > _MAX_COPIED_BYTES:
            raise ValueError(
                f"limits.max_upload_bytes: expected at most {_MAX_COPIED_BYTES} with files in a bucket, "
                f"found {self.limits.max_upload_bytes}"
            )
        return self
