"""The engine protocol: the only interface between the graph and an engine.

An `Engine` is cheap to make and holds no network. Four deployments use it::

    AudioFeatures      engine.audio_encoder(resources).encode(speech, level, span) -> features
    LandmarkGenerator  engine.analyse(avatar, ...)                  once per avatar, into a folder of the engine
                       engine.plan(avatar, features, ...) -> PlannedBlock, once per block of output frames
    Studio             engine.crop(avatar, plan, frames) -> Chunk, once per chunk of frames
    FaceSynthesis      engine.face_generator(resources).generate(chunk) -> FacePatches

The graph uses the length, slices and source frames of a plan and the number of frames of a chunk; features and state
are opaque. All of them travel between calls, so they must pickle. All calls are pure: the same arguments give the same
bytes in any process, regardless of earlier calls and of how a job is divided into blocks and chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypeVar

if TYPE_CHECKING:
    from lipwright.media.kept_squares import SquareReader
    from lipwright.media.yuv_frame import YuvFrame
    from models.avatar.avatar import Avatar
    from models.engines.patches import FacePatches
    from models.quality.measures import BlockMeasures
    from models.speech.level import SpeechLevel
    from models.speech.stream import SpeechWindow

Device = Literal["cpu", "cuda"]

SOURCE_AUDIO_FPS: Final = 50
"""Frames per second of the speech that an analysis learns from: more than any video has."""


@dataclass(frozen=True)
class ComputeResources:
    """What a replica may use.

    Attributes:
        device: "cuda" for the first GPU that the replica sees. An engine that is given it and cannot use it raises.
        num_threads: CPU threads.
        gpu_share: Share of the GPU's memory, 0 to 1.
        tensorrt: Whether ONNX networks run with TensorRT on the GPU.
    """

    device: Device = "cpu"
    num_threads: int = 1
    gpu_share: float = 1.0
    tensorrt: bool = False


@dataclass(frozen=True)
class FrameSpan:
    """Output frames [first, first + num) of a job; frame i is at i / fps seconds of the speech.

    Attributes:
        fps: Frame rate of the output, for example Fraction(30000, 1001).
        first: First frame.
        num: Number of frames, 1 or more.
        total: Frames of the whole job.
    """

    fps: Fraction
    first: int
    num: int
    total: int

    @property
    def stop(self) -> int:
        """The frame after the last."""
        return self.first + self.num

    @property
    def seconds(self) -> NDArray[np.float64]:
        """(num,) times of the frames."""
        return np.asarray(np.arange(self.first, self.stop) / float(self.fps), np.float64)

    def nearest_rows(self, rows_per_second: int) -> NDArray[np.int64]:
        """Return the (num,) rows nearest to the frames; row r is at r / rows_per_second seconds."""
        frames = np.arange(self.first, self.stop, dtype=np.int64)
        above, below = 2 * rows_per_second * self.fps.denominator, 2 * self.fps.numerator
        rows: NDArray[np.int64] = (frames * above + self.fps.numerator) // below
        return rows

    @property
    def start_seconds(self) -> float:
        """Time of the first frame."""
        return float(self.first / self.fps)

    @property
    def stop_seconds(self) -> float:
        """Time of the frame after the last."""
        return float(self.stop / self.fps)


class Plan(Protocol):
    """What T output frames show; small, since it travels in place of images."""

    @property
    def source_index(self) -> NDArray[np.int32]:
        """(T,) source frames that are shown."""
        ...

    def __len__(self) -> int: ...

    def slice(self, start: int, stop: int) -> Self:
        """Return frames [start, stop) as copies, so that a slice does not send the whole."""
        ...


class Chunk(Protocol):
    """Some output frames with what the generator needs."""

    @property
    def num_frames(self) -> int:
        """Frames, those without a face included."""
        ...


# What travels between the calls of one engine. Code that handles any engine uses plain `Engine`.
FeaturesT = TypeVar("FeaturesT", default=Any)
PlanT = TypeVar("PlanT", bound=Plan, default=Any)
StateT = TypeVar("StateT", default=Any)
ChunkT = TypeVar("ChunkT", bound=Chunk, default=Any)
EncodedT = TypeVar("EncodedT", covariant=True, default=Any)
PlannedT = TypeVar("PlannedT", bound=Plan, covariant=True, default=Plan)
NextStateT = TypeVar("NextStateT", covariant=True, default=object)
LivePlanT = TypeVar("LivePlanT", bound=Plan, covariant=True, default=Any)
GivenChunkT = TypeVar("GivenChunkT", bound=Chunk, contravariant=True, default=Any)


class AudioEncoder(Protocol[EncodedT]):
    """Turns speech into audio features; holds the network."""

    def encode(
        self, speech: Path, level: SpeechLevel, span: FrameSpan, should_stop: Callable[[], bool] = lambda: False
    ) -> EncodedT:
        """Return the features for the frames of `span`.

        Args:
            speech: .npy file of 16 kHz mono int16.
            level: Result of `measure_level` for this file.
            span: Past the end of the file there is silence.
            should_stop: Checked every few seconds of speech.

        Raises:
            MediaError: The file is not the one that was measured.
            CancelledJobError: `should_stop` returned True.
        """
        ...


class PlannedBlock(NamedTuple, Generic[PlannedT, NextStateT]):
    """One block of output frames.

    Attributes:
        state: Passed to the plan of the next block.
    """

    plan: PlannedT
    state: NextStateT
    measures: BlockMeasures


class FaceGenerator(Protocol[GivenChunkT]):
    """Generates faces; holds the network."""

    def generate(self, chunk: GivenChunkT, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one finished patch for every face of a chunk of the same engine.

        Args:
            chunk: What `Engine.crop` gave.
            should_stop: Checked between faces, or batches of them, by slow engines.

        Raises:
            CancelledJobError: `should_stop` returned True.
        """
        ...


@dataclass(frozen=True)
class TensorTable:
    """Contents of a weights file, read without running any code in it.

    Attributes:
        format: What kind of file it is.
        tensors: Shapes by name: of a torch or safetensors file its parameters, without wrappers (`state_dict`) and
            without the prefix `module.`; of an ONNX file its initialisers.
        inputs: ONNX only: shapes of the inputs in the file's order, -1 for a free dimension.
        outputs: ONNX only: those of the outputs.
    """

    format: Literal["torch", "safetensors", "onnx"]
    tensors: Mapping[str, tuple[int, ...]]
    inputs: tuple[tuple[int, ...], ...] = ()
    outputs: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class WeightsSpec:
    """One file that an engine needs and the user adds.

    Attributes:
        name: For example "generator".
        title: Description for users.
        licence: Known terms of the published file, shown when it is added.
        mismatch: Returns None for a file that fits the role, otherwise one line: what was expected and what was found.
        is_required: Whether the engine needs it.
        alternative: Role whose file can replace this one.
    """

    name: str
    title: str
    licence: str
    mismatch: Callable[[TensorTable], str | None]
    is_required: bool = True
    alternative: str | None = None


class EngineWeights(Protocol):
    """The files that the user added for one engine, verified by checksum."""

    def path(self, role: str) -> Path:
        """Return the file of a role.

        Raises:
            WeightsError: There is none, or it is not the one that was added.
        """
        ...

    def has(self, role: str) -> bool:
        """Whether there is a file of that role."""
        ...

    def fingerprint(self, role: str) -> str:
        """Return a fingerprint of the file of a role, empty if there is none; the file is not read."""
        ...


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is built from.

    Attributes:
        weights: The user's files.
        options: The engine's section of the service's settings; its own pydantic model checks it.
        num_threads: CPU threads for what it does outside of its audio encoder and face generator.
    """

    weights: EngineWeights
    options: Mapping[str, Any]
    num_threads: int = 1


class Engine(Protocol[FeaturesT, PlanT, StateT, ChunkT]):
    """One way to make a face speak, generic over features, plan, state and chunk.

    Cheap to make: `audio_encoder` and `face_generator` load the large networks. What `plan` and `crop` need besides is
    small, runs on the CPU, and is loaded on first use.

    Attributes:
        title: One-line description for users.
        weights: Files that the user has to add, in the order of the list; empty if none.
        name: Name in jobs.
        version: Version of what `analyse` writes; avatars are analysed again when it changes.
        audio_features: Kind of audio features, with the fingerprint of the encoder's weights: equal kinds share an
            encoder.
        uses_source_audio: Whether `analyse` uses the source's own audio.
        scales_movement: Whether `plan` obeys `Avatar.expressiveness`; ask `scales_movement`, as engines of other
            packages may lack it.
    """

    title: ClassVar[str]
    weights: ClassVar[tuple[WeightsSpec, ...]]
    name: str
    version: str
    audio_features: str
    uses_source_audio: bool
    scales_movement: bool

    def __init__(self, settings: EngineSettings) -> None:
        """Make the engine.

        Raises:
            ConfigError: An option cannot be used.
        """
        ...

    def audio_encoder(self, resources: ComputeResources) -> AudioEncoder[FeaturesT]:
        """Load the audio encoder.

        Raises:
            WeightsError: Its weights are missing or not those expected.
            ConfigError: The requested device is not available.
        """
        ...

    def face_generator(self, resources: ComputeResources) -> FaceGenerator[ChunkT]:
        """Load the generator.

        Raises:
            WeightsError: Its weights are missing or not those expected.
            ConfigError: The requested device is not available.
        """
        ...

    def analyse(
        self,
        avatar: Avatar,
        frames: SquareReader,
        source_audio_features: FeaturesT | None,
        should_stop: Callable[[], bool],
    ) -> None:
        """Write what the engine needs of an avatar beside the track into `avatar.folder_of(self)`.

        Args:
            avatar: The tracked avatar; the folder is there, and empty.
            frames: Reads its frames; squares around the face usually need no decoding.
            source_audio_features: What `encode` returns at `SOURCE_AUDIO_FPS` for the source's own audio, from time 0;
                None without audio, or if `uses_source_audio` is false.
            should_stop: Checked between frames.

        Raises:
            CancelledJobError: `should_stop` returned True.
        """
        ...

    def plan(
        self,
        avatar: Avatar,
        features: FeaturesT,
        span: FrameSpan,
        source_index: NDArray[np.int32],
        state: StateT | None,
    ) -> PlannedBlock[PlanT, StateT | None]:
        """Decide what the frames of `span` show.

        Args:
            avatar: An analysed avatar.
            features: Result of `encode` for `span`.
            span: T output frames.
            source_index: (T,) source frame behind each of them.
            state: State of the previous block; None for the first.
        """
        ...

    def crop(self, avatar: Avatar, plan: PlanT, frames: Sequence[YuvFrame]) -> ChunkT:
        """Crop out of full frames what `FaceGenerator.generate` needs.

        Args:
            avatar: An analysed avatar.
            plan: T output frames, of this engine.
            frames: T source frames, read-only.
        """
        ...


class LiveAudioEncoder(Protocol[EncodedT]):
    """Turns streaming speech into audio features."""

    def encode_live(self, window: SpeechWindow) -> EncodedT:
        """Return the features for the frames of a window and for its look-ahead."""
        ...


@runtime_checkable
class LiveEngine(Protocol[FeaturesT, LivePlanT, StateT]):
    """An engine for streaming speech.

    Attributes:
        look_ahead_frames: Look-ahead of `plan_live`, in frames.
    """

    look_ahead_frames: int

    def live_audio_encoder(self, resources: ComputeResources) -> LiveAudioEncoder[FeaturesT]:
        """Load the audio encoder of live sessions; raises like `Engine.audio_encoder`."""
        ...

    def plan_live(
        self,
        avatar: Avatar,
        features: FeaturesT,
        span: FrameSpan,
        source_index: NDArray[np.int32],
        state: StateT | None,
    ) -> tuple[LivePlanT, StateT | None]:
        """Decide what the frames of `span` show but the last `look_ahead_frames`, which serve as look-ahead.

        Args:
            avatar: An analysed avatar.
            features: Result of `encode_live`.
            span: T output frames; `total` is ignored.
            source_index: (T,) source frame behind each of them.
            state: State of the previous frames; None at first.

        Returns:
            The plan of the frames that are shown, and the state that the next one continues from.
        """
        ...


EngineClass = type[Engine]
"""Class of an engine."""


def scales_movement(engine: Engine | EngineClass) -> bool:
    """Return whether an engine obeys `Avatar.expressiveness`."""
    return bool(getattr(engine, "scales_movement", False))


def speech_context_seconds(engine: Engine | EngineClass) -> float | None:
    """Return how much speech before and after a block may decide its plan, in seconds; None if that is not known."""
    seconds: float | None = getattr(engine, "speech_context_seconds", None)
    return seconds


class PostProcessor(Protocol):
    """A step applied on top of any engine; a job names it after a plus, `wav2lip+restoration`.

    Attributes:
        title: One-line description for users.
        weights: Files that the user has to add.
    """

    title: ClassVar[str]
    weights: ClassVar[tuple[WeightsSpec, ...]]

    def __init__(self, settings: EngineSettings) -> None:
        """Make the post-processor.

        Raises:
            ConfigError: An option cannot be used.
        """
        ...

    def wrap(self, engine: Engine) -> Engine:
        """Return an engine that also applies this step."""
        ...


PostProcessorClass = type[PostProcessor]
"""Class of a post-processor."""
