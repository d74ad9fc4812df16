"""Landmark distance, pose, blinks, expression, jitter, silence, control: closed forms, invariances, rendered truth."""

import math

import numpy as np
import pytest

from fctfg.demo_corpus import root, truth
from fctfg.evaluation.faces import Seen
from fctfg.evaluation.motion import motion_figures, pose_track
from fctfg.faces.detector import DlibDetector
from fctfg.faces.head_pose import RIGID, TEMPLATE, head_pose, rotation_matrix
from fctfg.faces.landmarks import enlarged
from fctfg.faces.openings import eye_aspect_ratio, mouth_opening
from fctfg.media import read_frames
from fctfg.metrics.blink import blink_f1, blinks
from fctfg.metrics.control import moved, spread
from fctfg.metrics.correlation import pearson
from fctfg.metrics.expression import UPPER, expression_error, expression_track
from fctfg.metrics.gaze import gaze_error, gaze_track
from fctfg.metrics.jitter import jitter
from fctfg.metrics.landmark_distance import landmark_distance
from fctfg.metrics.pose_error import pose_error
from fctfg.metrics.silence import mouth_in_silence

DRAW = np.random.default_rng(0)
SHAPE = DRAW.uniform(20, 230, (68, 2))


def still(frames: int = 10) -> np.ndarray:
    return np.repeat(SHAPE[None], frames, 0)


# -------------------------------------------------------------------------------------------------- landmark distance


def test_landmark_distance_has_a_closed_form() -> None:
    """Every second point of the mouth 3 px to the right: 1.5 px from the centroid's shift, for all points."""
    made = still()
    made[:, 48:68:2, 0] += 3
    found = landmark_distance(made, still())
    assert found.mouth == pytest.approx(1.5) and found.frames == 10
    share = 10 / 68  # of the points moved; the centroid moves by 3 * share
    assert found.face == pytest.approx(share * 3 * (1 - share) + (1 - share) * 3 * share)
    assert landmark_distance(made / 4, still() / 4, side=64).mouth == pytest.approx(1.5)  # in 256 px whatever the size


def test_landmark_distance_leaves_out_place_and_lost_faces() -> None:
    made = still() + np.array([7.0, -4.0])
    assert landmark_distance(made, still()).mouth == pytest.approx(0, abs=1e-12)
    made[3:] = np.nan
    assert landmark_distance(made, still()).frames == 3
    made[:] = np.nan
    assert math.isnan(landmark_distance(made, still()).face)
    with pytest.raises(ValueError, match="68, 2"):
        landmark_distance(made[:, :5], still()[:, :5])


# --------------------------------------------------------------------------------------------------------------- pose


def test_pose_error_is_the_mean_difference() -> None:
    driver = DRAW.normal(size=(20, 3)) * 10
    assert pose_error(driver + np.array([1.0, -2.0, 3.0]), driver) == pytest.approx((1, 2, 3))
    assert pose_error(driver + np.array([1.0, -2.0, 3.0]), driver, centred=True) == pytest.approx((0, 0, 0))
    swung = pose_error(driver + np.array([6.0, 0, 0]) + 2 * np.array([[1, 0, 0], [-1, 0, 0]] * 10), driver, True)
    assert swung == pytest.approx((2, 0, 0))
    made = driver.copy()
    made[:5] = np.nan
    assert pose_error(made, driver) == pytest.approx((0, 0, 0))
    assert pose_error(np.array([[179.0, 0, 0]]), np.array([[-179.0, 0, 0]])).yaw == pytest.approx(2)  # around the back
    assert math.isnan(pose_error(np.full((2, 3), np.nan), driver[:2]).yaw)


def test_poses_are_smoothed_around_lost_faces() -> None:
    """A template that turns evenly is found as it turns; a frame without a face has none, and spoils no other."""
    yaw = np.linspace(-10, 10, 21)
    turned = TEMPLATE @ rotation_matrix(np.stack([yaw, 0 * yaw, 0 * yaw], 1)).transpose(0, 2, 1)
    landmarks = still(21).astype(np.float32)
    landmarks[:, RIGID] = 100 * turned[..., :2] + 128
    landmarks[8] = np.nan
    found = pose_track(landmarks)
    assert np.isnan(found[8]).all() and np.isfinite(np.delete(found, 8, 0)).all()
    np.testing.assert_allclose(found[3:5, 0], yaw[3:5], atol=0.1)


def test_head_pose_blinks_and_jaw_are_those_that_were_rendered() -> None:
    """Of the embedded test people, by dlib's landmarks; poses less each clip's mean error, which is the person's."""
    detector, poses, truths, jaws, matched, counted = DlibDetector(), [], [], [], 0.0, 0
    for path in sorted((root() / "test").glob("*/*.mp4")):
        seen, true = Seen(detector), truth(path)
        for frame in read_frames(path):
            seen.update(enlarged(frame))
        landmarks = seen.landmarks()
        pose, rendered = pose_track(landmarks), np.stack([true[name] for name in ("yaw", "pitch", "roll")], 1)
        jaws.append(pearson(mouth_opening(landmarks), true["jaw"]))
        poses.append(pose - pose.mean(0))
        truths.append(rendered - rendered.mean(0))
        closed = np.flatnonzero(np.diff(np.r_[False, true["blink"] > 0.5, False].astype(int))).reshape(-1, 2)
        wanted = [int(begin + np.argmax(true["blink"][begin:end])) for begin, end in closed]
        found = blinks(eye_aspect_ratio(landmarks))
        matched += blink_f1(found, wanted) * (len(found) + len(wanted)) / 2 if found or wanted else 0
        counted += len(found) + len(wanted)
    pose, rendered = np.concatenate(poses), np.concatenate(truths)
    assert np.abs(pose - rendered).mean(0).max() < 2  # degrees
    correlations = [np.corrcoef(pose[:, axis], rendered[:, axis])[0, 1] for axis in range(3)]
    assert min(correlations) > 0.9
    assert 2 * matched / counted > 0.85
    assert np.mean(jaws) > 0.7


# -------------------------------------------------------------------------------------------------------------- blinks


def eyes(ratios: np.ndarray) -> np.ndarray:
    """Landmarks whose eyes are 20 px wide and open as given."""
    landmarks = still(len(ratios))
    for first in (36, 42):
        x = np.array([0, 6, 14, 20, 14, 6]) + first
        up = np.array([0, 1, 1, 0, -1, -1])
        landmarks[:, first : first + 6, 0] = x
        landmarks[:, first : first + 6, 1] = 50 + up * 10 * ratios[:, None]
    return landmarks


def test_blinks_are_runs_of_closed_eyes() -> None:
    ratio = np.full(100, 0.3)
    ratio[20:24] = [0.2, 0.1, 0.05, 0.12]
    ratio[26] = 0.1  # a jump of the landmarks in the same blink
    ratio[50:53] = 0.1
    ratio[70:90] = 0.05  # asleep
    assert blinks(ratio) == [22, 50]
    assert blinks(0.5 * ratio) == [22, 50]  # narrow eyes are not closed ones
    flutter = np.full(60, 0.3)
    flutter[20:34] = flutter[36:50] = 0.05
    assert blinks(flutter) == []  # both together are too long
    assert blinks(np.full(10, np.nan)) == []


def test_blink_f1_matches_one_to_one_within_two_frames() -> None:
    assert blink_f1([10, 50], [11, 48]) == 1 and blink_f1([10], [13]) == 0
    assert blink_f1([10, 11], [11]) == pytest.approx(2 / 3)  # one of them is too many
    assert blink_f1([], [5]) == 0 and math.isnan(blink_f1([], []))


# ---------------------------------------------------------------------------------------------------------------- gaze


def painted_eyes(x: float, y: float, angle: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A picture of two eyes 60 px wide with the pupil at (x, y) eye widths from the middle, and its landmarks."""
    rows, columns = np.indices((256, 256)) + 0.5
    picture = np.full((256, 256, 3), 120, np.uint8)
    landmarks = still(1)[0]
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shape = np.array([[-0.5, 0], [-0.2, -0.2], [0.2, -0.2], [0.5, 0], [0.2, 0.2], [-0.2, 0.2]])
    for first, middle in ((36, (80, 120)), (42, (176, 120))):
        u, v = np.moveaxis((np.stack([columns, rows], -1) - middle) @ turn.T / 60, -1, 0)
        picture[(2 * u) ** 2 + (v / 0.2) ** 2 <= 1] = 235
        picture[((u - x) ** 2 + (v - y) ** 2 <= 0.13**2) & ((2 * u) ** 2 + (v / 0.2) ** 2 <= 1)] = 20
        landmarks[first : first + 6] = 60 * shape @ turn + middle
    return picture, landmarks


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_pupils_are_found_where_they_were_painted(angle: float) -> None:
    places = [(0.0, 0.0), (0.15, 0.0), (-0.2, 0.02), (0.05, -0.04)]
    pictures, landmarks = (np.stack(each) for each in zip(*(painted_eyes(*p, angle) for p in places), strict=True))
    found = gaze_track(pictures, landmarks)
    np.testing.assert_allclose(found, places, atol=0.03)
    assert gaze_error(found + np.array([0.3, 0.4]), found) == pytest.approx(0.5)


def test_closed_eyes_and_lost_faces_look_nowhere() -> None:
    picture, landmarks = painted_eyes(0.1, 0.0)
    closed, lost = landmarks.copy(), np.full_like(landmarks, np.nan)
    closed[36:48, 1] = 120
    found = gaze_track(np.stack([picture] * 3), np.stack([landmarks, closed, lost]))
    assert np.isfinite(found[0]).all() and np.isnan(found[1:]).all()
    assert math.isnan(gaze_error(found[1:], found[1:]))


# ---------------------------------------------------------------------------------------------------------- expression


def test_expression_is_freed_of_place_size_turn_and_person() -> None:
    frames = still(12)
    raised = np.sin(np.arange(12))[:, None]
    frames[:, 17:27, 1] -= 4 * raised
    angle, size = DRAW.uniform(-0.3, 0.3, 12), DRAW.uniform(0.7, 1.4, 12)
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], 1)
    elsewhere = size[:, None, None] * (frames @ turn) + DRAW.normal(size=(12, 1, 2)) * 20
    assert expression_error(elsewhere, frames) < 1e-6
    other = frames.copy()
    other[:, UPPER] += np.array([3.0, -5.0])  # brows of somebody else
    assert expression_error(other, frames) < 1e-6
    without = expression_error(still(12), frames)
    assert without == pytest.approx(np.linalg.norm(expression_track(frames), axis=-1).mean()) and without > 0.005
    assert math.isnan(expression_error(np.full_like(frames, np.nan), frames))


# --------------------------------------------------------------------------------------------------- jitter and silence


def test_jitter_of_stillness_even_motion_and_noise() -> None:
    assert jitter(still()) == 0
    moving = still() + np.arange(10)[:, None, None] * np.array([2.0, 1.0])
    assert jitter(moving) == pytest.approx(0, abs=1e-9)
    noise = np.random.default_rng(1).normal(size=(400, 68, 2)) * 0.5
    assert jitter(still(400) + noise) == pytest.approx(0.5 * math.sqrt(6) * math.sqrt(math.pi / 2), rel=0.02)
    assert jitter((still(400) + noise) / 4, side=64) == pytest.approx(jitter(still(400) + noise))
    gaps = still(400) + noise
    gaps[::3] = np.nan
    assert math.isnan(jitter(gaps))


def test_a_mouth_that_moves_in_silence_is_found_out() -> None:
    loud = np.r_[np.zeros(20), np.ones(20)]
    opening = np.r_[np.tile([0.0, 0.1], 10), np.tile([0.0, 0.3], 10)]
    found = mouth_in_silence(opening, loud)
    assert found.silent == pytest.approx(0.1) and found.speech == pytest.approx(0.3, abs=0.02)
    assert math.isnan(mouth_in_silence(opening[20:], loud[20:]).silent)


def test_one_frame_of_which_the_first_is_free_has_no_figures() -> None:
    one = still(1).astype(np.float32)
    figures, curves = motion_figures(one, one, 256, True, True, 1, None)
    assert math.isnan(figures["LMD mouth"]) and math.isnan(figures["yaw error"]) and len(curves["opening made"]) == 1
    assert "opening correlation" not in motion_figures(one, one, 256, False, False, 0, None)[0]


# -------------------------------------------------------------------------------------------------------------- control


def test_what_moves_is_told_by_place() -> None:
    one = np.zeros((3, 256, 256, 3), np.uint8)
    landmarks = still(3)
    landmarks[:, 48:68] = np.linspace([100, 180], [140, 200], 20)
    other = one.copy()
    other[:, 170:211, 80:161] = 40  # exactly the mouth's box and its margin
    found = moved(one, other, (landmarks, landmarks))
    assert found.mouth == pytest.approx(40, rel=0.06) and found.elsewhere == pytest.approx(0, abs=0.1)
    lower = landmarks + np.array([0.0, 60.0])  # the other's mouth is wide open: the region is that of both
    other[:, 211:281] = 40
    found = moved(one, other, (landmarks, lower))
    assert found == moved(other, one, (lower, landmarks)) and found.elsewhere < 15 < found.mouth
    other[:] = 7
    assert moved(one, other, (landmarks, landmarks)) == pytest.approx((7, 7))
    assert math.isnan(moved(one, other, (landmarks, np.full_like(landmarks, np.nan))).mouth)


def test_spread_is_the_mean_deviation() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[1] = 10
    assert spread(images) == 5 and spread(images[:1].repeat(4, 0)) == 0
    assert head_pose(still(1).astype(np.float32)).shape == (1, 3)
