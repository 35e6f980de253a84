"""DINet as an engine: the original network, or HeyGem's, whichever generator the user brought.

One crop of the frame is masked where the mouth is and made anew from the speech. HeyGem's generator is shown the same
crop unmasked, the original's five other frames of the avatar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from media.array_files import load_array
from media.frame_source import FrameSource
from media.yuv_frame import YuvFrame
from models.engines.box.box_chunk import BoxChunk
from models.engines.box.box_plan import BoxPlan
from models.engines.box.box_track import BoxTrack
from models.engines.box.cut import cut_boxes
from models.engines.contract import EngineSettings, FrameSpan, Listener, Machine, Painter, Planned, WeightsRole
from models.engines.dinet.finding.found_points import find_points
from models.engines.dinet.hearing.heard_speech import HeardSpeech
from models.engines.dinet.kinds import DinetKind, HeyGemKind, OriginalKind, lay_crops
from models.engines.dinet.options import DinetOptions
from models.engines.dinet.reference_frames import REFERENCES, choose_references, read_references
from models.engines.dinet.roles import ROLES, kind_of
from models.engines.options import read_options

if TYPE_CHECKING:
    from models.avatar.avatar import Avatar

_CROPS_FILE, _REFERENCES_FILE = "crops.npz", "references.npy"


class DinetEngine:
    """Satisfies `contract.Engine`.

    Args:
        settings: The user's files and the options of `DinetOptions`.

    Raises:
        ConfigError: An option cannot be used.
        WeightsError: A file is not the one that was added. Files that are missing are asked for when they are loaded.
    """

    title: ClassVar[str] = (
        "DINet: the mouth of a face crop, painted at 416 x 320 or, with HeyGem's files, 256 x 256, by your weights"
    )
    name = "dinet"
    wants_own_speech = False
    weights: ClassVar[tuple[WeightsRole, ...]] = ROLES

    def __init__(self, settings: EngineSettings) -> None:
        options = read_options(DinetOptions, self.name, settings.options)
        self._weights, self._num_threads = settings.weights, settings.num_threads
        has, path = settings.weights.has, settings.weights.path
        is_original = has("generator") and kind_of(path("generator")) == "original"
        self._kind: DinetKind = OriginalKind(options) if is_original else HeyGemKind(options)
        finders = [role for role in ("landmarks", "detector") if has(role)]
        # A detector alone changes nothing, see `found_points`.
        self._finders = finders if "landmarks" in finders else []
        self.hears = f"{self._kind.hears}:{settings.weights.mark('speech')}"
        self.version = "-".join(["1", self._kind.version, *self._finders])

    def listener(self, machine: Machine) -> Listener:
        """Load the network that hears, see `contract.Engine`."""
        return self._kind.listener(self._weights, machine)

    def painter(self, machine: Machine) -> Painter:
        """Load the generator, see `contract.Engine`."""
        return self._kind.painter(self._weights, machine)

    def analyse(
        self, avatar: Avatar, frames: FrameSource, own_speech: Any | None, should_stop: Callable[[], bool]
    ) -> None:
        """Write where the crops lie, and the reference frames of a generator that takes them.

        Args:
            avatar: The tracked avatar.
            frames: Reads its frames.
            own_speech: Not used.
            should_stop: Asked between frames.

        Raises:
            CancelledJobError: `should_stop` said so.
            WeightsError: A file of HeyGem's is not the network expected.
        """
        folder, colour = avatar.folder_of(self), avatar.info.colour
        num = avatar.info.num_frames
        points = find_points(avatar.track, frames, colour, *self._load_finders(), should_stop, num)
        crops = lay_crops(self._kind, points, avatar.track)
        crops.save(folder / _CROPS_FILE)
        if self._kind.takes_references:
            chosen = choose_references(avatar.track)
            np.save(folder / _REFERENCES_FILE, read_references(chosen, crops, frames, colour, self._kind.layout))

    def plan(
        self, avatar: Avatar, features: HeardSpeech, span: FrameSpan, source_index: NDArray[np.int32], state: Any
    ) -> Planned:
        """Plan the frames of `span`: each by itself, there is no state."""
        from models.quality.measures import measure_view

        plan = self.plan_frames(features, span, source_index)
        return Planned(plan, None, measure_view(avatar, source_index, features.gate))

    def plan_frames(self, features: HeardSpeech, span: FrameSpan, source_index: NDArray[np.int32]) -> BoxPlan:
        """Return the plan of T frames: what `listen` heard, and the frames that are shown."""
        return BoxPlan(span.first, np.asarray(source_index, np.int32), features.windows)

    def cut(self, avatar: Avatar, plan: BoxPlan, frames: Sequence[YuvFrame]) -> BoxChunk:
        """Cut the crops' regions out of full frames, see `contract.Engine`."""
        crops, references = avatar.remember(self, lambda: self._open(avatar.folder_of(self)))
        extra = {} if references is None else {REFERENCES: references}
        return cut_boxes(crops, avatar.info.colour, plan, frames, extra)

    def _open(self, folder: Path) -> tuple[BoxTrack, NDArray[np.uint8] | None]:
        crops = BoxTrack.load(folder / _CROPS_FILE)
        return crops, load_array(folder / _REFERENCES_FILE) if self._kind.takes_references else None

    def _load_finders(self) -> tuple[Any, Any]:
        """HeyGem's detector and landmarks where the user brought them; an avatar is analysed once, on the CPU."""
        from models.engines.dinet.finding.face_detector import FaceDetector
        from models.engines.dinet.finding.face_landmarks98 import FaceLandmarks98

        machine, path = Machine(num_threads=self._num_threads), self._weights.path
        detector = FaceDetector(path("detector"), machine) if "detector" in self._finders else None
        return detector, FaceLandmarks98(path("landmarks"), machine) if "landmarks" in self._finders else None
