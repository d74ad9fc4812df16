"""Head pose and openings from 68 landmarks."""

from collections.abc import Sequence

import numpy as np
import pytest

from fctfg.demo_corpus import root, truth
from fctfg.faces.detector import DlibDetector
from fctfg.faces.head_pose import RIGID, TEMPLATE, head_pose, rotation_matrix
from fctfg.faces.openings import eye_aspect_ratio, mouth_opening
from fctfg.media import read_frames

POSES = np.array(
    [[0, 0, 0], [25, 0, 0], [-40, 0, 0], [0, 20, 0], [0, -20, 0], [0, 0, 30], [15, 8, -12], [-20, -9, 170]]
)


def projected(pose: np.ndarray, scale: float = 80.0, shift: Sequence[float] = (64, 70)) -> np.ndarray:
    """float32 [T, 68, 2]: the template under scaled orthography; the points that are not rigid lie at `shift`."""
    landmarks = np.zeros((len(pose), 68, 2))
    landmarks[:, RIGID] = scale * (TEMPLATE @ rotation_matrix(pose).transpose(0, 2, 1))[..., :2]
    return (landmarks + shift).astype(np.float32)


@pytest.fixture(scope="module")
def seen() -> dict[str, np.ndarray]:
    """Landmarks [N, 68, 2] of every fourth frame of people that the template was not fitted to, and their truth."""
    detector = DlibDetector()
    landmarks, true = [], []
    for clip in ("val/p009/c0", "test/p010/c1", "test/p011/c2"):
        path = root() / f"{clip}.mp4"
        entry = truth(path)
        for k, frame in list(enumerate(read_frames(path)))[::4]:
            landmarks.append(detector.landmarks68(frame, detector.detect(frame)[0].box))
            true.append([entry[name][k] for name in ("yaw", "pitch", "roll", "lip_gap", "blink")])
    columns = dict(zip(("yaw", "pitch", "roll", "lip_gap", "blink"), np.array(true).T, strict=True))
    return {"landmarks": np.stack(landmarks), **columns}


def test_rotations_are_rotations_and_point_as_said() -> None:
    turn = rotation_matrix(POSES)
    np.testing.assert_allclose(turn @ turn.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turn.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turn), 1)
    nose = turn @ np.array([0, 0, -1.0])  # towards the camera
    assert nose[1, 0] > 0.4  # yaw > 0: to the viewer's right
    assert nose[3, 1] < -0.3  # pitch > 0: up in the picture
    assert (turn[5] @ [0, -1.0, 0])[0] > 0.4  # roll > 0: the top of the head goes to the right, clockwise


def test_exact_projections_give_their_pose() -> None:
    np.testing.assert_allclose(head_pose(projected(POSES)), POSES, atol=1e-3)
    np.testing.assert_allclose(head_pose(projected(POSES, 13.0, (-5, 900))), POSES, atol=5e-3)


def test_pose_turns_with_the_picture_and_flips_with_it(seen: dict[str, np.ndarray]) -> None:
    landmarks = seen["landmarks"]
    pose = head_pose(landmarks)
    angle = np.radians(20)
    clockwise = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    about_the_view = np.eye(3)
    about_the_view[:2, :2] = clockwise
    turned = rotation_matrix(head_pose(landmarks @ clockwise.T))
    np.testing.assert_allclose(turned, about_the_view @ rotation_matrix(pose), atol=1e-5)
    partner = np.arange(68)
    pairs = [(0, 16), (1, 15), (31, 35), (32, 34), (36, 45), (39, 42)]
    for a, b in pairs:
        partner[[a, b]] = b, a
    flipped = landmarks[:, partner] * [-1, 1]
    np.testing.assert_allclose(head_pose(flipped), pose * [-1, 1, -1], atol=1e-3)


@pytest.mark.parametrize(("axis", "r", "error"), [("yaw", 0.95, 3.0), ("pitch", 0.5, 5.0), ("roll", 0.85, 2.0)])
def test_pose_of_people_that_the_template_has_not_seen(
    seen: dict[str, np.ndarray], axis: str, r: float, error: float
) -> None:
    found = head_pose(seen["landmarks"])[:, ("yaw", "pitch", "roll").index(axis)]
    assert np.corrcoef(found, seen[axis])[0, 1] > r
    assert np.abs(found - seen[axis]).mean() < error


def test_openings_follow_the_truth(seen: dict[str, np.ndarray]) -> None:
    assert np.corrcoef(mouth_opening(seen["landmarks"]), seen["lip_gap"])[0, 1] > 0.7
    assert np.corrcoef(eye_aspect_ratio(seen["landmarks"]), seen["blink"])[0, 1] < -0.7


def schematic(opening: float, eye_distance: float = 100.0) -> np.ndarray:
    """68 points of a schematic face whose lips are `opening` eye distances apart."""
    points = np.zeros((68, 2))
    for eye, x in ((range(36, 42), -0.5), (range(42, 48), 0.5)):
        angles = np.linspace(0, 2 * np.pi, 6, endpoint=False)
        points[list(eye)] = np.stack([x + 0.1 * np.cos(angles), 0.05 * np.sin(angles)], 1)
    for i, (upper, lower) in enumerate(((61, 67), (62, 66), (63, 65))):
        points[upper] = (0.1 * (i - 1), 1.0 - opening / 2)
        points[lower] = (0.1 * (i - 1), 1.0 + opening / 2)
    return points * eye_distance


@pytest.mark.parametrize("opening", [0.0, 0.1, 0.5])
def test_mouth_opening_of_a_schematic_face(opening: float) -> None:
    assert mouth_opening(schematic(opening)[None])[0] == pytest.approx(opening)


def test_mouth_opening_does_not_depend_on_place_size_or_roll() -> None:
    angle = np.deg2rad(25)
    roll = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.stack([schematic(0.3), 0.2 * schematic(0.3) + 40, schematic(0.3) @ roll.T])
    np.testing.assert_allclose(mouth_opening(points), 0.3)


@pytest.mark.parametrize("measure", [mouth_opening, eye_aspect_ratio])
def test_openings_do_not_depend_on_scale_place_and_roll(seen: dict[str, np.ndarray], measure) -> None:
    landmarks = seen["landmarks"]
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    np.testing.assert_allclose(measure((landmarks @ turn.T * 3 + 40).astype(np.float32)), measure(landmarks), rtol=1e-4)


def test_eye_aspect_ratio_of_a_drawn_eye() -> None:
    landmarks = np.zeros((2, 68, 2), np.float32)
    for first in (36, 42):
        landmarks[:, first : first + 6] = [[0, 0], [10, -4], [20, -4], [30, 0], [20, 4], [10, 4]]
    landmarks[1, 42:48, 1] = 0  # one of both is shut
    np.testing.assert_allclose(eye_aspect_ratio(landmarks), [8 / 30, 4 / 30], rtol=1e-6)


@pytest.mark.parametrize("measure", [head_pose, mouth_opening, eye_aspect_ratio])
def test_other_shapes_are_refused(measure) -> None:
    with pytest.raises(ValueError, match=r"\[T, 68, 2\]"):
        measure(np.zeros((68, 2), np.float32))
    assert len(measure(np.zeros((0, 68, 2), np.float32))) == 0
