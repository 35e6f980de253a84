"""What an engine is: the one seam between the graph and whatever makes a face speak.

An `Engine` is cheap to make and holds no network. Four deployments use it, each for a part of the work::

    AudioFeatures      engine.audio_encoder(machine) -> AudioEncoder    .encode(speech, level, span) -> features
    LandmarkGenerator  engine.analyse(avatar, ...)          once an avatar, kept in a folder of the engine's own
                       engine.plan(avatar, features, ...)   -> PlannedBlock, once a block of output frames
    Studio             engine.cut(avatar, plan, frames)     -> Chunk, once a few frames
    FaceSynthesis      engine.face_generator(machine) -> FaceGenerator      .generate(chunk) -> FacePatches

The graph knows of a plan its length, its slices and its source frames, of a chunk its number of frames, and of features
and state nothing at all: they travel from one call of the engine to the next as they are, so they have to pickle. All
calls are pure: the same arguments give the same bytes in any process, whatever was asked before, and however a job is
divided into blocks and chunks.
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
    from media.frame_source import FrameSource
    from media.yuv_frame import YuvFrame
    from models.avatar.avatar import Avatar
    from models.engines.patches import FacePatches
    from models.quality.measures import BlockMeasures
    from models.speech.level import SpeechLevel
    from models.speech.stream import SpeechWindow

Device = Literal["cpu", "cuda"]

SOURCE_AUDIO_FPS: Final = 50
"""Frames a second of the speech that an analysis learns from: finer than any video's."""


@dataclass(frozen=True)
class Machine:
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
    """Output frames [first, first + num) of a job; frame i stands at i / fps seconds of the speech.

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
        """(num,) when each of them stands."""
        return np.asarray(np.arange(self.first, self.stop) / float(self.fps), np.float64)

    @property
    def start_seconds(self) -> float:
        """When the first frame stands."""
        return float(self.first / self.fps)

    @property
    def stop_seconds(self) -> float:
        """When the frame after the last stands."""
        return float(self.stop / self.fps)


class Plan(Protocol):
    """T output frames, decided: small, as it travels in place of pictures."""

    @property
    def source_index(self) -> NDArray[np.int32]:
        """(T,) source frames that are shown."""
        ...

    def __len__(self) -> int: ...

    def slice(self, start: int, stop: int) -> Self:
        """Return frames [start, stop) as copies, so that a slice does not send the whole."""
        ...


class Chunk(Protocol):
    """Some output frames with what is to be painted into them."""

    @property
    def num_frames(self) -> int:
        """Frames, those without a face included."""
        ...


# What travels between the calls of one engine. Whoever handles any engine names none of them: `Engine` alone.
FeaturesT = TypeVar("FeaturesT", default=Any)
PlanT = TypeVar("PlanT", bound=Plan, default=Any)
StateT = TypeVar("StateT", default=Any)
ChunkT = TypeVar("ChunkT", bound=Chunk, default=Any)
EncodedT = TypeVar("EncodedT", covariant=True, default=Any)
PlannedT = TypeVar("PlannedT", bound=Plan, covariant=True, default=Plan)
NextStateT = TypeVar("NextStateT", covariant=True, default=object)
GivenFeaturesT = TypeVar("GivenFeaturesT", contravariant=True, default=Any)
LivePlanT = TypeVar("LivePlanT", bound=Plan, covariant=True, default=Any)
GivenChunkT = TypeVar("GivenChunkT", bound=Chunk, contravariant=True, default=Any)


class AudioEncoder(Protocol[EncodedT]):
    """Hears speech: holds the network of one kind of audio features."""

    def encode(
        self, speech: Path, level: SpeechLevel, span: FrameSpan, should_stop: Callable[[], bool] = lambda: False
    ) -> EncodedT:
        """Return the features for the frames of `span`.

        Args:
            speech: .npy file of 16 kHz mono int16.
            level: What `measure_level` said of this file.
            span: Past the end of the file there is silence.
            should_stop: Asked every few seconds of speech.

        Raises:
            CancelledJobError: `should_stop` said so.
        """
        ...


class PlannedBlock(NamedTuple, Generic[PlannedT, NextStateT]):
    """One block of output frames."""

    plan: PlannedT
    state: NextStateT
    """What the next block continues from."""
    measures: BlockMeasures


class FaceGenerator(Protocol[GivenChunkT]):
    """Makes faces: holds the network."""

    def generate(self, chunk: GivenChunkT, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one finished patch for every face of a chunk of the same engine.

        Args:
            chunk: What `Engine.cut` gave.
            should_stop: Asked between faces, or batches of them, by engines that take their time.

        Raises:
            CancelledJobError: `should_stop` said so.
        """
        ...


@dataclass(frozen=True)
class TensorTable:
    """What a weights file holds, read without running anything of it.

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
    """One file that an engine needs and the user brings.

    Attributes:
        name: For example "generator".
        title: What it is, for people.
        licence: Known terms of the published file, shown when it is added.
        mismatch: Says None of a file that can play this role, else in one line what was expected and found.
        is_required: Whether the engine cannot work without it.
        alternative: Role whose file does as well: where it is there, this one is not required.
    """

    name: str
    title: str
    licence: str
    mismatch: Callable[[TensorTable], str | None]
    is_required: bool = True
    alternative: str | None = None


class EngineWeights(Protocol):
    """The files that the user brought for one engine, checked against their sums."""

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
        """Return what tells the file of a role from others, empty if there is none; it is not read."""
        ...


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is made of.

    Attributes:
        weights: What the user brought.
        options: The engine's section of the service's settings; its own pydantic model checks it.
        num_threads: CPU threads for what it does outside of its audio encoder and face generator.
    """

    weights: EngineWeights
    options: Mapping[str, Any]
    num_threads: int = 1


class Engine(Protocol[FeaturesT, PlanT, StateT, ChunkT]):
    """One way to make a face speak, generic over features, plan, state and chunk.

    Cheap to make: `audio_encoder` and `face_generator` load the large networks. What `plan` and `cut` need besides is
    small, runs on the CPU, and is loaded on first use.
    """

    title: ClassVar[str]
    """What it is, for people, in one line."""
    weights: ClassVar[tuple[WeightsSpec, ...]]
    """What the user has to bring, in the order in which it is listed; empty for an engine that needs nothing."""
    name: str
    """What a job calls it."""
    version: str
    """Of what `analyse` writes: another one, and avatars are analysed again."""
    audio_features: str
    """Kind of audio features, with the fingerprint of the encoder's weights: equal kinds share an encoder."""
    uses_source_audio: bool
    """Whether `analyse` learns from the source's own sound."""

    def __init__(self, settings: EngineSettings) -> None:
        """Make the engine.

        Raises:
            ConfigError: An option cannot be used.
        """
        ...

    def audio_encoder(self, machine: Machine) -> AudioEncoder[FeaturesT]:
        """Load the network that hears.

        Raises:
            WeightsError: Its weights are missing or not those expected.
            ConfigError: The device was asked for and cannot be used.
        """
        ...

    def face_generator(self, machine: Machine) -> FaceGenerator[ChunkT]:
        """Load the network that paints.

        Raises:
            WeightsError: Its weights are missing or not those expected.
            ConfigError: The device was asked for and cannot be used.
        """
        ...

    def analyse(
        self,
        avatar: Avatar,
        frames: FrameSource,
        source_audio_features: FeaturesT | None,
        should_stop: Callable[[], bool],
    ) -> None:
        """Write what the engine needs of an avatar beside the track into `avatar.folder_of(self)`.

        Args:
            avatar: The tracked avatar; the folder is there, and empty.
            frames: Reads its frames.
            source_audio_features: What `encode` returns at `SOURCE_AUDIO_FPS` for the source's own audio, from time 0;
                None without audio, or if `uses_source_audio` is false.
            should_stop: Asked between frames.

        Raises:
            CancelledJobError: `should_stop` said so.
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
            features: What `encode` heard for `span`.
            span: T output frames.
            source_index: (T,) source frame behind each of them.
            state: Of the block before, None at the first.
        """
        ...

    def cut(self, avatar: Avatar, plan: PlanT, frames: Sequence[YuvFrame]) -> ChunkT:
        """Cut out of full frames what `FaceGenerator.generate` needs.

        Args:
            avatar: An analysed avatar.
            plan: T output frames, of this engine.
            frames: T source frames, read-only.
        """
        ...


@runtime_checkable
class LiveAudioEncoder(Protocol[EncodedT]):
    """Hears speech that is still coming."""

    def encode_live(self, window: SpeechWindow) -> EncodedT:
        """Return the features for the frames of a window, and for as far as it looks ahead."""
        ...


@runtime_checkable
class LiveEngine(Protocol[GivenFeaturesT, LivePlanT, StateT]):
    """An engine that can speak what is still being said: its audio encoder is a `LiveAudioEncoder` too."""

    look_ahead_frames: int
    """Frames behind those that are shown which `plan_live` wants to see."""

    def plan_live(
        self,
        avatar: Avatar,
        features: GivenFeaturesT,
        span: FrameSpan,
        source_index: NDArray[np.int32],
        state: StateT | None,
    ) -> tuple[LivePlanT, StateT | None]:
        """Decide what the frames of `span` show but the last `look_ahead_frames`, which are only looked at.

        Args:
            avatar: An analysed avatar.
            features: What `encode_live` heard.
            span: T output frames; `total` means nothing.
            source_index: (T,) source frame behind each of them.
            state: Of the frames before, None at the first.

        Returns:
            The plan of the frames that are shown, and the state that the next one continues from.
        """
        ...


EngineClass = type[Engine]
"""What the registry knows of an engine."""


class PostProcessor(Protocol):
    """Something that is put on top of any engine: a job names it behind a plus, `wav2lip+restoration`."""

    title: ClassVar[str]
    """What it does, for people, in one line."""
    weights: ClassVar[tuple[WeightsSpec, ...]]
    """What the user has to bring."""

    def __init__(self, settings: EngineSettings) -> None:
        """Make the step.

        Raises:
            ConfigError: An option cannot be used.
        """
        ...

    def wrap(self, engine: Engine) -> Engine:
        """Return an engine that does what `engine` does, and this."""
        ...


PostProcessorClass = type[PostProcessor]
"""What the registry knows of a step."""
