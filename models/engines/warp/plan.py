"""The mouth plan: for every output frame, where the face points go and which real mouth is shown."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.exemplar_path import ExemplarPath, PathState, Wanted, choose
from models.engines.warp.exemplars import ExemplarBank
from models.engines.warp.painting.fields import CONTROL_IDS
from models.geometry.face_points import MOVED
from models.mouth.motion import REFERENCE_FPS
from models.mouth.shape import CHANNELS
from models.mouth.smile import smile_release
from models.speech.speech_to_mouth import MouthBlock
from models.track.trust import mouth_share

# Opening, in eye distances, that the warp can add to an exemplar before its own interior looks stretched ...
_STRETCH, _STRETCH_RANGE = 0.05, 0.04
# ... and that a source without open mouths can show before it needs a drawn interior.
_CLOSED, _CLOSED_RANGE = 0.008, 0.02
_TEETH_RANGE = 0.001  # none: teeth that hold still and teeth that are warped shall not be seen through each other
# Closed lips that are drawn apart turn outwards: of the opening that is added, they cover this share, and their corners
# go out by as much. So drawn, an independent landmark network sees mouths as far open as asked for (geometric mean of
# fifteen talkers).
_TURNED_OUT = 0.13
# Of the opening that is added, how much less the corners sink: predicted ones follow the jaw by .3 of it, those of six
# talkers by .12. Over sunken corners a mouth seems to open upwards.
_CORNERS_UP = 0.2
_OWN_TEETH = 0.05  # an exemplar at least as open as this has an interior of its own


@dataclass(frozen=True)
class MouthPlan:
    """Output frames [first_frame, first_frame + T). Small: it travels in place of pictures.

    Attributes:
        first_frame: Output frame of row 0.
        source_index: (T,) int32 source frame that is shown.
        target_head: (T, L, 3) float32 landmarks `controls.CONTROL_IDS` where they shall be, in the head frame.
        exemplar: (T,) int32 bank row whose mouth is shown, -1 for the source frame's own.
        fade: (T,) int32 bank row that is mixed in, -1 for none.
        fade_weight: (T,) float32 its share.
        interior: (T,) float32 share of the drawn mouth interior, 0 to 1.
        own_teeth: (T,) float32 share of the exemplar's own teeth in the drawn interior, 0 to 1.
        hold: (T,) float32 how far the mouth is held, as where nobody speaks, 0 to 1.
    """

    first_frame: int
    source_index: NDArray[np.int32]
    target_head: NDArray[np.float32]
    exemplar: NDArray[np.int32]
    fade: NDArray[np.int32]
    fade_weight: NDArray[np.float32]
    interior: NDArray[np.float32]
    own_teeth: NDArray[np.float32]
    hold: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.source_index)

    def slice(self, start: int, stop: int) -> MouthPlan:
        """Returns rows [start, stop), as copies, so that a slice does not keep or send the whole."""
        arrays = {
            field.name: getattr(self, field.name)[start:stop].copy()
            for field in fields(self)
            if field.name != "first_frame"
        }
        return MouthPlan(first_frame=self.first_frame + start, **arrays)

    def where(self, rows: NDArray[np.bool_], other: MouthPlan) -> MouthPlan:
        """Returns this plan in the (T,) `rows`, and `other` elsewhere."""
        arrays = {}
        for field in fields(self):
            if field.name != "first_frame":
                mine, theirs = getattr(self, field.name), getattr(other, field.name)
                arrays[field.name] = np.where(rows.reshape(-1, *[1] * (mine.ndim - 1)), mine, theirs)
        return MouthPlan(first_frame=self.first_frame, **arrays)


def plan_mouth(
    avatar: WarpAvatar,
    shape: NDArray[np.float32],
    source_index: NDArray[np.int32],
    state: PathState | None,
    *,
    first_frame: int = 0,
    forbidden: NDArray[np.bool_] | None = None,
    hold: NDArray[np.float32] | None = None,
    uses_bank: bool = True,
) -> tuple[MouthPlan, PathState | None]:
    """Plans T output frames.

    Args:
        avatar: The avatar.
        shape: (T, 8) float32 mouth shapes, offsets from the avatar's rest.
        source_index: (T,) source frames in [0, N).
        state: From the block before, or None.
        first_frame: Output frame of row 0.
        forbidden: (T, B) bool exemplars that may not be used, or None.
        hold: (T,) float32 how far the held mouth takes the place of `shape`, 0 to 1; None: nowhere.
        uses_bank: False to show a talking source as one that does not talk.

    Returns:
        The plan, and the state to continue from (None for a source without exemplars).
    """
    source_index = np.asarray(source_index, np.int32)
    shape = np.asarray(shape, np.float32)
    bank = avatar.bank if uses_bank else None
    hold = np.zeros(len(shape), np.float32) if hold is None else np.asarray(hold, np.float32)
    if bank is not None:
        held = avatar.held[avatar.track.shot[source_index]]
        forbidden = _held_only(forbidden, hold, held, len(bank))
        path, state = choose(bank, _wanted(avatar, bank, shape, source_index, forbidden), state)
        posed = _pose_exemplars(avatar, bank, shape, path)
        posed = _held(avatar, posed, hold, bank.frames[held])
    else:
        none = np.full(len(shape), -1, np.int32)
        path, state = ExemplarPath(none, none, np.zeros(len(shape), np.float32)), None
        posed = _pose_own_lips(avatar, shape, avatar.track.shape[source_index, 0])
    control = list(CONTROL_IDS)
    moves = np.isin(control, MOVED)
    still = avatar.track.head_points[source_index][:, control]
    target = np.where(moves[:, None], posed.face[:, control], still)  # (T, L, 3)
    own = np.asarray((posed.shown >= _OWN_TEETH) & (path.exemplar < 0), np.float32)
    plan = MouthPlan(
        first_frame,
        source_index,
        target.astype(np.float32),
        path.exemplar,
        path.fade,
        path.fade_weight,
        posed.interior.astype(np.float32),
        own,
        hold,
    )
    return plan, state


class _Posed(NamedTuple):
    """T faces as they are drawn."""

    face: NDArray[np.float32]  # (T, 468, 3) head frame
    shown: NDArray[np.float32]  # (T,) opening of the picture that is warped
    interior: NDArray[np.float32]  # (T,) share of the drawn interior


def _pose_exemplars(avatar: WarpAvatar, bank: ExemplarBank, shape: NDArray[np.float32], path: ExemplarPath) -> _Posed:
    """Moves the lips of exemplars to (T, 8) shapes, each from where its own are."""
    face = _changed(avatar, bank, path.exemplar, shape)
    fades = np.flatnonzero(path.fade >= 0)
    share = path.fade_weight[fades, None, None]
    face[fades] += share * (_changed(avatar, bank, path.fade[fades], shape[fades]) - face[fades])
    shown = bank.shape[path.exemplar, 0]
    # An open mouth shows its own interior, however far it is opened; only closed ones have none to show.
    stretched = ((shape[:, 0] - shown - _STRETCH) / _STRETCH_RANGE).clip(0, 1)
    return _Posed(face, shown, stretched * (1 - shown / _OWN_TEETH).clip(0, 1))


def _changed(
    avatar: WarpAvatar, bank: ExemplarBank, rows: NDArray[np.int32], shape: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(T, 468, 3) faces of the exemplars `rows`, their mouths changed to (T, 8) shapes."""
    return avatar.lip_model.change(avatar.track.head_points[bank.frames[rows]], shape - bank.shape[rows])


def _held_only(
    forbidden: NDArray[np.bool_] | None, hold: NDArray[np.float32], held: NDArray[np.intp], num_exemplars: int
) -> NDArray[np.bool_] | None:
    """`forbidden`, and everything but the held mouths in the frames that rather hold them."""
    rests = hold > 0.5
    if not rests.any():
        return forbidden
    others = np.asarray(rests[:, None] & (np.arange(num_exemplars) != held[:, None]))
    return others if forbidden is None else forbidden | others


def _held(avatar: WarpAvatar, posed: _Posed, hold: NDArray[np.float32], held_frame: NDArray[np.int32]) -> _Posed:
    """Leads T faces by `hold` to those of the source frames `held_frame`, whose mouths are shown as they are."""
    face = avatar.track.head_points[held_frame]
    share = hold[:, None, None]
    return posed._replace(face=posed.face + share * (face - posed.face), interior=posed.interior * (1 - hold))


def _pose_own_lips(avatar: WarpAvatar, shape: NDArray[np.float32], shown: NDArray[np.float32]) -> _Posed:
    """Warps frames whose own lips are `shown` (T,) open to (T, 8) shapes."""
    face = avatar.lip_model.deform(avatar.track.rest, _part_closed_lips(shape, shown))
    interior = ((shape[:, 0] - shown - _CLOSED) / _CLOSED_RANGE).clip(0, 1)
    # An open mouth that closes keeps its teeth where they are; squeezed between the lips they would show as a line.
    changed = (np.abs(shape[:, 0] - shown) / _TEETH_RANGE).clip(0, 1)
    return _Posed(face, shown, np.where(shown >= _OWN_TEETH, changed, interior))


def _part_closed_lips(shape: NDArray[np.float32], shown: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, 8) shapes that look as `shape` when they are drawn with lips that are `shown` open, closed as a rule.

    Lips that part turn outwards: they cover a little more of the opening than a picture of closed ones can, and stay
    apart up to their corners, which keep their height.
    """
    added = np.maximum(shape[:, 0] - shown, 0)
    turned = shape.copy()
    turned[:, CHANNELS.index("open_in")] -= _TURNED_OUT * added
    turned[:, CHANNELS.index("lower")] -= _TURNED_OUT * added / 2  # the mean of its two edges
    turned[:, CHANNELS.index("width")] += _TURNED_OUT * added
    turned[:, CHANNELS.index("corner_y")] += _CORNERS_UP * added
    return turned


def _wanted(
    avatar: WarpAvatar,
    bank: ExemplarBank,
    shape: NDArray[np.float32],
    source_index: NDArray[np.int32],
    forbidden: NDArray[np.bool_] | None,
) -> Wanted:
    # Frames that the bank does not hold are lit like the nearest that it holds.
    luma = bank.luma[bank.nearest_row(source_index)]
    rate = float(avatar.info.fps) / REFERENCE_FPS
    return Wanted(shape, avatar.pose_degrees[source_index], luma, forbidden, rate)


def plan_block(
    avatar: WarpAvatar,
    mouth: MouthBlock,
    source_index: NDArray[np.int32],
    first_frame: int,
    state: PathState | None,
) -> tuple[MouthPlan, PathState | None]:
    """Plans the output frames from `first_frame` on: see `plan_mouth`.

    Args:
        avatar: The avatar.
        mouth: T frames as predicted from the speech, for the average speaker.
        source_index: (T,) source frames.
        first_frame: Output frame of row 0.
        state: From the block before, or None.
    """
    source_index = np.asarray(source_index, np.int32)
    shape = shown_shape(avatar, mouth, source_index)
    hold = (1 - mouth.gate) * mouth_share(avatar.track.trust[source_index])
    return plan_in_shots(avatar, shape, source_index, state, first_frame=first_frame, hold=hold)


def plan_ahead(
    avatar: WarpAvatar,
    mouth: MouthBlock,
    source_index: NDArray[np.int32],
    first_frame: int,
    state: PathState | None,
    num_kept: int,
) -> tuple[MouthPlan, PathState | None]:
    """Plans T frames of which the first `num_kept` are shown; those behind are only looked at, and planned again."""
    plan, _ = plan_block(avatar, mouth, source_index, first_frame, state)
    kept = plan.slice(0, num_kept)
    if avatar.bank is None:
        return kept, None
    shape = shown_shape(avatar, mouth, source_index)
    return kept, PathState(int(kept.exemplar[-1]), shape[num_kept - 1].copy())


def shown_shape(avatar: WarpAvatar, mouth: MouthBlock, source_index: NDArray[np.int32]) -> NDArray[np.float32]:
    """(T, 8) mouth shapes of this avatar: calibrated, and led to the source's own where the effect fades out."""
    shape = avatar.calibration.apply(mouth)
    if not avatar.talks:
        # In pauses too, where a smile that comes and goes would twitch.
        shape = shape + smile_release(avatar.track.rest)
    return ease(avatar, shape, source_index)


def ease(avatar: WarpAvatar, shape: NDArray[np.float32], source_index: NDArray[np.int32]) -> NDArray[np.float32]:
    """Leads (T, 8) mouth shapes to those of the (T,) source frames where the effect fades out."""
    own = avatar.track.shape[source_index]
    share = mouth_share(avatar.track.trust[source_index])[:, None]
    return np.where(share < 1, own + share * (shape - own), shape).astype(np.float32)


def plan_in_shots(
    avatar: WarpAvatar,
    shape: NDArray[np.float32],
    source_index: NDArray[np.int32],
    state: PathState | None,
    *,
    first_frame: int = 0,
    hold: NDArray[np.float32] | None = None,
) -> tuple[MouthPlan, PathState | None]:
    """Plans frames with the exemplars of their own and of like shots: see `plan_mouth`.

    A shot without any is shown as a silent source is.
    """
    if avatar.forbidden_in_shot is None:
        return plan_mouth(avatar, shape, source_index, state, first_frame=first_frame, hold=hold)
    forbidden = avatar.forbidden_in_shot[avatar.track.shot[source_index]]
    plan, state = plan_mouth(
        avatar, shape, source_index, state, first_frame=first_frame, forbidden=forbidden, hold=hold
    )
    without = np.asarray(forbidden.all(1))
    if not without.any():
        return plan, state
    silent, _ = plan_mouth(avatar, shape, source_index, None, first_frame=first_frame, hold=hold, uses_bank=False)
    return silent.where(without, plan), state
