from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError, OptionError
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame
from models.clips import transitions
from models.clips.fitting import FittedClip, fit_clip
from models.clips.graph import Clip, ClipKind
from models.clips.transitions import FrameFeatures, Match, find_matches
from models.track.face_track import FaceTrack, finish_track
from models.track.raw_landmarks import SkipReason
from tests.unit.media.clips import NumberedFrames, info_of, number_of
from tests.unit.models.films import mean_faces

WIDTH, HEIGHT = 192, 160


def track_at(x: NDArray[np.float64], y: float, eyes: float = 50.0) -> FaceTrack:
    """A track of a head at (N,) x and one y, in pixels, that is seen in all frames."""
    return finish_track(mean_faces(x, y, eyes), np.ones(len(x), bool))


OWN = info_of(WIDTH, HEIGHT, Fraction(25), 60)
TRACK = track_at(np.full(60, 96.0), 70.0)


def fit(num: int, fps: int = 25, at: tuple[float, float] = (96.0, 70.0), eyes: float = 50.0) -> FittedClip:
    track = track_at(np.full(num, at[0]), at[1], eyes)
    return fit_clip("wave", info_of(WIDTH, HEIGHT, Fraction(fps), num), track, OWN, TRACK)


@pytest.mark.parametrize(("num", "fps"), [(3, 25), (20, 25), (62, 1)])
def test_fit_clip_too_short_or_too_long_raises(num: int, fps: int) -> None:
    with pytest.raises(OptionError, match="'wave': expected a video of 1 to 60 s"):
        fit(num, fps)
    info, track = info_of(WIDTH, HEIGHT, Fraction(1), 310), track_at(np.full(310, 96.0), 70.0)
    assert len(fit_clip("", info, track, info, track).points) == 300, "a long video of the avatar is used in part"


@pytest.mark.parametrize("eyes", [20.0, 80.0])
def test_fit_clip_hidden_face_or_other_size_raises(eyes: float) -> None:
    with pytest.raises(OptionError, match=f"'wave': the face is {eyes / 50:.2g} times as large"):
        fit(60, eyes=eyes)
    hidden = replace(TRACK, skip_reason=np.full(60, SkipReason.NO_FACE, np.uint8))
    with pytest.raises(OptionError, match="'wave': the face is seen in 0% of the frames"):
        fit_clip("wave", OWN, hidden, OWN, TRACK)


def test_fit_clip_converts_frame_rate_or_keeps_frames() -> None:
    source = NumberedFrames(size=(WIDTH, HEIGHT))
    frames = list(fit(100, fps=50).frames(source))
    assert len(frames) == 50
    assert [number_of(frame) for frame in frames[:4]] in ([0, 2, 4, 6], [1, 3, 5, 7])
    made = fit(60)
    frame, wanted = next(made.frames(source)), next(source.read([0]))
    assert all(np.array_equal(one, other) for one, other in zip(frame, wanted, strict=True))
    np.testing.assert_allclose(made.points, TRACK.points[..., :2], atol=1e-3)


def test_fit_clip_other_size_is_scaled_and_cropped() -> None:
    made = fit_clip("wave", replace(OWN, width=400, height=320), track_at(np.full(60, 200.0), 140, 100), OWN, TRACK)
    frame = next(made.frames(NumberedFrames(size=(400, 320))))
    assert frame.y.shape == (HEIGHT, WIDTH)
    np.testing.assert_allclose(made.points, TRACK.points[..., :2], atol=0.6)
    assert made.eyes == pytest.approx(50, rel=0.01)
    made = fit(60, at=(72.0, 60.0), eyes=34.0)
    np.testing.assert_allclose(made.points.mean((0, 1)), TRACK.points[..., :2].mean((0, 1)), atol=2)
    assert made.eyes == pytest.approx(50, rel=0.02)


def test_fit_clip_converts_the_colours() -> None:
    made = fit_clip("wave", replace(OWN, colour=ColourTags(1, True, 1, 1)), TRACK, OWN, TRACK)
    full, limited = (next(each.frames(NumberedFrames(size=(WIDTH, HEIGHT)))) for each in (made, fit(60)))
    assert int(full.y.max()) == pytest.approx(16 + int(limited.y.max()) * 219 / 255, abs=2)


def _pictures(x: int, y: int, stripes: int) -> NumberedFrames:
    """Frames of a dark figure, and of vertical stripes behind it."""
    luma = np.full((HEIGHT, WIDTH), 150, np.float32)
    luma[:, np.arange(WIDTH) ** 2 // 150 % 2 == 0] += stripes
    luma[y - 40 : y + 30, x - 30 : x + 30] = 60
    luma[y + 40 :, x - 60 : x + 60] = 90
    half = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
    return NumberedFrames(YuvFrame(cv2.GaussianBlur(luma, (0, 0), 1).clip(0, 255).astype(np.uint8), half, half))


@pytest.mark.parametrize(("stripes", "moves"), [(0, True), (140, False)])
def test_aligned_moves_people_but_not_backgrounds(stripes: int, moves: bool) -> None:
    own, clip = fit(60), fit(60, at=(104.0, 75.0))
    there, here = _pictures(96, 70, stripes), _pictures(104, 75, stripes)
    aligned = clip.aligned(here, own, there)
    assert (np.abs(aligned.points - own.points)[..., 0].mean() < 1) == moves  # stripes do not tell how high they are
    shown, wanted = next(aligned.frames(here)), next(own.frames(there))
    error = np.abs(shown.y.astype(int) - wanted.y)[8:-8, 8:-8].mean()
    if moves:
        assert error < 2
        assert aligned.margin > 0.03 and aligned.enlarged(aligned.margin).margin < 0.001
        assert clip.aligned(here, own, there) is not clip
    sway = np.linspace(-20, 20, len(own.points), dtype=np.float32)[:, None, None]
    assert clip.aligned(here, replace(own, points=own.points + sway), there) is clip, "a person who moves that far"


FPS, PERIOD = 25.0, 40


def swaying(num: int, phase: int, noise: float = 0.0) -> NDArray[np.float64]:
    """X of a head that sways with a period of `PERIOD` frames."""
    at = np.arange(num) + phase
    return 90 + 20 * np.sin(2 * np.pi * at / PERIOD) + noise * np.random.default_rng(phase).normal(size=num)


def find(
    *heads: NDArray[np.float64],
    kinds: tuple[ClipKind | None, ...],
    hands: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
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
    return clips, find_matches(clips, fitted, features, FPS, should_stop)


def test_find_matches_joins_frames_of_equal_place_and_direction() -> None:
    _, matches = find(swaying(150, 0), swaying(150, 13), kinds=(None, "talk"))
    pairs = [match for match in matches if match.before < 150 <= match.after]
    assert len(pairs) >= 8
    for match in pairs:
        assert (match.after - 150 + 13 - match.before) % PERIOD in (0, 1, PERIOD - 1)  # the mirrored phase moves back
        assert (match.half, match.cost) <= (1, 0.1)
    _, loops = find(swaying(200, 0), kinds=(None,))
    assert len(loops) >= 5
    assert all(match.before - match.after >= 25 for match in loops), "a second or more"


def test_find_matches_every_clip_can_be_left_near_its_end() -> None:
    heads = swaying(150, 0), swaying(30, 5) + 30, swaying(120, 7), swaying(100, 9) + 6
    clips, matches = find(*heads, kinds=(None, "talk", "action", "idle"))
    for clip in clips:
        exits = [match for match in matches if clip.start <= match.leave < clip.stop]
        last = max(match.leave for match in exits)
        assert last >= clip.stop - 26 - 4
        for match in matches:
            if clip.start <= match.enter < clip.stop:
                assert match.enter <= last
    action, bounds = clips[2], [(clip.start, clip.stop) for clip in clips]
    entered = [match.enter for match in matches if action.start <= match.enter < action.stop]
    left = [match.leave for match in matches if action.start <= match.leave < action.stop]
    assert max(entered) <= action.start + 32 and min(left) >= action.stop - 30, "it is shown from start to end"
    for match in matches:
        for frames in (match.replaced, match.replacing):
            assert any(start <= frames.start and frames.stop <= stop for start, stop in bounds)
        assert match.half <= 3


def test_find_matches_hands_and_fast_moments_cost() -> None:
    heads = swaying(150, 0, 0.3), swaying(150, 0, 0.3)
    costs = [
        min(m.cost for m in find(*heads, kinds=(None, "idle"), hands=hands)[1] if m.before < 150 <= m.after)
        for hands in (False, True)
    ]
    assert costs[1] > costs[0] + 3
    at = np.arange(150)
    fast = np.where((at % 50 > 20) & (at % 50 < 30), 12 * np.sin(at * 1.3), 0.0)
    _, matches = find(90 + fast, np.full(150, 90.5), kinds=(None, "talk"))
    pairs = [match for match in matches if match.before < 130 and match.after >= 150]
    assert pairs
    assert all(match.before % 50 < 21 or match.before % 50 > 30 for match in pairs)


def test_find_matches_many_clips_stay_within_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    heads = [rng.uniform(60, 120) + np.cumsum(rng.normal(0, 0.4, 150)) for _ in range(5)]
    monkeypatch.setattr(transitions, "MAX_BRIDGE_FRAMES", 240)
    clips, matches = find(*heads, kinds=(None, "talk", "idle", "talk", "idle"))
    assert 200 < sum(2 * match.half for match in matches) <= 240
    left = {clip.name for match in matches for clip in clips if clip.start <= match.leave < clip.stop}
    assert len(left) == len(clips)


def test_find_matches_cancelled_search_stops() -> None:
    asked = iter([False, False, True])
    with pytest.raises(CancelledJobError):
        find(swaying(200, 0), kinds=(None,), should_stop=lambda: next(asked))


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
