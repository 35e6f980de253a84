from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.clips import transitions
from models.clips.fitting import fit_clip
from models.clips.graph import Clip, ClipKind
from models.clips.transitions import FrameFeatures, Match, find_matches
from tests.unit.media.clips import info_of
from tests.unit.models.clips.tracks import HEIGHT, WIDTH, track_at

FPS, PERIOD = 25.0, 40


def swaying(num: int, phase: int, noise: float = 0.0) -> NDArray[np.float64]:
    """X of a head that sways with a period of `PERIOD` frames."""
    at = np.arange(num) + phase
    return 90 + 20 * np.sin(2 * np.pi * at / PERIOD) + noise * np.random.default_rng(phase).normal(size=num)


def find(
    *heads: NDArray[np.float64], kinds: tuple[ClipKind | None, ...], hands: bool = False
) -> tuple[list[Clip], list[Match]]:
    clips, fitted, features = [], [], list[FrameFeatures]()
    for number, (xs, kind) in enumerate(zip(heads, kinds, strict=True)):
        track, info = track_at(xs, 60.0), info_of(WIDTH, HEIGHT, Fraction(25), len(xs))
        fitted.append(fit_clip(f"{number}" if number else "", info, track, info, track))
        start = len(features)
        for x, points in zip(xs, fitted[-1].points, strict=True):
            luma = np.full((HEIGHT, WIDTH), 80, np.uint8)
            luma[130:, int(x) - 40 : int(x) + 40] = 140
            if hands and number:
                luma[130:, :30] = 250
            half = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
            features.append(FrameFeatures.of(YuvFrame(luma, half, half), points))
        clips.append(Clip(f"{number}" if number else "", kind, start, len(features)))
    return clips, find_matches(clips, fitted, features, FPS)


def test_find_matches_joins_frames_of_equal_place_and_direction() -> None:
    _, matches = find(swaying(150, 0), swaying(150, 13), kinds=(None, "talk"))
    pairs = [match for match in matches if match.before < 150 <= match.after]
    assert len(pairs) >= 8
    for match in pairs:
        assert (match.after - 150 + 13 - match.before) % PERIOD in (0, 1, PERIOD - 1)  # the mirrored phase moves back
        assert (match.half, match.cost) <= (1, 0.1)


def test_find_matches_every_clip_can_be_left_near_its_end() -> None:
    heads = swaying(150, 0), swaying(30, 5) + 30, swaying(26, 20) - 15, swaying(100, 9) + 6
    clips, matches = find(*heads, kinds=(None, "talk", "action", "idle"))
    for clip in clips:
        exits = [match for match in matches if clip.start <= match.leave < clip.stop]
        last = max(match.leave for match in exits)
        assert last >= clip.stop - 26 - 4
        for match in matches:
            if clip.start <= match.enter < clip.stop:
                assert match.enter <= last
    bounds = [(clip.start, clip.stop) for clip in clips]
    for match in matches:
        for frames in (match.replaced, match.replacing):
            assert any(start <= frames.start and frames.stop <= stop for start, stop in bounds)
        assert match.half <= 3


def test_find_matches_action_is_shown_from_start_to_end() -> None:
    clips, matches = find(swaying(150, 0), swaying(100, 0), swaying(120, 7), kinds=(None, "talk", "action"))
    action = clips[2]
    entered = [match.enter - action.start for match in matches if action.start <= match.enter < action.stop]
    left = [action.stop - match.leave for match in matches if action.start <= match.leave < action.stop]
    assert max(entered) <= 32
    assert max(left) <= 30
    assert entered
    assert left


def test_find_matches_single_clip_loops_back_by_a_second_or_more() -> None:
    _, matches = find(swaying(200, 0), kinds=(None,))
    assert len(matches) >= 5
    assert all(match.before - match.after >= 25 for match in matches)


def test_find_matches_hands_beside_the_face_cost() -> None:
    heads = swaying(150, 0, 0.3), swaying(150, 0, 0.3)
    costs = [
        min(m.cost for m in find(*heads, kinds=(None, "idle"), hands=hands)[1] if m.before < 150 <= m.after)
        for hands in (False, True)
    ]
    assert costs[1] > costs[0] + 3


def test_find_matches_many_clips_stay_within_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    heads = [rng.uniform(60, 120) + np.cumsum(rng.normal(0, 0.4, 150)) for _ in range(5)]
    monkeypatch.setattr(transitions, "MAX_BRIDGE_FRAMES", 240)
    clips, matches = find(*heads, kinds=(None, "talk", "idle", "talk", "idle"))
    assert 200 < sum(2 * match.half for match in matches) <= 240
    left = {clip.name for match in matches for clip in clips if clip.start <= match.leave < clip.stop}
    assert len(left) == len(clips)


def test_find_matches_every_clip_leads_to_every_other() -> None:
    rng = np.random.default_rng(2)
    places = (90, 90), (90, 130), (90, 60), (75, 85)  # ends that are like nothing but themselves
    heads = [np.interp(np.arange(100), [40, 50], place) + np.cumsum(rng.normal(0, 0.05, 100)) for place in places]
    clips, matches = find(*heads, kinds=(None, "talk", "idle", "action"))

    def reached(frame: int, seen: set[int]) -> set[int]:
        stop = next(clip.stop for clip in clips if frame < clip.stop)
        for match in matches:
            if frame <= match.leave < stop and match.enter not in seen:
                seen.add(match.enter)
                reached(match.enter, seen)
        return seen

    for match in matches:
        frames = reached(match.enter, {match.enter})
        assert all(any(clip.start <= frame < clip.stop for frame in frames) for clip in clips)


def test_find_matches_prefers_slow_moments() -> None:
    fast = np.where((np.arange(150) % 50 > 20) & (np.arange(150) % 50 < 30), 12 * np.sin(np.arange(150) * 1.3), 0.0)
    _, matches = find(90 + fast, np.full(150, 90.5), kinds=(None, "talk"))
    pairs = [match for match in matches if match.before < 130 and match.after >= 150]
    assert pairs
    assert all(match.before % 50 < 21 or match.before % 50 > 30 for match in pairs)
