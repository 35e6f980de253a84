"""The settings model: the `args:` of serve_config.yaml, with which the graph is built.

Names end in their unit: `_s` and `_seconds` for durations, `_bytes` for sizes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from lipwright.errors import ConfigError, OptionError

_ROOT = Path(__file__).resolve().parents[1]
STATE_VARIABLE: Final = "LIPWRIGHT_STATE"
"""Environment variable with the value of `PipelineConfig.state` if the Serve config has none."""
FILES_VARIABLE: Final = "LIPWRIGHT_FILES"
"""Environment variable with the value of `PipelineConfig.files` if the Serve config has none."""
_STATE_URL: Final = "^postgres(ql)?://"
_FILES_URL: Final = "^s3://"
_PROBED_BYTES_PER_SECOND = 32 * 1024**2
"""Packets of an ordinary file are read ten times as fast."""
_TIMEOUT_S_PER_SOUND_SECOND = 1.0
_MAX_COPIED_BYTES = 5 * 1024**3
"""Limit of one S3 CopyObject request."""


def _below_root(path: Path) -> Path:
    """Returns an absolute path: replicas have their own working directories, on several machines."""
    return _ROOT / path


def is_state_url(text: str) -> bool:
    """Whether `text` is a valid value of `PipelineConfig.state`."""
    return re.match(_STATE_URL, text) is not None


def _from_environment(variable: str, pattern: str, expected: str) -> Callable[[], str | None]:
    """Returns a default factory that reads an environment variable of the process that builds the graph.

    The factory raises ConfigError if the variable does not match the pattern.
    """

    def url() -> str | None:
        url = os.environ.get(variable, "").strip()
        if url and re.match(pattern, url) is None:
            scheme = url.partition("://")[0] if "://" in url else "no URL"  # the rest may hold a password
            raise ConfigError(f"{variable}: expected {expected}, found {scheme}.")
        return url or None

    return url


def _below_root_if_any(path: Path | None) -> Path | None:
    return None if path is None else _below_root(path)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MediaLimits(_Frozen):
    """Bounds of input files. Headers can be wrong, so every bound is checked again while decoding."""

    max_pixels: int = Field(3840 * 2160, gt=0, description="Maximum pixels per frame.")
    max_video_seconds: float = Field(3600.0, gt=0, description="Maximum duration of the source video, in seconds.")
    max_video_frames: int = Field(
        90_000, gt=0, description="Maximum frames of the source video: an hour at 25 per second. Each one is analysed."
    )
    max_audio_seconds: float = Field(3 * 3600.0, gt=0, description="Maximum duration of the speech, in seconds.")
    max_upload_bytes: int = Field(2 * 1024**3, gt=0, description="Maximum size of one uploaded file, in bytes.")
    max_frozen_seconds: float = Field(
        300.0,
        ge=0,
        description="Maximum seconds without sound, or with a frozen picture, beyond the amount of real content.",
    )
    min_upload_bytes_per_s: int = Field(
        16 * 1024,
        gt=0,
        description="Minimum upload rate in bytes per second, measured from the start of the body and over any period"
        " longer than `max_upload_pause_s`.",
    )
    max_upload_pause_s: float = Field(20.0, gt=0, description="Longest pause within an upload.")
    min_download_bytes_per_s: int = Field(
        32 * 1024,
        gt=0,
        description="Minimum rate at which a client must read a response, in bytes per second; its connection is"
        " closed otherwise.",
    )
    max_download_pause_s: float = Field(
        60.0, gt=0, description="Longest pause of a client that reads fast enough otherwise, in seconds."
    )
    max_streams: int = Field(16, gt=0, description="Maximum streams in one container.")
    open_timeout_s: float = Field(
        10.0,
        gt=0,
        description="Timeout in seconds for opening and probing the files of one request, plus the time needed to read"
        " their bytes. CPU time is limited to this value times `decoder.cpu_share`.",
    )

    def probe_seconds(self, num_bytes: int) -> float:
        """Timeout in seconds for opening and probing files with `num_bytes` bytes in total."""
        return self.open_timeout_s + num_bytes / _PROBED_BYTES_PER_SECOND


class DecoderConfig(_Frozen):
    """Bounds of decoder processes: each uploaded file is decoded in its own process."""

    max_memory_bytes: int = Field(3 * 1024**3, gt=0, description="Address space of one decoder process, in bytes.")
    max_file_bytes: int = Field(8 * 1024**3, gt=0, description="Maximum size of any file that a decoder writes.")
    max_shared_memory_bytes: int = Field(
        4 * 1024**3,
        gt=0,
        description="Memory of all decoder processes of one machine together, in bytes; at most half of the machine's"
        " memory. The largest decoder is killed first.",
    )
    sandbox: bool = Field(
        True,
        description="Run decoders without privileges, without access to other files, and with a system call filter,"
        " as far as the kernel supports it.",
    )
    cpu_share: float = Field(0.5, gt=0, description="CPU time of a decoder request, as a share of its timeout.")
    batch_bytes: int = Field(16 * 1024**2, gt=0, description="Decoded bytes per batch; a batch has at least one frame.")
    idle_s: float = Field(60.0, gt=0, description="Seconds without a request after which a decoder process exits.")


class NetworkConfig(_Frozen):
    """Outgoing connections: URL inputs and webhooks."""

    url_schemes: tuple[str, ...] = Field(("https", "http"), description="Allowed schemes of URL inputs and webhooks.")
    allowed_networks: tuple[str, ...] = Field((), description="Private networks (CIDR) that may be reached.")
    connect_timeout_s: float = Field(10.0, gt=0, description="Connection timeout, including the name lookup.")
    stall_timeout_s: float = Field(20.0, gt=0, description="Longest wait for the next bytes, in seconds.")
    min_bytes_per_s: int = Field(64 * 1024, gt=0, description="Minimum average rate of a download; bounds its time.")


def _networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    for network in networks:
        ip_network(network, strict=False)
    return networks


PUSH_DESTINATION: Final = (
    r"(?P<scheme>rtmps?|srt|https?)://(?P<host>(?:\*\.)?[a-z0-9_.-]+|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>\d{1,5}|\*))?(?P<path>/[^\s?#%]*)?"
)
"""Pattern of an entry of `LiveConfig.push_destinations`."""

_Origin = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/\s?#@*A-Z]+)$")]


class AccessConfig(_Frozen):
    """Who may use the API."""

    allow_without_keys: bool = Field(
        False,
        description="Serve other machines although no API key exists. Loopback clients need no key until one exists.",
    )
    allowed_origins: tuple[_Origin, ...] = Field(
        (),
        description="Origins of other web pages whose scripts may call the API (CORS), such as `https://app.example`; "
        "`*` allows every page. Cross-origin requests need an API key; their cookies are ignored.",
    )
    trusted_proxies: Annotated[tuple[str, ...], AfterValidator(_networks)] = Field(
        (),
        description="Networks (CIDR) of reverse proxies whose X-Forwarded-Proto, -Host and -Prefix headers are used to "
        "build absolute links. Does not grant access.",
    )


class HeygemConfig(_Frozen):
    """Endpoints for programs written for HeyGem or Duix: `/easy/*` beside the API."""

    enabled: bool = Field(False, description="Whether the `/easy/*` endpoints are served.")
    root: Annotated[Path | None, AfterValidator(_below_root_if_any)] = Field(
        None,
        description="Directory that HeyGem's container mounts at `/code/data`. Input paths are resolved in it, "
        "bare names in its `temp`, and results are copied there. Without it only URLs are accepted and nothing is "
        "copied. Everyone who may use the service may name any file in it. Not used while there are several API keys.",
    )
    voice_root: Annotated[Path | None, AfterValidator(_below_root_if_any)] = Field(
        None,
        description="Directory that HeyGem's voice container mounts at `/code/data`, with the recordings of "
        "speakers. With it and `tts.cloning`, training a voice clones it. Not used while there are several API keys.",
    )
    strict: bool = Field(
        False,
        description="Mimic HeyGem: return 10001 while a job is unfinished instead of queueing, and report a success "
        "once, after which its code is unknown (failures are always reported once).",
    )
    super_resolution_engine: str | None = Field(
        None, max_length=64, description="Engine of jobs with `chaofen` 1, one that sharpens; default: the job default."
    )


class CloningConfig(_Frozen):
    """How the speech server takes a recording of the speaker. The defaults are those of vLLM-Omni."""

    path: str = Field("/audio/speech", pattern="^/", description="Endpoint for cloned voices, appended to `tts.url`.")
    body: Literal["json", "multipart"] = Field(
        "json", description="`json` sends the recording as a base64 data URL, `multipart` as a file."
    )
    audio_field: str = Field("ref_audio", min_length=1, max_length=64, description="Field of the recording.")
    transcript_field: str = Field(
        "ref_text", max_length=64, description="Field of the recording's transcript; empty if the server takes none."
    )
    voice: str | None = Field(None, max_length=128, description="Sent as `voice`, for servers that require it.")
    max_seconds: float = Field(30.0, gt=0, le=300, description="Longest recording, in seconds.")
    max_bytes: int = Field(10 * 1024**2, gt=0, description="Largest uploaded recording, in bytes.")
    max_voices: int = Field(100, ge=1, le=10_000, description="Cloned voices per API key.")


class TtsConfig(_Frozen):
    """Text to speech: an endpoint of yours, or the voices installed on this machine."""

    url: str | None = Field(
        None,
        pattern="^https?://",
        description="Base URL of a service with OpenAI's `/audio/speech`, such as http://127.0.0.1:8880/v1. Without it "
        "the voices of the extras `[tts]` (English) and `[tts-ja]` (Japanese) and espeak-ng are used if installed. "
        "Private addresses are allowed.",
    )
    use_builtin: bool = Field(
        True, description="Whether the voices of the extras and of espeak-ng are used when `url` is not set."
    )
    api_key_env: str | None = Field(None, description="Environment variable that holds the key of that service.")
    model: str = Field("tts-1", max_length=128, description="Model requested from the service.")
    voice: str = Field(
        "alloy",
        max_length=128,
        description="Voice of jobs that do not name one. Without `url`, only Japanese voices (`jf_alpha`) and names of "
        "espeak-ng's voices, such as `espeak:cmn`, have an effect.",
    )
    response_format: Literal["wav", "mp3", "flac", "opus", "aac"] = Field(
        "wav", description="Audio format requested from the service."
    )
    timeout_s: float = Field(120.0, gt=0, le=200, description="Timeout of one synthesis, in seconds.")
    max_chars: int = Field(4096, gt=0, description="Maximum characters per text; 4096 is OpenAI's limit.")
    max_total_chars: int = Field(
        100_000, gt=0, description="Maximum characters of all turns of a job; subtitles of a film have about 80,000."
    )
    max_bytes: int = Field(128 * 1024**2, gt=0, description="Maximum size of the returned audio, in bytes.")
    max_concurrent: int = Field(
        2,
        ge=1,
        description="Texts spoken at the same time per replica of SpeechSynthesis, for each of jobs, live sessions and "
        "HeyGem's `/v1/invoke`; others wait.",
    )
    max_wait_s: float = Field(120.0, gt=0, le=120, description="How long a text waits to be spoken before 429.")
    max_cache_bytes: int = Field(
        1024**3,
        ge=0,
        description="Spoken texts that are kept for later jobs, in bytes: the same text in the same voice is spoken "
        "once. The least recently used are removed first, and those unused for `jobs.retention_s`. 0 keeps none.",
    )
    cloning: CloningConfig | None = Field(
        None, description="Set it, to `{}` for the defaults, if the service at `url` clones voices from recordings."
    )

    @model_validator(mode="after")
    def _cloning_by_a_server(self) -> Self:
        if self.cloning is not None and self.url is None:
            raise ValueError("tts.cloning needs tts.url: the voices installed on this machine cannot be cloned")
        return self


class SubtitlesConfig(_Frozen):
    """Transcription and translation by servers with OpenAI's API. Off by default.

    Private addresses are allowed. The audio of uploads is sent to these servers.
    """

    transcription_url: str | None = Field(
        None, pattern="^https?://", description="Base URL of a server with `/audio/transcriptions`."
    )
    transcription_model: str = Field("whisper-1", max_length=128, description="Model requested for transcription.")
    transcription_key_env: str | None = Field(None, description="Environment variable that holds its API key.")
    translation_url: str | None = Field(
        None, pattern="^https?://", description="Base URL of a server with `/chat/completions`."
    )
    translation_model: str = Field("gpt-4o-mini", max_length=128, description="Model requested for translation.")
    translation_key_env: str | None = Field(None, description="Environment variable that holds its API key.")
    timeout_s: float = Field(600.0, gt=0, le=3600, description="Timeout of one request to these servers, in seconds.")

    def check(self, translates: bool) -> None:
        """Raise OptionError if the server that transcribes, or with `translates` the other one, is not configured."""
        where = "see docs/timelines.md."
        if self.transcription_url is None:
            raise OptionError(
                f"This service cannot transcribe. Ask the operator to set subtitles.transcription_url; {where}"
            )
        if translates and self.translation_url is None:
            raise OptionError(
                "translate_to: this service cannot translate. Ask the operator to set subtitles.translation_url; "
                + where
            )


class LabelsConfig(_Frozen):
    """Labels that mark every result as synthetic; docs/labels.md lists who requires which."""

    metadata: bool = Field(
        True, description="Write the `AIGC` tag (GB 45438-2025) and a comment into results and previews."
    )
    c2pa: bool = Field(True, description="Sign every result with a C2PA manifest; a running preview has none.")
    producer: str = Field("Lipwright", min_length=1, max_length=128, description="Name or code of the producer: you.")
    propagator: str = Field("", max_length=128, description="Name or code of the distributor, if that is you too.")
    certificate: Annotated[Path | None, AfterValidator(_below_root_if_any)] = Field(
        None,
        description="PEM file with the signing certificate chain, the signer's first. Without it, manifests are signed "
        "with an untrusted test certificate that is created in the data folder on first use.",
    )
    private_key: Annotated[Path | None, AfterValidator(_below_root_if_any)] = Field(
        None, description="PEM file with the signer's private key, without a password; readable by the service only."
    )
    timestamp_url: str | None = Field(
        None,
        pattern=r"^https?://",
        max_length=2048,
        description="URL of a time-stamping authority (RFC 3161), whose time stamp becomes part of every manifest.",
    )
    invisible: bool = Field(
        True, description="Put an invisible watermark, which links to the job, into every result and live session."
    )
    visible: bool = Field(False, description="Put a visible watermark on every result; a job can also request one.")
    visible_language: Literal["en", "zh"] = Field("en", description="Its text: `AI generated` or `AI 生成`.")
    visible_seconds: float | None = Field(
        None, ge=2, description="Seconds for which it is shown from the first frame on; default: the whole video."
    )
    visible_height: float = Field(
        0.05, ge=0.05, le=0.2, description="Height of its text, as a share of the frame's shorter side."
    )

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("expected both labels.certificate and labels.private_key, or neither, found one")
        return self


_X264Preset = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"
]


class RenderConfig(_Frozen):
    """How a job is split up and rendered."""

    block_seconds: float = Field(30.0, gt=1, description="Speech analysed and turned into landmarks at a time.")
    first_segment_seconds: float = Field(1.0, gt=0, description="Length of the first segment, for an early preview.")
    segment_seconds: float = Field(4.0, gt=0, description="Length of every later segment, in seconds.")
    chunk_frames: int = Field(64, ge=1, le=64, description="Maximum frames per FaceSynthesis call.")
    max_chunk_bytes: int = Field(64 * 1024**2, gt=0, description="Maximum decoded size of the frames of a chunk.")
    chunk_window: int = Field(2, ge=1, le=4, description="Concurrent FaceSynthesis calls per segment.")
    segment_window: int = Field(
        2, ge=1, description="Segments of one job in flight. With one Studio use 1: its reader then never seeks."
    )
    segments_per_studio: float = Field(
        0.0,
        ge=0,
        description="Segments of all jobs in flight per running Studio, up to which a job may exceed its "
        "`segment_window`. Set it above Studio's `target_ongoing_requests` so that Serve adds Studios; 0 disables it.",
    )
    reader_cache_bytes: int = Field(
        128 * 1024**2,
        gt=0,
        description="Decoded frames that a reader keeps, at most 1/32 of `decoder.max_shared_memory_bytes`. A source"
        " that fits is decoded once, however often it loops.",
    )
    crf: int = Field(
        20,
        ge=0,
        le=51,
        description="libx264 constant rate factor of jobs with `quality: balanced`; others are relative to it.",
    )
    encoder: Literal["x264", "nvenc"] = Field(
        "x264",
        description="H.264 encoder of jobs: libx264, or NVENC on the NVIDIA GPU of each machine with a Studio.",
    )
    encoder_threads: int = Field(2, ge=1, le=16, description="libx264 threads per segment; encoded bytes depend on it.")
    preset: _X264Preset = Field("superfast", description="libx264 preset of jobs with `quality: balanced`.")


class LiveConfig(_Frozen):
    """Live sessions: audio in, talking-head video out, over one WebSocket."""

    max_sessions: int | None = Field(
        None, ge=0, description="Sessions per LiveSession replica; null: as many as max_load allows. 0 disables them."
    )
    max_load: float = Field(
        0.85,
        gt=0,
        le=1,
        description="Share of the time of a LiveSession replica that its sessions may take, by their measured cost.",
    )
    max_share_per_key: float = Field(
        0.5, gt=0, le=1, description="Share of the sessions and the load of a replica that one API key may have."
    )
    engine: str = Field("warp", description="Engine of live sessions; it must support streaming speech.")
    chunk_seconds: float = Field(0.08, ge=0.04, le=0.5, description="Length of one chunk of video, in seconds.")
    max_chunk_seconds: float = Field(
        0.16,
        ge=0.04,
        le=0.5,
        description="Length of a chunk without speech, or whose speech has arrived already; at least chunk_seconds.",
    )
    min_buffer_seconds: float = Field(
        0.16,
        ge=0.04,
        le=2,
        description="Seconds of audio that must be buffered before speech starts, unless the utterance is complete.",
    )
    crf: int = Field(20, ge=0, le=51, description="libx264 constant rate factor; above 20, GOP boundaries show.")
    preset: _X264Preset = Field("superfast", description="libx264 preset.")
    max_buffered_seconds: float = Field(60.0, gt=0, description="Audio per session that may wait to be spoken.")
    max_message_bytes: int = Field(2 * 1024**2, gt=0, description="Maximum size of one client message, in bytes.")
    max_messages_per_s: float = Field(200.0, gt=0, description="Client messages per second, averaged over 2 s.")
    max_ahead_seconds: float = Field(3.0, gt=0.5, description="Video sent beyond what the client reported as played.")
    max_speed: float = Field(
        1.0, ge=1, description="Stream seconds produced per second; above 1 for streams that are recorded, not watched."
    )
    max_stall_s: float = Field(10.0, gt=0, description="Longest time in which a client reports no playback.")
    idle_timeout_s: float = Field(300.0, gt=0, description="Time without speech or keep-alive before a session ends.")
    max_session_s: float = Field(4 * 3600.0, gt=0, description="Maximum length of one session, in seconds.")
    fallback_after_s: float = Field(
        0.5,
        gt=0,
        description="Seconds to wait for a chunk before the avatar is shown idle and its speech is held back.",
    )
    max_kept_bytes: int = Field(8 * 1024**2, gt=0, description="Idle video kept per session for that fallback.")
    max_background_seconds: float = Field(
        60.0, gt=0, description="Longest video that a session may have as its background, in seconds."
    )
    push_destinations: tuple[Annotated[str, StringConstraints(pattern=f"^{PUSH_DESTINATION}$")], ...] = Field(
        (),
        description="Where sessions may be pushed to: `scheme://host:port/path`, scheme rtmp, rtmps, srt, or https for "
        "WHIP. `*.example.com` is any host of a domain, port `*` any port; without a path, any path. Private addresses "
        "are allowed for hosts without `*` only. Empty: nothing is pushed.",
    )
    max_outputs: int = Field(4, ge=0, le=16, description="Destinations to which one session may be pushed.")
    push_timeout_s: float = Field(
        10.0, gt=0, le=60, description="Timeout for connecting to a destination, and for sending it one fragment."
    )
    push_buffer_seconds: float = Field(
        2.0, ge=0.5, le=30, description="Stream that waits for a slow destination; then the oldest is dropped."
    )
    push_retry_s: float = Field(
        600.0, ge=0, description="How long a lost destination is tried again before its output ends, in seconds."
    )
    max_detached_s: float = Field(
        60.0, ge=0, description="How long a session with outputs goes on, idle, after its client was lost, in seconds."
    )
    max_viewers: int = Field(4, ge=0, le=64, description="Viewers of one session beside its client.")


class JobConfig(_Frozen):
    """Queue, timeouts, retries and retention of jobs."""

    max_running_jobs: int = Field(4, ge=1, description="Jobs rendered at the same time.")
    running_jobs_per_studio: int = Field(
        0, ge=0, description="Jobs rendered at the same time per running Studio, if that is more: for growing clusters."
    )
    max_queued_jobs: int = Field(64, ge=1, description="Waiting jobs; further ones are refused with 429.")
    max_queued_bytes: int = Field(16 * 1024**3, gt=0, description="Uploads of waiting jobs, also those in progress.")
    max_queue_share_per_key: float = Field(
        0.5, gt=0, le=1, description="Share of the queue (jobs, bytes) of one API key."
    )
    max_event_streams: int = Field(
        256,
        ge=1,
        description="Event streams per Ingress replica, shared among API keys like the queue; further ones get 503.",
    )
    max_attempts: int = Field(6, ge=1, description="Attempts of one call whose replica died.")
    max_restarts: int = Field(8, ge=1, description="Restarts of a job without progress before it fails.")
    min_call_timeout_s: float = Field(60.0, gt=0, description="Smallest timeout of one call between deployments.")
    timeout_s_per_frame: float = Field(1.0, gt=0, description="Seconds added to a call's timeout per frame.")
    max_cached_avatars: int = Field(64, ge=1, description="Analysed avatars kept without a request to keep them.")
    retention_s: float = Field(
        7 * 86400.0,
        gt=0,
        description="Age at which finished jobs and their files are deleted; jobs in review are cancelled.",
    )
    max_revision_bytes: int = Field(
        10 * 1024**3,
        ge=0,
        description="Segments of finished jobs kept for their revisions, in bytes; those of the job that ended first "
        "are deleted first. 0 keeps none: a revision is then rendered completely.",
    )
    min_free_bytes: int = Field(1024**3, ge=0, description="Disk space that jobs must leave free, in bytes.")
    max_disk_wait_s: float = Field(
        900.0,
        ge=0,
        description="How long a running job waits on a full disk before it fails as `storage_full`, in seconds.",
    )
    max_drain_s: float = Field(
        20.0,
        ge=0,
        description="How long a service that stops waits for the segments that it is rendering, in seconds.",
    )

    def call_timeout_s(self, num_frames: int) -> float:
        """Timeout in seconds of one call between deployments that handles `num_frames` frames."""
        return self.min_call_timeout_s + self.timeout_s_per_frame * num_frames

    def sound_timeout_s(self, seconds: float) -> float:
        """Timeout in seconds of one call that decodes `seconds` seconds of audio."""
        return self.min_call_timeout_s + _TIMEOUT_S_PER_SOUND_SECOND * seconds


class BucketConfig(_Frozen):
    """How files are stored in a bucket, if `files` names one."""

    cache_dir: Annotated[Path | None, AfterValidator(_below_root_if_any)] = Field(
        None,
        description="Directory in which the processes of one machine cache fetched files; not shared between machines. "
        "Default: `cache` in the data folder. A machine can override it with the environment variable "
        "LIPWRIGHT_CACHE_DIR.",
    )
    max_cache_bytes: int = Field(
        50 * 1024**3, gt=0, description="Unused cached files of one machine; evicted least recently used first."
    )
    max_cache_idle_s: float = Field(
        3600.0,
        gt=0,
        description="Seconds for which an unused file stays cached; deleted files may remain on a machine as long.",
    )
    redirects: bool = Field(
        False,
        description="Whether downloads are redirected (307) to a bucket URL that is valid for five minutes; clients "
        "must be able to reach the bucket. Otherwise downloads go through the API.",
    )


class EngineCacheConfig(_Frozen):
    """How long engine networks stay in the memory of a replica."""

    max_loaded: int = Field(3, ge=1, description="Engines loaded per replica; the least recently used one is unloaded.")
    max_idle_s: float = Field(
        900.0, gt=0, description="Seconds for which an unused engine stays loaded; the default engine always stays."
    )
    tensorrt: bool = Field(False, description="Run ONNX networks of engines with TensorRT on GPUs.")
    load_timeout_s: float = Field(120.0, gt=0, description="Timeout for loading one engine, in seconds.")


class PipelineConfig(_Frozen):
    """All settings of `graph.build`. Ray Serve's own options are set in serve_config.yaml, not here."""

    data_dir: Annotated[Path, AfterValidator(_below_root)] = Field(
        Path("data"),
        validate_default=True,
        description="Job table, uploads, avatars and results, unless stored elsewhere. Relative to the folder of this "
        "file and serve_config.yaml.",
    )
    state: str | None = Field(
        default_factory=_from_environment(STATE_VARIABLE, _STATE_URL, "postgresql://user@host/name"),
        pattern=_STATE_URL,
        repr=False,  # it may hold a password
        description="PostgreSQL for the job table, API keys and webhook secrets, `postgresql://user@host/name`: needed "
        "with several machines. Default: the environment variable LIPWRIGHT_STATE; if that is not set either, or with "
        "None, they are stored in the data folder. Needs the extra `postgres`. A password may come from PGPASSWORD or "
        "a .pgpass file instead.",
    )
    files: str | None = Field(
        default_factory=_from_environment(FILES_VARIABLE, _FILES_URL, "s3://bucket/prefix"),
        pattern=_FILES_URL,
        description="Bucket for uploads, jobs, avatars and results, `s3://bucket/prefix?endpoint=...&region=...`: "
        "needed by machines that share no disk. Default: the environment variable LIPWRIGHT_FILES; if that is not set "
        "either, or with None, they are stored in the data folder. Needs the extra `s3`; credentials come from the "
        "environment (AWS_ACCESS_KEY_ID and so on), as may the endpoint (AWS_ENDPOINT_URL).",
    )
    bucket: BucketConfig = BucketConfig()
    engine: str = Field("warp", description="Engine of jobs that do not name one.")
    engines: dict[str, dict[str, Any]] = Field({}, description="Options by engine name; each engine validates its own.")
    engine_cache: EngineCacheConfig = EngineCacheConfig()
    limits: MediaLimits = MediaLimits()
    decoder: DecoderConfig = DecoderConfig()
    network: NetworkConfig = NetworkConfig()
    access: AccessConfig = AccessConfig()
    heygem: HeygemConfig = HeygemConfig()
    labels: LabelsConfig = LabelsConfig()
    tts: TtsConfig = TtsConfig()
    subtitles: SubtitlesConfig = SubtitlesConfig()
    render: RenderConfig = RenderConfig()
    jobs: JobConfig = JobConfig()
    live: LiveConfig = LiveConfig()

    @model_validator(mode="after")
    def _max_upload_fits_s3_copy(self) -> Self:
        if self.files is not None and self.limits.max_upload_bytes > _MAX_COPIED_BYTES:
            raise ValueError(
                f"limits.max_upload_bytes: expected at most {_MAX_COPIED_BYTES} with files in a bucket, "
                f"found {self.limits.max_upload_bytes}"
            )
        return self
