"""The engine `ultralight`: a network that was trained for the one person it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from errors import ConfigError
from models.engines.options import read_options
from models.engines.paste.crop import BoxChunk, BoxPlan, BoxTrack, cut_boxes
from models.engines.protocol import EngineSettings, FrameSpan, Listener, Machine, Painter, Planned, WeightsRole
from models.engines.ultralight.audio import CENTRES, IDS, ROWS, HeardRows, Hears, UltralightPlan
from models.engines.ultralight.crop import box_track
from models.engines.ultralight.options import UltralightOptions
from models.engines.ultralight.weights import GENERATOR, ROLES

if TYPE_CHECKING:
    from media.frame_source import FrameSource
    from media.yuv_frame import YuvFrame
    from models.avatar.avatar import Avatar

_BOXES: Final = "boxes.npz"


class UltralightEngine:
    """Satisfies `models.engines.protocol.Engine`.

    Args:
        settings: The generator, what hears for it, and `UltralightOptions`.

    Raises:
        ConfigError: An option cannot be used, or it is not clear what the generator hears.
    """

    title: ClassVar[str] = "Ultralight: a small network that was trained for the one person it shows, which you bring"
    name = "ultralight"
    version = "1"
    wants_own_speech = False
    weights: ClassVar[tuple[WeightsRole, ...]] = ROLES

    def __init__(self, settings: EngineSettings) -> None:
        self._weights = settings.weights
        self._options = read_options(UltralightOptions, self.name, settings.options)
        self._kind = self._what_hears()
        self.hears = f"ultralight-{self._kind}:{self._weights.mark(self._kind)}"

    def listener(self, machine: Machine) -> Listener:
        """Load HuBERT or WeNet; see `contract.Engine.listener`."""
        path = self._weights.path(self._kind)
        if self._kind == "hubert":
            from models.engines.ultralight.hubert import HubertListener, load_hubert

            return HubertListener(load_hubert(path, machine))
        from models.engines.ultralight.wenet import OnnxWenet, WenetListener

        return WenetListener(OnnxWenet(path, machine))

    def painter(self, machine: Machine) -> Painter:
        """Load the generator; see `contract.Engine.painter`."""
        # Imported here: everything else of the engine runs where there is neither PyTorch nor onnxruntime.
        from models.engines.ultralight.generator import UltralightPainter, load_generator

        generator = load_generator(self._weights.path(GENERATOR), machine, self._options, self._kind)
        return UltralightPainter(generator, self._options)

    def analyse(
        self, avatar: Avatar, frames: FrameSource, own_speech: Any | None, should_stop: Callable[[], bool]
    ) -> None:
        """Lay the boxes; see `contract.Engine.analyse`."""
        box_track(avatar.track).save(avatar.folder_of(self) / _BOXES)

    def plan(
        self, avatar: Avatar, features: HeardRows, span: FrameSpan, source_index: NDArray[np.int32], state: Any
    ) -> Planned:
        """Join source frames and sound; see `contract.Engine.plan`."""
        from models.quality.measures import measure_view

        plan = UltralightPlan(span.first, source_index, features)
        return Planned(plan, None, measure_view(avatar, source_index, features.gate))

    def cut(self, avatar: Avatar, plan: UltralightPlan, frames: Sequence[YuvFrame]) -> BoxChunk:
        """Cut the boxes' regions; see `contract.Engine.cut`."""
        heard = plan.heard
        nothing = np.empty((len(plan), 0), np.float32)
        boxes = BoxPlan(plan.first_frame, plan.source_index, nothing, {CENTRES: heard.centres})
        return cut_boxes(self._boxes(avatar), avatar.info.colour, boxes, frames, {IDS: heard.ids, ROWS: heard.rows})

    def _boxes(self, avatar: Avatar) -> BoxTrack:
        track: BoxTrack = avatar.remember(self, lambda: BoxTrack.load(avatar.folder_of(self) / _BOXES))
        return track

    def _what_hears(self) -> Hears:
        if self._options.hears != "auto":
            return self._options.hears
        kinds: tuple[Hears, ...] = ("hubert", "wenet")
        brought = [kind for kind in kinds if self._weights.has(kind)]
        if len(brought) == 2:
            raise ConfigError(
                "Engine ultralight has both a hubert and a wenet file: set its option 'hears' to what the generator "
                "was trained with."
            )
        return brought[0] if brought else "hubert"
