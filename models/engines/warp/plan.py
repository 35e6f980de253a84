"""The mouth plan: for every output frame, where the face points go and which real mouth is shown."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.avatar import OWN_TEETH, WarpAvatar
from models.engines.warp.exemplar_path import ExemplarPath, PathState, PathTarget, choose_path
from models.engines.warp.exemplars import ExemplarBank
from models.engines.warp.painting.fields import CONTROL_IDS, MOVED_ROWS
from models.geometry.head_frame import MOVED
from models.mouth.lip_form import round_lips, rounding
from models.mouth.motion import REFERENCE_FPS, smile_release, smiling
from models.mouth.shape import CHANNELS, DEFAULT_SCALE, OPEN_MOUTH, measure
from models.speech.speech_to_mouth import MouthBlock
from models.track.face_track import mouth_share

# Opening, in eye distances, that the warp can add to an exemplar before its interior looks stretched ...
_STRETCH, _STRETCH_RANGE = 0.05, 0.04
# ... and that a source without open mouths can show before it needs a drawn interior.
_CLOSED, _CLOSED_RANGE = 0.008, 0.02
_TEETH_RANGE = 0.001  # almost a step: fixed and warped teeth must not be visible through each other
# Closed lips that are pulled apart turn outwards: they cover this share of the added opening, and their corners move
# out by as much. An independent landmark network then measures mouths as far open as requested (geometric mean of
# fifteen speakers).
_TURNED_OUT = 0.13
# Share of the added opening that is left out for the lips of an open smile: the full amount would show a dark band
# between lip and teeth along the smile.
_STRETCHED = 0.5
# Share of the added opening by which the corners are raised: predicted corners sink by .3 of it, those of six speakers
# by .12. With sunken corners a mouth seems to open upwards.
_CORNERS_UP = 0.2
# Opening, in eye distances, up to which an image is opened fully, and the limit that larger openings approach. On two
# faces drawn with more and more movement, lips have ragged edges from .28 and .32 on; 99 % of the mouths of nine of
# eleven real speakers are open by .12 to .28.
_REACH, _MAX_REACH = 0.17, 0.27
# From the first to the second value, the own opening of an exemplar lowers that limit to the third: beyond, the dark
# between its jaws is a flat band below the upper lip (seen on a speaker with a moustache).
_WIDE, _VERY_WIDE, _MAX_WIDER = 0.05, 0.15, 0.02
# The same for the form of an exemplar's lips, in standard deviations of speech.
_FORM_REACH, _MAX_FORM_REACH = 3.0, 4.5
_FORM = [CHANNELS.index(name) for name in ("width", "upper", "corner_y")]
_UPPER, _LOWER = CHANNELS.index("upper"), CHANNELS.index("lower")


@dataclass(frozen=True)
class MouthPlan:
    """Plan of output frames [first_frame, first_frame + T). Small, so it is sent instead of images."""

    first_frame: int  # output frame of row 0
    source_index: NDArray[np.int32]  # (T,) source frames
    # (T, L, 3) target positions of the landmarks `painting.fields.CONTROL_IDS`, head frame
    target_head: NDArray[np.float32]
    exemplar: NDArray[np.int32]  # (T,) bank row whose mouth is shown, -1 for the source frame's own
    fade: NDArray[np.int32]  # (T,) bank row that is blended in, -1 for none
    fade_weight: NDArray[np.float32]  # (T,) its weight
    interior: NDArray[np.float32]  # (T,) weight of the drawn mouth interior, 0 to 1
    own_teeth: NDArray[np.float32]  # (T,) weight of the exemplar's own teeth, drawn over or closed over, 0 to 1
    hold: NDArray[np.float32]  # (T,) weight of the held mouth (1 in silence), 0 to 1
    rounding: NDArray[np.float32]  # (T,) how far the lips are rounded, 0 to 1

    def __len__(self) -> int:
        return len(self.source_index)

    def slice(self, start: int, stop: int) -> MouthPlan:
        """Return copies of rows [start, stop), so that a slice does not keep or send the whole plan."""
        arrays = {
            field.name: getattr(self, field.name)[start:stop].copy()
            for field in fields(self)
            if field.name != "first_frame"
        }
        return MouthPlan(first_frame=self.first_frame + start, **arrays)

    def where(self, rows: NDArray[np.bool_], other: MouthPlan) -> MouthPlan:
        """Return this plan in the (T,) `rows`, and `other` elsewhere."""
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
    spoken: NDArray[np.float32] | None = None,
    fps: float = REFERENCE_FPS,
) -> tuple[MouthPlan, PathState | None]:
    """Plan T output frames.

    Args:
        avatar: The avatar.
        shape: (T, 8) float32 mouth shapes, offsets from the avatar's rest.
        source_index: (T,) source frames in [0, N).
        state: From the previous block, or None.
        first_frame: Output frame of row 0.
        forbidden: (T, B) bool exemplars that must not be used, or None.
        hold: (T,) float32 weight of the held mouth over `shape`, 0 to 1; None: zero.
        uses_bank: False to treat a talking source like one that does not talk.
        spoken: (T, 8) float32 mouth shapes as they are spoken, which `shape` shows on this face; None: `shape`.
        fps: Output frames per second.

    Returns:
        The plan, and the state for the next block (None without exemplars).
    """
    source_index = np.asarray(source_index, np.int32)
    shape = np.asarray(shape, np.float32)
    rounded = rounding(shape if spoken is None else spoken)
    bank = avatar.bank if uses_bank else None
    hold = np.zeros(len(shape), np.float32) if hold is None else np.asarray(hold, np.float32)
    closes = np.zeros_like(hold)
    if bank is None:
        none = np.full(len(shape), -1, np.int32)
        path, state = ExemplarPath(none, none, np.zeros(len(shape), np.float32)), None
        posed = _pose_own_lips(avatar, shape, source_index, rounded)
    else:
        held = avatar.held[avatar.track.shot[source_index]]
        forbidden = _held_only(forbidden, hold, held, len(bank))
        path, state = choose_path(bank, _make_target(avatar, bank, shape, source_index, forbidden, fps), state)
        # Lips that are never seen closed are brought together instead of held in their own shape.
        closes = np.where(bank.shape[held, 0] > OPEN_MOUTH, hold, closes)
        posed = _blend_held(avatar, _pose_exemplars(avatar, bank, shape, path), hold - closes, bank.frames[held])
    plan = MouthPlan(
        first_frame,
        source_index,
        _control_points(avatar, posed, source_index),
        path.exemplar,
        path.fade,
        path.fade_weight,
        posed.interior.astype(np.float32),
        np.maximum(_own_teeth(avatar, posed, path, source_index), closes),
        hold,
        rounded,
    )
    return plan, state


class _Posed(NamedTuple):
    """T posed faces."""

    face: NDArray[np.float32]  # (T, 468, 3) head frame
    shown: NDArray[np.float32]  # (T,) opening in the image that is warped
    interior: NDArray[np.float32]  # (T,) weight of the drawn interior


def _control_points(avatar: WarpAvatar, posed: _Posed, source_index: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the (T, L, 3) targets of `CONTROL_IDS`: posed where the mouth moves the face, else the source's own."""
    targets = avatar.track.head_points[source_index][:, CONTROL_IDS]
    targets[:, MOVED_ROWS] = posed.face[:, MOVED]
    return avatar.on_skin(targets, measure(posed.face) - measure(avatar.track.rest[None]))


def _own_teeth(
    avatar: WarpAvatar, posed: _Posed, path: ExemplarPath, source_index: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Return the (T,) weights of the source's own teeth in a drawn interior."""
    # The far half of an open mouth may lie in front of the background, which would be taken for teeth.
    shows_own = (posed.shown >= OWN_TEETH) & (path.exemplar < 0) & ~avatar.is_turned[source_index]
    return np.asarray(shows_own, np.float32)


def _pose_exemplars(avatar: WarpAvatar, bank: ExemplarBank, shape: NDArray[np.float32], path: ExemplarPath) -> _Posed:
    """Move the lips of exemplars from their own shapes to (T, 8) shapes."""
    face = _change_mouths(avatar, bank, path.exemplar, shape)
    fades = np.flatnonzero(path.fade >= 0)
    share = path.fade_weight[fades, None, None]
    face[fades] += share * (_change_mouths(avatar, bank, path.fade[fades], shape[fades]) - face[fades])
    shown = bank.shape[path.exemplar, 0]
    # An open exemplar keeps its own interior however far it is opened; only closed ones need a drawn one.
    stretched = ((shape[:, 0] - shown - _STRETCH) / _STRETCH_RANGE).clip(0, 1)
    return _Posed(face, shown, stretched * (1 - shown / OWN_TEETH).clip(0, 1))


def _change_mouths(
    avatar: WarpAvatar, bank: ExemplarBank, rows: NDArray[np.int32], shape: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the (T, 468, 3) faces of the exemplars `rows` with their mouths changed to (T, 8) shapes."""
    own = bank.shape[rows]
    most = np.interp(own[:, :1], (_WIDE, _VERY_WIDE), (_MAX_REACH, _MAX_WIDER))
    change = _within_form(_within_reach(shape - own, most))
    return avatar.lip_model.change(avatar.track.head_points[bank.frames[rows]], change)


def _within_reach(change: NDArray[np.floating], most: NDArray[np.floating] | float = _MAX_REACH) -> NDArray[np.float32]:
    """Return (T, 8) changes of shape, scaled down where they open the mouth of an image by almost (T, 1) `most`."""
    opening, reach = change[:, :1], _REACH / _MAX_REACH * most
    reached = _limited(opening, reach, most)
    return np.where(opening > reach, change * (reached / np.maximum(opening, reach)), change).astype(np.float32)


def _within_form(change: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (T, 8) changes of shape that leave the lips their form: stretched too far, the upper one is a flat band.

    Where the upper lip would rise too far, both lips are lower by as much: the opening stays.
    """
    kept = change.copy()
    size = np.abs(change) / DEFAULT_SCALE
    kept[:, _FORM] = (np.sign(change) * _limited(size, _FORM_REACH, _MAX_FORM_REACH) * DEFAULT_SCALE)[:, _FORM]
    kept[:, _LOWER] += change[:, _UPPER] - kept[:, _UPPER]
    return kept


def _limited(
    size: NDArray[np.floating], reach: NDArray[np.floating] | float, most: NDArray[np.floating] | float
) -> NDArray[np.floating]:
    """Return sizes of changes, of which those above `reach` approach `most`."""
    return np.where(size > reach, reach + (most - reach) * np.tanh((size - reach) / (most - reach)), size)


def _held_only(
    forbidden: NDArray[np.bool_] | None, hold: NDArray[np.float32], held: NDArray[np.intp], num_exemplars: int
) -> NDArray[np.bool_] | None:
    """Add to `forbidden` all but the held exemplar in frames with `hold` above one half."""
    rests = hold > 0.5
    if not rests.any():
        return forbidden
    others = np.asarray(rests[:, None] & (np.arange(num_exemplars) != held[:, None]))
    return others if forbidden is None else forbidden | others


def _blend_held(avatar: WarpAvatar, posed: _Posed, hold: NDArray[np.float32], held_frame: NDArray[np.int32]) -> _Posed:
    """Blend T faces by `hold` with those of the source frames `held_frame`, whose mouths are shown unchanged."""
    face = avatar.track.head_points[held_frame]
    share = hold[:, None, None]
    return posed._replace(face=posed.face + share * (face - posed.face), interior=posed.interior * (1 - hold))


def _pose_own_lips(
    avatar: WarpAvatar, shape: NDArray[np.float32], source_index: NDArray[np.int32], rounded: NDArray[np.float32]
) -> _Posed:
    """Warp the lips of the (T,) source frames to (T, 8) shapes with (T,) rounded lips."""
    own = avatar.track.shape[source_index]
    shown = own[:, 0]
    kept = avatar.own_form(source_index)[:, None]
    form = avatar.track.rest + kept[..., None] * (avatar.track.head_points[source_index] - avatar.track.rest)
    face = avatar.lip_model.change(form, _within_reach(_part_lips(shape, shown, kept[:, 0]) - kept * own))
    interior = ((shape[:, 0] - shown - _CLOSED) / _CLOSED_RANGE).clip(0, 1)
    # An open mouth that closes keeps its teeth in place; squeezed between the lips they would show as a line.
    changed = (np.abs(shape[:, 0] - shown) / _TEETH_RANGE).clip(0, 1)
    return _Posed(round_lips(face, rounded), shown, np.where(shown >= OWN_TEETH, changed, interior))


def _part_lips(
    shape: NDArray[np.float32], shown: NDArray[np.float32], are_open: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return (T, 8) shapes that look like `shape` when drawn with the (usually closed) lips of an image.

    Parting lips turn outwards: they cover slightly more of the opening than an image of closed lips can, and they part
    up to their corners, which keep their height. Lips that `are_open` in the image, from 0 to 1, smile: they are
    stretched and give way less.
    """
    added = np.maximum(shape[:, 0] - shown, 0)
    covered = (_TURNED_OUT + (_STRETCHED - _TURNED_OUT) * are_open) * added
    turned = shape.copy()
    turned[:, CHANNELS.index("open_in")] -= covered
    turned[:, CHANNELS.index("lower")] -= covered / 2  # the mean of two edges
    turned[:, CHANNELS.index("width")] += _TURNED_OUT * (1 - are_open) * added
    turned[:, CHANNELS.index("corner_y")] += _CORNERS_UP * added
    return turned


def _make_target(
    avatar: WarpAvatar,
    bank: ExemplarBank,
    shape: NDArray[np.float32],
    source_index: NDArray[np.int32],
    forbidden: NDArray[np.bool_] | None,
    fps: float,
) -> PathTarget:
    # Frames that are not in the bank get the brightness of the nearest one that is.
    luma = bank.luma[bank.nearest_row(source_index)]
    return PathTarget(shape, avatar.track.pose_degrees[source_index], luma, forbidden, fps / REFERENCE_FPS)


def plan_block(
    avatar: WarpAvatar,
    mouth: MouthBlock,
    source_index: NDArray[np.int32],
    first_frame: int,
    state: PathState | None,
) -> tuple[MouthPlan, PathState | None]:
    """Plan T output frames from the mouth predicted for the average speaker; see `plan_mouth`."""
    source_index = np.asarray(source_index, np.int32)
    calibrated = avatar.calibration.apply(mouth)
    shape = calibrated if mouth.smile is None else calibrated + smiling(mouth.smile)
    shape = shown_shape(avatar, shape, source_index)
    # A held mouth stays held next to gaps, where only its patch fades out: the source's own mouth may be open there.
    hold = (1 - mouth.gate).astype(np.float32)
    return plan_in_shots(
        avatar, shape, source_index, state, first_frame=first_frame, hold=hold, spoken=calibrated, fps=float(mouth.fps)
    )


def plan_ahead(
    avatar: WarpAvatar,
    mouth: MouthBlock,
    source_index: NDArray[np.int32],
    first_frame: int,
    state: PathState | None,
    num_kept: int,
) -> tuple[MouthPlan, PathState | None]:
    """Plan T frames and keep the first `num_kept`; the rest are look-ahead and are planned again in the next call."""
    plan, _ = plan_block(avatar, mouth, source_index, first_frame, state)
    kept = plan.slice(0, num_kept)
    if avatar.bank is None:
        return kept, None
    shape = shown_shape(avatar, avatar.calibration.apply(mouth), source_index)
    return kept, PathState(int(kept.exemplar[-1]), shape[num_kept - 1].copy())


def shown_shape(avatar: WarpAvatar, shape: NDArray[np.float32], source_index: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the (T, 8) mouth shapes to show for calibrated ones, blended with the source's where the effect fades."""
    if not avatar.talks:
        # In pauses too, as a smile that comes and goes would twitch.
        shape = shape + smile_release(avatar.track.rest, shape)
    return blend_with_source(avatar, shape, source_index)


def blend_with_source(
    avatar: WarpAvatar, shape: NDArray[np.float32], source_index: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Blend (T, 8) mouth shapes with those of the (T,) source frames where the effect fades out."""
    own = avatar.track.shape[source_index]
    share = mouth_share(avatar.track.driving_weight[source_index])[:, None]
    return np.where(share < 1, own + share * (shape - own), shape).astype(np.float32)


def plan_in_shots(
    avatar: WarpAvatar,
    shape: NDArray[np.float32],
    source_index: NDArray[np.int32],
    state: PathState | None,
    *,
    first_frame: int = 0,
    hold: NDArray[np.float32] | None = None,
    spoken: NDArray[np.float32] | None = None,
    fps: float = REFERENCE_FPS,
) -> tuple[MouthPlan, PathState | None]:
    """Plan frames with the exemplars of their own and of similar shots; see `plan_mouth`.

    A shot without exemplars is treated like a source that does not talk, and so are frames whose head is turned far.
    """
    plan_frames = partial(
        plan_mouth, avatar, shape, source_index, first_frame=first_frame, hold=hold, spoken=spoken, fps=fps
    )
    is_turned = avatar.is_turned[source_index]
    forbidden = None if avatar.forbidden_in_shot is None else avatar.forbidden_in_shot[avatar.track.shot[source_index]]
    plan, state = plan_frames(state, forbidden=forbidden)
    without = is_turned if forbidden is None else is_turned | forbidden.all(1)
    if avatar.bank is None or not without.any():
        return plan, state
    silent, _ = plan_frames(None, uses_bank=False)
    return silent.where(without, plan), state
