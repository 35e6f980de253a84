"""Sees when something is in front of the mouth: a hand, a microphone, a cup.

There is no picture of every thing that can stand there, but plenty of this mouth. From the frames of a shot a small
linear model of its looks is learnt (principal components, in the manner of Torre and Black, "A framework for robust
subspace learning", IJCV 2003: what the model cannot explain is left out, and the model is learnt again). Lips, teeth,
shadows and beards are in every talker's own model. What covers them is not, and leaves a patch unexplained.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.face.mouth_view import HEIGHT, NUM_LUMA, WIDTH, view_surface
from models.geometry.head_frame import fit_head_pose, pose_degrees

_ROWS, _COLUMNS = HEIGHT // 2, WIDTH // 2
_BLACK, _NEUTRAL = 16.0, 128.0
# Residuals below these levels of Y, U, V are noise whatever the talker.
_NOISE = np.array([2.5, 1.2, 1.2], np.float32)[:, None, None]
_NUM_COMPONENTS = 6
_MAX_DEVIATIONS = 2.5  # standard deviations that a frame may go along a component
_NUM_ROUNDS = 4
_SEED_SHARE = 0.5  # of the frames, those most like the median, that the first model is learnt from
_UNEXPLAINED = 5.0  # times the usual residual
_KEPT_SHARE = 0.06  # of the view: frames with more left unexplained are not learnt from
_COVERED_SHARE, _SOME_SHARE = 0.12, 0.02  # with the former they are covered, with the latter there is something
# A view that holds less of the usual pattern is covered, even without a patch that is unexplained, or with some. Wide
# open mouths hold .7 of it and more.
_LOST, _FAINT = 0.52, 0.62
_POSE_DEGREES = (7.0, 5.0, 15.0)  # heads turned farther than this from what was learnt look different by themselves
_MIN_FACING = 0.45  # cosine: skin seen more flatly than this is stretched over few pixels
_MOUTH_LINE, _CHIN_LINE, _HALF_WIDTH = 0.35, 0.85, 1.0  # shares of the view: an arch, straight above the mouth
_MAX_TINT = 6.0
# Of the field of light: terms in each round, widths (logarithm of luma) beyond which a cell counts little, levels added
# before the logarithm, and the largest logarithm.
_LIGHT_TERMS, _LIGHT_WIDTHS = (3, 6), (0.6, 0.4, 0.25, 0.15, 0.15)
_DARK, _MAX_LIGHT = 4.0, 1.4
_USUAL_LUMA, _MAX_BRIGHTENED = 80.0, 4.0  # dark views are brightened: else all that they show is less than `_NOISE`

MIN_FRAMES: Final = 40  # fewer do not show what a mouth can look like
_MAX_FRAMES = 1500  # a model is learnt anew after as many, as light changes over a day
_MAX_LEARNT = 400  # frames that components are computed from
_MIN_RUN = 2  # frames: a single one is noise, unless it is another picture altogether: a flash
_MARGIN = 2  # frames around a covered run in which the thing is on its way
# Share left unexplained in a flash: .75 in those tried; talkers have .00 in any light that was tried.
_FLASH_SHARE = 0.4


def covered(
    views: NDArray[np.uint8], points: NDArray[np.floating], present: NDArray[np.bool_], shot: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Returns (N,) whether something is in front of the mouth.

    Args:
        views: (N, 1152) `models.face.mouth_view.view_of` each frame.
        points: (N, 468, 3) landmarks in pixels.
        present: (N,) frames with the face; the others are never covered.
        shot: (N,) number of the shot; a model is learnt for each that is long enough.
    """
    result = np.zeros(len(present), bool)
    for frames in _groups(present, shot):
        hit, unexplained = _judge(views[frames], points[frames])
        result[frames[unexplained >= _FLASH_SHARE]] = True
        for run in _runs(hit, frames):
            if len(run) >= _MIN_RUN:
                result[max(0, run[0] - _MARGIN) : run[-1] + 1 + _MARGIN] = True
    return np.asarray(result & present)


def _judge(views: NDArray[np.uint8], points: NDArray[np.floating]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether each of (N, 1152) views, judged by the model learnt from all N, shows something else than the mouth.

    Returns:
        (N,) that, and (N,) the share of each view that the model cannot explain.
    """
    rotation = fit_head_pose(points).rotation
    seen = (view_surface(_COLUMNS, _ROWS).facing(rotation) > _MIN_FACING) & _face()
    cells = _even_light(_cells(views))  # (N, 3, 12, 16)
    evidence = _evidence(cells, seen, pose_degrees(rotation))
    lost = evidence.likeness * evidence.tolerance
    by_patch = evidence.unexplained >= _COVERED_SHARE
    hit = by_patch | (lost < _LOST) | ((lost < _FAINT) & (evidence.unexplained >= _SOME_SHARE))
    return np.asarray(hit), evidence.unexplained


class _Evidence(NamedTuple):
    unexplained: NDArray[np.float64]  # (N,) share of the view that the model cannot explain
    likeness: NDArray[np.float64]  # (N,) how much of the usual pattern of lips and shadows is there, 0 to 1
    tolerance: NDArray[np.float64]  # (N,) 1 for poses like those that were learnt, more for others


def _evidence(cells: NDArray[np.float32], seen: NDArray[np.bool_], degrees: NDArray[np.floating]) -> _Evidence:
    flat = (cells / _NOISE).reshape(len(cells), -1)
    distance = _blur(np.abs(flat - np.median(flat, 0)).reshape(cells.shape))
    spread = np.sqrt((distance**2).mean((1, 2, 3)))
    learnt = spread <= np.quantile(spread, _SEED_SHARE)
    nothing = np.zeros(len(cells))
    share, tolerance = nothing, nothing + 1
    for _ in range(_NUM_ROUNDS):
        residual, usual = _residuals(flat, learnt, cells.shape)
        tolerance = _tolerance(degrees, learnt)
        limit = _UNEXPLAINED * tolerance[:, None, None]
        share = (((residual / usual).max(1) > limit) & seen).mean((1, 2))
        learnt = share <= _KEPT_SHARE
        if learnt.sum() < MIN_FRAMES // 2:
            return _Evidence(nothing, nothing + 1, nothing + 1)  # nothing is usual here
    return _Evidence(share, _likeness(cells, seen), tolerance)


@cache
def _face() -> NDArray[np.bool_]:
    """(12, 16) the part of a view that shows the face in any pose; a nod brings collars in at the bottom and beside."""
    x, y = np.meshgrid((np.arange(_COLUMNS) + 0.5) * 2 / _COLUMNS - 1, (np.arange(_ROWS) + 0.5) / _ROWS)
    low = np.maximum(y - _MOUTH_LINE, 0) / (_CHIN_LINE - _MOUTH_LINE)
    return np.asarray((x / _HALF_WIDTH) ** 2 + low**2 < 1)


def _likeness(cells: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How much of the median view's pattern a view holds, in luma and in chroma: 0 where lips and shadows are gone.

    A hand has the colour of the skin around, yet no lips.
    """
    weight = seen[:, None].astype(np.float32)
    usual = np.median(cells, 0)[None]
    mean = weight.sum((2, 3), keepdims=True).clip(1)
    pattern = usual - (weight * usual).sum((2, 3), keepdims=True) / mean
    own = cells - (weight * cells).sum((2, 3), keepdims=True) / mean
    shared = (weight * own * pattern).sum((2, 3))  # (N, 3)
    whole = (weight * pattern**2).sum((2, 3)) + 1e-3
    luma = (shared[:, 0] + 1e-3) / whole[:, 0]
    # Without colour there is nothing to miss.
    noise = float((_NOISE[1:] ** 2).sum()) * weight.sum((1, 2, 3))
    chroma = (shared[:, 1:].sum(1) + noise / 10) / (whole[:, 1:].sum(1) + noise / 10)
    return np.asarray((luma.clip(0, 1) + chroma.clip(0, 1)) / 2)


def _groups(present: NDArray[np.bool_], shot: NDArray[np.int32]) -> list[NDArray[np.intp]]:
    """Frames with the face that are judged together: long shots in pieces, short shots all together."""
    groups, short = [], []
    for number in np.unique(shot):
        frames = np.flatnonzero(present & (shot == number))
        if len(frames) < MIN_FRAMES:
            short.append(frames)
        else:
            groups += np.array_split(frames, -(-len(frames) // _MAX_FRAMES))
    rest = np.concatenate(short) if short else np.empty(0, np.intp)
    return [*groups, rest] if len(rest) >= MIN_FRAMES else groups


def _runs(hit: NDArray[np.bool_], frames: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Unbroken runs of the frames that were hit."""
    found = frames[hit]
    return [run for run in np.split(found, np.flatnonzero(np.diff(found) > 1) + 1) if len(run)]


def _cells(views: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 3, 12, 16) float32 Y above black, U and V from neutral; luma averaged to the size of chroma."""
    luma = views[:, :NUM_LUMA].reshape(-1, _ROWS, 2, _COLUMNS, 2).astype(np.float32).mean((2, 4))
    chroma = views[:, NUM_LUMA:].reshape(-1, 2, _ROWS, _COLUMNS).astype(np.float32)
    return np.concatenate([(luma[:, None] - _BLACK).clip(0), chroma - _NEUTRAL], 1)


def _even_light(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Takes out light and tint that change smoothly over the view: lamps, side light that moves, exposure.

    Light multiplies luma and chroma alike. Its field is a quadratic of the place, fitted to the logarithm of the luma's
    ratio to the usual view by reweighted least squares, so that what covers a part of the view does not bend it.
    """
    basis = _light_basis()  # (M, 192)
    for num_terms in _LIGHT_TERMS:
        luma = cells[:, 0].reshape(len(cells), -1) + _DARK
        field = _fit_light(np.log(luma / np.median(luma, 0)), basis[:num_terms])
        gain = np.exp(-field).reshape(len(cells), 1, _ROWS, _COLUMNS)
        cells = np.concatenate([(cells[:, :1] + _DARK) * gain - _DARK, cells[:, 1:] * gain], 1)
    cells = cells * np.clip(_USUAL_LUMA / (np.median(cells[:, 0]) + _DARK), 1.0, _MAX_BRIGHTENED).astype(np.float32)
    tint = np.median(cells[:, 1:] - np.median(cells[:, 1:], 0), axis=(2, 3)).clip(-_MAX_TINT, _MAX_TINT)
    return np.asarray(np.concatenate([cells[:, :1], cells[:, 1:] - tint[:, :, None, None]], 1), np.float32)


def _fit_light(ratio: NDArray[np.floating], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 192) the combination of (M, 192) basis functions that most cells of each (N, 192) log ratio follow."""
    field = np.zeros(ratio.shape) + np.median(ratio, 1, keepdims=True)
    small = 1e-3 * np.eye(len(basis))
    for width in _LIGHT_WIDTHS:
        weight = 1 / (1 + ((ratio - field) / width) ** 2) ** 2
        normal = (weight[:, None] * basis) @ basis.T + small
        terms = np.linalg.solve(normal, ((weight * ratio) @ basis.T)[..., None])[..., 0]
        field = terms @ basis
    return np.asarray(field.clip(-_MAX_LIGHT, _MAX_LIGHT))


@cache
def _light_basis() -> NDArray[np.float64]:
    """(6, 192) 1, x, y, xy, x^2, y^2 over a view, x and y from -1 to 1."""
    x, y = np.meshgrid((np.arange(_COLUMNS) + 0.5) * 2 / _COLUMNS - 1, (np.arange(_ROWS) + 0.5) * 2 / _ROWS - 1)
    return np.stack([x**0, x, y, x * y, x**2, y**2]).reshape(6, -1)


def _residuals(
    flat: NDArray[np.float32], learnt: NDArray[np.bool_], shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What components of the learnt frames leave of each, (N, 3, 12, 16), and what they usually leave, (3, 12, 16)."""
    rows = np.flatnonzero(learnt)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MAX_LEARNT)).astype(int)]
    middle = flat[rows].mean(0)
    _, singular, components = np.linalg.svd(flat[rows] - middle, full_matrices=False)
    components, deviation = components[:_NUM_COMPONENTS], singular[:_NUM_COMPONENTS] / np.sqrt(len(rows))
    limit = _MAX_DEVIATIONS * deviation
    place = ((flat - middle) @ components.T).clip(-limit, limit)
    left = (flat - middle - place @ components).reshape(shape)
    usual = np.sqrt(_blur((left[rows] ** 2).mean(0, keepdims=True)).clip(1.0))[0]
    return _blur(np.abs(left)), usual


def _tolerance(degrees: NDArray[np.floating], learnt: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N,) factor of what counts as unexplained, 1 for poses like those that were learnt."""
    usual = degrees[learnt]
    low, high = np.quantile(usual, 0.1, axis=0), np.quantile(usual, 0.9, axis=0)
    beyond = np.maximum(np.maximum(low - degrees, degrees - high), 0) / _POSE_DEGREES
    return np.asarray(1 + (beyond**2).sum(1))


def _blur(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of 3 x 3 cells, edges repeated."""
    padded = np.pad(cells, ((0, 0), (0, 0), (1, 1), (1, 1)), "edge")
    rows = padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]
    return np.asarray((rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) * np.float32(1 / 9))
