"""The two kinds of generator, as the engine sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from models.engines.box.box_track import BoxTrack
from models.engines.contract import EngineWeights, Listener, Machine, Painter
from models.engines.dinet.box_smoothing import runs_of
from models.engines.dinet.crop_boxes import dinet_boxes, heygem_boxes
from models.engines.dinet.crop_layout import CropLayout
from models.engines.dinet.options import DinetOptions
from models.track.trust import patch_share

if TYPE_CHECKING:
    from models.track.face_track import FaceTrack

_CPU_BATCH, _CUDA_BATCH = 1, 4


class DinetKind(Protocol):
    """What differs between the kinds."""

    hears: str
    """See `contract.Engine`."""
    version: str
    """Of where the crops lie."""
    layout: CropLayout
    """What the generator sees of a crop."""
    takes_references: bool
    """Whether it is shown other frames of the avatar."""

    def boxes(self, points: NDArray[np.float32], track: FaceTrack) -> NDArray[np.float64]:
        """Return the (N, 4) crops of (N, 68, 2) points."""
        ...

    def listener(self, weights: EngineWeights, machine: Machine) -> Listener:
        """Load the network that hears."""
        ...

    def painter(self, weights: EngineWeights, machine: Machine) -> Painter:
        """Load the generator."""
        ...


class HeyGemKind:
    """HeyGem's `dinet_v1`.

    Args:
        options: The engine's.
    """

    takes_references = False

    def __init__(self, options: DinetOptions) -> None:
        self._options = options
        self.hears = "wenet-exact" if options.exact_chunks else "wenet"
        self.version = f"heygem-{options.fit}"
        self.layout = CropLayout(256, 256, options.mask_rows, options.mask_columns, 256, "cubic")

    def boxes(self, points: NDArray[np.float32], track: FaceTrack) -> NDArray[np.float64]:
        """Return the (N, 4) crops of (N, 68, 2) points."""
        return heygem_boxes(points, track.present, track.pixel_aspect, self._options.fit)

    def listener(self, weights: EngineWeights, machine: Machine) -> Listener:
        """Load wenet's encoder."""
        from models.engines.dinet.hearing.wenet_listener import WenetListener

        return WenetListener(weights.path("speech"), machine, exact_chunks=self._options.exact_chunks)

    def painter(self, weights: EngineWeights, machine: Machine) -> Painter:
        """Load the generator."""
        from models.engines.dinet.heygem_generator import HeyGemGenerator
        from models.engines.dinet.painters import HeyGemPainter

        generator = HeyGemGenerator(
            weights.path("generator"), machine, self.layout, _batch_size(self._options, machine)
        )
        return HeyGemPainter(generator, self.layout, self._options.paste)


class OriginalKind:
    """The published DINet.

    Args:
        options: The engine's.
    """

    hears = "deepspeech"
    version = "original"
    takes_references = True
    # Mouth region M = 256: crop of 1.625 M x 1.25 M, black from M / 2 and M / 8 on; inference.py writes 3 / 3.25 of it.
    layout = CropLayout(416, 320, (128, 383), (32, 287), 384, "linear")

    def __init__(self, options: DinetOptions) -> None:
        self._options = options

    def boxes(self, points: NDArray[np.float32], track: FaceTrack) -> NDArray[np.float64]:
        """Return the (N, 4) crops of (N, 68, 2) points."""
        return dinet_boxes(points, runs_of(track.present, track.shot))

    def listener(self, weights: EngineWeights, machine: Machine) -> Listener:
        """Load DeepSpeech."""
        from models.engines.dinet.hearing.deepspeech_listener import DeepSpeechListener

        return DeepSpeechListener(weights.path("speech"), machine)

    def painter(self, weights: EngineWeights, machine: Machine) -> Painter:
        """Load the generator."""
        from models.engines.dinet.original.generator import DinetGenerator
        from models.engines.dinet.painters import DinetPainter

        size = _batch_size(self._options, machine)
        generator = DinetGenerator(weights.path("generator"), machine, self.layout, size, self._options.precision)
        return DinetPainter(generator, self.layout, self._options.paste)


def lay_crops(kind: DinetKind, points: NDArray[np.float32], track: FaceTrack) -> BoxTrack:
    """Lay the crops of an avatar.

    Args:
        kind: Whose crops.
        points: (N, 68, 2) frame pixels.
        track: The avatar's face.
    """
    boxes = kind.boxes(points, track)
    return BoxTrack.of(boxes, kind.layout.outline(boxes, points), patch_share(track.trust))


def _batch_size(options: DinetOptions, machine: Machine) -> int:
    return options.batch_size or (_CUDA_BATCH if machine.device == "cuda" else _CPU_BATCH)
