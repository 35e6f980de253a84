"""The clips of an avatar and the transitions between them, as frames of its composite source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from lipwright.media.playback import ClipKind as ClipKind

OWN: Final = ""
"""Name of the avatar's own video."""


class Clip(NamedTuple):
    """Frames [start, stop) of the composite source.

    Attributes:
        name: What actions are called by; `OWN` for the avatar's own video.
        kind: When it is shown: while nobody speaks, while somebody speaks, or when it is named. None for the avatar's
            own video, which is shown at any time.
    """

    name: str
    kind: ClipKind | None
    start: int
    stop: int


class Transition(NamedTuple):
    """A way from one frame to another.

    Attributes:
        leave: The last frame before it.
        bridge: First of `num_bridge` frames, made for this transition, between the two.
        num_bridge: May be 0.
        enter: The frame after it.
        cost: How much the two frames differ, 0 (as much as neighbours of one clip) and more.
    """

    leave: int
    bridge: int
    num_bridge: int
    enter: int
    cost: float


@dataclass(frozen=True)
class ClipGraph:
    """What a composite source holds: first all clips, then all bridges.

    Attributes:
        clips: In the order of their frames.
        transitions: By `leave`, ascending.
        fps: Frames per second.
    """

    clips: tuple[Clip, ...]
    transitions: tuple[Transition, ...]
    fps: float = 25.0

    @property
    def cuts(self) -> list[int]:
        """Return the frames of the composite that do not continue those before them: starts of clips and bridges."""
        bridges = {transition.bridge for transition in self.transitions if transition.num_bridge}
        return sorted({clip.start for clip in self.clips[1:]} | bridges)

    def to_json(self) -> list[list[list[str | float | None]]]:
        """Return the graph as JSON values."""
        clips, transitions = ([list(each) for each in part] for part in (self.clips, self.transitions))
        return [clips, transitions, [[self.fps]]]

    @classmethod
    def from_json(cls, value: list[list[list[object]]]) -> ClipGraph:
        """Return the graph of `to_json`."""
        clips, transitions, ((fps,),) = value
        return cls(
            tuple(Clip(*fields) for fields in clips),  # type: ignore[arg-type]
            tuple(Transition(*fields) for fields in transitions),  # type: ignore[arg-type]
            fps,  # type: ignore[arg-type]
        )

    @property
    def action_names(self) -> list[str]:
        """Names of the clips that are actions."""
        return [clip.name for clip in self.clips if clip.kind == "action"]

    def clip_at(self, frame: int) -> Clip | None:
        """Return the clip that has a frame; None for a frame of a bridge."""
        return next((clip for clip in self.clips if clip.start <= frame < clip.stop), None)
