from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.material import FramesInMemory
from lipwright.jobs.model.avatar_settings import Expression, Head
from lipwright.media.matte import Foreground
from lipwright.media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from models.avatar.behaviour import EXPRESSIONS, HEADS, Behaviour, EyePlace, TimedBehaviour, still_in_effect
from models.avatar.folder import LAYERS_FILE, OCCLUDERS_FILE
from models.avatar.moving_still import MovingMatte, MovingStill
from models.avatar.still_frame import StillFrames
from models.avatar.still_layers import StillLayers
from models.avatar.still_motion import StillMotion
from models.matting.generator import MatteGenerator
from models.matting.person import PersonSegmenter
from models.speech.prosody import Prosody
from tests.unit.models.avatar.frames import frame_of
from tests.unit.models.still import FPS, Still, make_still

_TURNED = [
    int(frame[0])
    for frame in (frame_of(pitch=4.0, yaw=-4.5, roll=3.0, breath=0.014), frame_of(pitch=-4.0, yaw=4.5, roll=-3.0))
]


@pytest.fixture(scope="module")
def alpha(still: Still) -> NDArray[np.uint8]:
    found = MatteGenerator(PersonSegmenter(num_threads=1)).cut_out(still.planes, still.info.colour, still.track)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def picture(still: Still, alpha: NDArray[np.uint8]) -> YuvFrame:
    """The portrait in front of stripes."""
    rows, columns = np.indices(still.planes.y.shape)
    stripes = still.planes._replace(y=np.where((rows + columns) % 16 < 8, 60, 180).astype(np.uint8))
    return Foreground(still.planes, alpha).over(stripes)


@pytest.fixture(scope="module")
def layers(still: Still, picture: YuvFrame, alpha: NDArray[np.uint8]) -> StillLayers:
    return StillLayers.of(picture, alpha, float(still.track.scale[0]))


def test_still_layers_turned_head_leaves_the_background(still: Still, picture: YuvFrame, layers: StillLayers) -> None:
    source, matte = FramesInMemory([picture]), FramesInMemory([still.planes._replace(y=layers.alpha)])
    with (
        closing(MovingStill(source, still.track, layers)) as frames,
        closing(MovingMatte(matte, still.track, layers)) as mattes,
    ):
        pairs = list(zip(frames.read([*_TURNED, 0]), mattes.read([*_TURNED, 0]), strict=True))
    for frame, moved in pairs[:2]:
        shows_person = cv2.dilate(np.maximum(layers.alpha, moved.y), np.ones((5, 5))) > 0
        assert (~shows_person).mean() > 0.3
        np.testing.assert_array_equal(frame.y[~shows_person], picture.y[~shows_person])
        assert np.abs(moved.y.astype(int) - layers.alpha).max() > 200, "the head moves"
    for plane, own in zip(pairs[2][0], picture, strict=True):
        np.testing.assert_array_equal(plane, own, "at rest it is the still")
    eyes_and_mouth = still.track.points[0, [33, 263, 61, 291], :2]
    (x0, y0), (x1, y1) = eyes_and_mouth.min(0).astype(int), eyes_and_mouth.max(0).astype(int)
    bent = next(MovingStill(source, still.track).read(_TURNED))
    np.testing.assert_array_equal(pairs[0][0].y[y0:y1, x0:x1], bent.y[y0:y1, x0:x1])
    hidden = cv2.erode((layers.alpha == 255).astype(np.uint8), np.ones((9, 9))) > 0
    assert (picture.y[hidden] < 50).mean() > 0.2, "hair and suit are darker than all stripes"
    assert (layers.background.y[hidden] < 50).mean() < 0.02, "behind them there are stripes"


def test_avatar_load_has_the_built_layers(still: Still, alpha: NDArray[np.uint8], tmp_path: Path) -> None:
    with still.reader() as reader:
        built = Avatar.build(tmp_path, still.info, still.raw, reader, lambda *_: alpha)
    loaded = Avatar.load(tmp_path)
    assert built.layers is not None and loaded.layers is not None
    np.testing.assert_array_equal(built.layers.alpha, loaded.layers.alpha)
    first, second = (next(avatar.frames(still.reader()).read(_TURNED)) for avatar in (built, loaded))
    for plane, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(plane, other)


def test_avatar_load_ignores_files_that_were_not_built(still: Still, tmp_path: Path) -> None:
    generator = MatteGenerator(lambda frame, *_: np.full(frame.y.shape, 0.5, np.float32))  # type: ignore[arg-type]
    assert generator.cut_out(still.planes, still.info.colour, still.track) is None, "an uncertain matte"
    (tmp_path / LAYERS_FILE).write_bytes(b"of an earlier build")
    with still.reader() as reader:
        Avatar.build(tmp_path, still.info, still.raw, reader, lambda *_: None)
    assert not (tmp_path / LAYERS_FILE).exists()
    for name in (LAYERS_FILE, OCCLUDERS_FILE):
        (tmp_path / name).write_bytes(b"stale")  # as buckets keep files that a build does not replace
    loaded = Avatar.load(tmp_path)
    assert loaded.layers is None and loaded.occluders is None


SECONDS = np.arange(60 * FPS) / FPS


def _spoken(num: int, **changes: NDArray[np.generic]) -> Prosody:
    return Prosody.silence(num)._replace(speaking=np.ones(num, np.float32), **changes)  # type: ignore[arg-type]


EYES = EyePlace(np.array([0.5, 0.4]), np.array([5.0, 5.0]))


def _frames(moves: StillMotion, prosody: Prosody | None = None, **behaviour: Any) -> StillFrames:
    behaviours = [TimedBehaviour(0.0, Behaviour(**behaviour))]
    return moves.frames(SECONDS, FPS, prosody or _spoken(len(SECONDS)), behaviours, EYES)


def test_still_motion_depends_on_the_picture_only(still: Still, motion: StillMotion, samples: Path) -> None:
    again = StillMotion.of(still.planes, still.track)
    np.testing.assert_array_equal(_frames(again).index(), _frames(motion).index())
    darker = StillMotion.of(YuvFrame(still.planes.y // 2, still.planes.u, still.planes.v), still.track)
    assert np.abs(_frames(darker).turn - _frames(motion).turn).max() > np.radians(1)
    assert motion.smile == 0, "the sample portrait shows its teeth"
    closed = make_still(samples / "portrait_closed.jpg")
    assert StillMotion.of(closed.planes, closed.track).smile > 0.9


def test_frames_of_speech_turn_smoothly_and_naturally(motion: StillMotion) -> None:
    degrees = np.degrees(_frames(motion).turn)
    assert (degrees[FPS * 2 :].std(0) > [0.9, 1.9, 1.7]).all() and (degrees.std(0) < [3, 2.5, 2.5]).all()
    assert np.abs(degrees).max() < 5
    assert _frames(motion).index()[0] == 0, "it starts with the still itself"
    assert np.abs(np.diff(degrees, axis=0)).max() * FPS < 65
    assert np.abs(np.diff(degrees, 2, axis=0)).max() * FPS**2 < 800
    silent = np.degrees(_frames(motion, Prosody.silence(len(SECONDS))).turn)
    assert 0 < silent.std() < 0.75 * degrees.std()
    slower = np.abs(np.diff(silent, axis=0)).mean() / np.abs(np.diff(degrees, axis=0)).mean()
    assert 0.45 < slower < 0.6


def test_frames_stress_nods_and_raises_brows(motion: StillMotion) -> None:
    stress = np.zeros(len(SECONDS), np.float32)
    stress[500:505] = 1
    spoken: list[dict[str, NDArray[np.float32]]] = [{}, {"stress": stress}, {"stress": stress, "accent": stress}]
    plain, nod, accented = (_frames(motion, _spoken(len(SECONDS), **changes)) for changes in spoken)
    assert 0.018 < plain.brows.std() < 0.03
    assert 0.4 < np.degrees(nod.turn - plain.turn)[502, 0] < 1.4
    np.testing.assert_allclose(nod.turn[:, 1:], plain.turn[:, 1:])
    assert 0.005 < nod.brows[502] - plain.brows[502] < accented.brows[502] - plain.brows[502] < 0.08


def test_frames_smile_in_some_pauses_not_in_speech(motion: StillMotion) -> None:
    closed = replace(motion, smile=1.0)
    phrases = np.arange(200, 3000, 400)  # rows of 20 ms: phrases of 4 s and pauses of 4 s
    rows = SECONDS * 50
    speaks = ((rows[:, None] >= phrases) & (rows[:, None] < phrases + 200)).any(1)
    speaking = np.asarray(speaks, np.float32)
    said = Prosody.silence(len(SECONDS))._replace(speaking=speaking, ends=phrases + 199)
    smile = _frames(closed, said).smile
    assert smile[speaks].max() == 0
    pauses = [smile[(rows >= start + 200) & (rows < start + 400)] for start in phrases]
    assert 0 < sum(pause.max() > 0.3 for pause in pauses) < len(pauses)
    assert all(pause[:5].max() < 0.2 for pause in pauses), "it appears slowly"
    idle = _frames(closed, Prosody.silence(len(SECONDS))).smile
    assert 0.15 < (idle > 0.3).mean() < 0.85 and np.abs(np.diff(idle)).max() < 0.1
    assert not _frames(replace(motion, smile=0.0), said).smile.any()


def test_frames_head_lifts_for_a_phrase_and_sinks_after(motion: StillMotion) -> None:
    num, plain = len(SECONDS), _frames(motion)
    phrase = _frames(motion, _spoken(num, starts=np.array([500]), ends=np.array([700])))  # rows of 20 ms
    pitch = np.degrees(phrase.turn - plain.turn)[:, 0]
    assert pitch[: round(9.75 * FPS)].max() == 0, "not before it can be known"
    assert pitch[round(10.2 * FPS)] < -0.3 and pitch[round(14.4 * FPS)] > 0.4
    assert np.abs(pitch[round(15.3 * FPS) :]).max() < 1e-9


@pytest.mark.parametrize("num", [1, 37])
def test_frames_in_blocks_equal_the_whole(motion: StillMotion, num: int) -> None:
    seconds = SECONDS[: 8 * FPS]
    ends = np.array([100, 260, 330])
    behaviours = [TimedBehaviour(0.0, Behaviour()), TimedBehaviour(2.0, Behaviour(expression="sad", gaze="0.9,0.5"))]

    def index(part: slice) -> NDArray[np.int64]:
        here = seconds[part]
        known = ends[ends / 50 <= here[-1]]
        return motion.frames(here, FPS, _spoken(len(here), ends=known), behaviours, EYES).index()

    pieces = [index(slice(start, start + num)) for start in range(0, len(seconds), num)]
    np.testing.assert_array_equal(np.concatenate(pieces), index(slice(None)))


def test_frames_amount_and_border_limit_the_motion(still: Still, motion: StillMotion, tmp_path: Path) -> None:
    motion.save(tmp_path / "motion.npz")
    assert StillMotion.load(tmp_path / "motion.npz") == motion
    whole, half, none = (_frames(motion, motion=amount, expression="angry") for amount in (1, 0.5, 0))
    assert 0.45 < half.turn.std() / whole.turn.std() < 0.65
    assert not none.index().any()
    at_border = replace(still.track, points=still.track.points - [still.track.points[..., 0].min(), 0, 0])
    frames = _frames(StillMotion.of(still.planes, at_border))
    assert np.abs(frames.turn).max() == np.abs(frames.breath).max() == 0
    assert frames.closing.max() == 1 and frames.gaze.any()


def test_frames_of_a_new_expression_blend_in_300_ms(motion: StillMotion) -> None:
    sad = TimedBehaviour(4.0, Behaviour(expression="sad", head="still"))
    behaviours = [TimedBehaviour(0.0, Behaviour(head="still")), sad]
    silence = Prosody.silence(len(SECONDS))
    raised = motion.frames(SECONDS, FPS, silence, behaviours, EYES).inner_brows
    assert not raised[: 4 * FPS + 1].any() and 0 < raised[4 * FPS + 3] < raised[4 * FPS + 5] < raised[5 * FPS]
    np.testing.assert_allclose(raised[round(4.3 * FPS) :], EXPRESSIONS["sad"].inner_brows)
    assert still_in_effect(behaviours, 4.2) == tuple(behaviours) and still_in_effect(behaviours, 4.3) == (sad,)
    late = motion.frames(SECONDS[5 * FPS :], FPS, Prosody.silence(len(SECONDS) - 5 * FPS), [sad], EYES)
    np.testing.assert_array_equal(late.inner_brows, raised[5 * FPS :])


def test_frames_expressions_keep_blinks_and_pause_smiles_apart(motion: StillMotion) -> None:
    assert (set(get_args(Expression)), set(get_args(Head))) == (set(EXPRESSIONS), set(HEADS))
    silence = Prosody.silence(len(SECONDS))
    smiling = replace(motion, smile=1.0)
    neutral, serious, happy, surprised = (
        _frames(smiling, silence, expression=name) for name in ("neutral", "serious", "happy", "surprised")
    )
    assert neutral.smile.max() > 0.5 and serious.smile.max() <= 0 and happy.smile[2 * FPS :].min() > 0.5
    assert surprised.closing.max() == 1 and np.median(surprised.closing) < -0.2, "raised lids blink too"


def test_frames_gaze_shifts_and_opposes_turns_or_is_set(motion: StillMotion) -> None:
    frames = _frames(motion)
    assert np.abs(frames.gaze).max() < 0.027
    assert np.corrcoef(frames.gaze[:, 0], frames.turn[:, 1])[0, 1] < -0.3, "eyes turn against the head"
    shifts = np.linalg.norm(np.diff(frames.gaze, axis=0), axis=1) > 0.003
    assert 50 < shifts.sum() < 100, "saccades in a minute"
    free, camera, right = (_frames(motion, gaze=gaze, head="still").gaze for gaze in ("free", "camera", "1,0.4"))
    assert free.any() and not camera.any()
    assert right[2 * FPS :, 0].min() > 0.02 and not right[:, 1].any()
    assert np.degrees(_frames(motion, gaze="1,0.4").turn[:, 1]).mean() > 1, "the head turns there, too"
    still, calm, lively = (_frames(motion, head=name).turn for name in ("still", "calm", "lively"))
    assert not still.any() and 0.45 < calm.std() / lively.std() < 0.75
