"""Pictures of an avatar who is silent, kept for when nobody renders any."""

from __future__ import annotations

from collections import OrderedDict

from media.live.gop_encoder import EncodedGop
from media.probe import VideoInfo

_NEAR_FRAMES = 1  # a head that is a frame early or late is not seen to jump


class KeptPictures:
    """The newest silent moments of one session, by their place in the avatar's way to and fro.

    Args:
        info: Of the avatar's source.
        max_bytes: Of all that is kept; the longest unused goes first.
    """

    def __init__(self, info: VideoInfo, max_bytes: int) -> None:
        self._period = max(1, 2 * info.num_frames - 2)  # `media.playback.source_index`, pingpong
        self._max_bytes = max_bytes
        self._groups: OrderedDict[int, EncodedGop] = OrderedDict()
        self._num_bytes = 0
        self._next: int | None = None  # where what was shown last goes on

    def keep(self, first_frame: int, pictures: EncodedGop) -> None:
        """Keep the moment that begins with a frame of the stream."""
        place = first_frame % self._period
        self._drop(place)
        self._groups[place] = pictures
        self._num_bytes += _size(pictures)
        while self._num_bytes > self._max_bytes:
            self._drop(next(iter(self._groups)))

    def begin(self, first_frame: int) -> None:
        """Go on from a frame of the stream."""
        self._next = first_frame

    def take(self) -> EncodedGop | None:
        """Return what is shown next: what follows on what was shown last, as far as it is there.

        Where it is not, the picture jumps to the longest unused moment, so that no short stretch is seen over and over.
        None: nothing is kept.
        """
        if not self._groups:
            return None
        place = self._following()
        pictures = self._groups[place]
        self._groups.move_to_end(place)
        self._next = place + len(pictures.frames)
        return pictures

    def _following(self) -> int:
        if self._next is not None:
            for step in sorted(range(-_NEAR_FRAMES, _NEAR_FRAMES + 1), key=abs):
                if (place := (self._next + step) % self._period) in self._groups:
                    return place
        return next(iter(self._groups))

    def _drop(self, place: int) -> None:
        if (dropped := self._groups.pop(place, None)) is not None:
            self._num_bytes -= _size(dropped)


def _size(pictures: EncodedGop) -> int:
    return sum(map(len, pictures.frames))
