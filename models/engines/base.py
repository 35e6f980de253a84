"""What engines share: checked options, stateless planning, and the box around a face that a network rewrites."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lipwright.errors import ConfigError
from models.engines.paste.crop import BoxChunk, BoxPlan, BoxTrack, crop_boxes
from models.engines.protocol import ChunkT, FrameSpan, PlannedBlock, PlanT
from models.speech.activity import speech_activity
from models.speech.level import ROWS_PER_SECOND, SpeechLevel

if TYPE_CHECKING:
    from lipwright.media.frame_source import FrameSource
    from lipwright.media.yuv_frame import YuvFrame
    from models.avatar.avatar import Avatar

_BOXES_FILE: Final = "boxes.npz"


class EngineOptions(BaseModel):
    """An engine's section of the settings: read-only, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GeneratorOptions(EngineOptions):
    """Options of engines whose generator works on batches of boxes."""

    match_colour: bool = Field(True, description="Remove the colour difference along the edge of the generated face.")
    precision: Literal["fp32", "auto"] = Field(
        "auto", description="auto: half precision where it is fast and, with these weights, hardly differs."
    )


OptionsT = TypeVar("OptionsT", bound=BaseModel)


def read_options(model: type[OptionsT], engine: str, options: Mapping[str, Any]) -> OptionsT:
    """Return the options of an engine.

    Raises:
        ConfigError: One of them does not exist or has an invalid value.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        (first, *_) = error.errors()
        key = ".".join(map(str, ("engines", engine, *first["loc"])))
        raise ConfigError(f"{key}: {first['msg']}, found {first['input']!r}") from error


def frame_gate(samples: NDArray[np.int16], level: SpeechLevel, span: FrameSpan) -> NDArray[np.float32]:
    """Return (T,) float32 the gate of the row nearest to each frame of a speech file; 0 after its end."""
    rows = span.nearest_rows(ROWS_PER_SECOND)
    inside = rows.clip(max=level.num_rows - 1)
    gate = speech_activity(samples, level, int(inside[0]), int(inside[-1]) + 1).gate[inside - inside[0]]
    return np.where(rows > inside, 0, gate).astype(np.float32)


class GatedFeatures(Protocol):
    """Audio features of T frames."""

    @property
    def gate(self) -> NDArray[np.float32]:
        """(T,) float32: 1 where there is speech, 0 in silence."""
        ...


GatedT = TypeVar("GatedT", bound=GatedFeatures)


class StatelessEngine(ABC, Generic[GatedT, PlanT, ChunkT]):
    """Base of engines that plan every frame independently and learn nothing from the source's audio."""

    name: str
    version: str
    uses_source_audio: bool = False
    scales_movement: bool = False  # networks driven by audio have no input for the scale

    def plan(
        self, avatar: Avatar, features: GatedT, span: FrameSpan, source_index: NDArray[np.int32], state: None
    ) -> PlannedBlock[PlanT, None]:
        """Plan the frames of `span`; see `protocol.Engine.plan`."""
        from models.quality.measures import measure_view  # imports onnxruntime

        plan = self.plan_frames(features, span, np.asarray(source_index, np.int32))
        view = measure_view(avatar.info, avatar.track, avatar.talks, source_index, features.gate)
        return PlannedBlock(plan, None, view)

    look_ahead_frames = 0  # frames are planned independently; the encoder decides how far features look ahead

    def plan_live(
        self, avatar: Avatar, features: GatedT, span: FrameSpan, source_index: NDArray[np.int32], state: None
    ) -> tuple[PlanT, None]:
        """Plan the frames of `span`, for engines with a live encoder; see `protocol.LiveEngine.plan_live`."""
        return self.plan_frames(features, span, np.asarray(source_index, np.int32)), None

    @abstractmethod
    def plan_frames(self, features: GatedT, span: FrameSpan, source_index: NDArray[np.int32]) -> PlanT:
        """Return the plan of T frames.

        Args:
            features: Audio features of `span`.
            span: T output frames.
            source_index: (T,) source frame behind each of them.
        """


class BoxEngine(StatelessEngine[GatedT, PlanT, BoxChunk]):
    """Base of engines that rewrite a box whose place follows from the face track alone."""

    def analyse(
        self,
        avatar: Avatar,
        frames: FrameSource,
        source_audio_features: GatedT | None,
        should_stop: Callable[[], bool],
    ) -> None:
        """Write the boxes of an avatar; no frame is read."""
        self.box_track(avatar).save(avatar.folder_of(self) / _BOXES_FILE)

    def crop(self, avatar: Avatar, plan: PlanT, frames: Sequence[YuvFrame]) -> BoxChunk:
        """Crop the regions around the boxes out of full frames; see `protocol.Engine.crop`."""
        boxes: BoxTrack = avatar.remember(self, lambda: BoxTrack.load(avatar.folder_of(self) / _BOXES_FILE))
        box_plan, extra = self.box_plan(plan)
        return crop_boxes(boxes, avatar.info.colour, box_plan, frames, extra)

    @abstractmethod
    def box_track(self, avatar: Avatar) -> BoxTrack:
        """Return the positions of the boxes of an avatar."""

    @abstractmethod
    def box_plan(self, plan: PlanT) -> tuple[BoxPlan, Mapping[str, NDArray[Any]]]:
        """Return a plan with the features of every frame, and arrays that travel once for the whole chunk."""
