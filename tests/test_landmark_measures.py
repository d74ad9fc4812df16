"""What landmarks say in validation, against those that a detector finds."""

import numpy as np
import pytest
import torch

from fctfg.demo_corpus import root
from fctfg.faces.detector import DlibDetector
from fctfg.faces.head_pose import head_pose
from fctfg.media import read_frames
from fctfg.metrics.landmark_distance import landmark_distance
from fctfg.ops.pixels import to_images
from fctfg.stages.landmark_measures import landmark_measures


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Every twelfth frame of a clip that nods, turns and speaks, uint8 [6, 256, 256, 3]."""
    return np.stack(list(read_frames(root() / "test" / "p010" / "c1.mp4"))[:72:12])


def test_they_are_those_of_the_detector(frames: np.ndarray) -> None:
    """Each frame as the result of the one before it, at the places that a detector finds in the latter."""
    found = [DlibDetector().detect(frame)[0] for frame in frames]
    points = torch.from_numpy(np.stack([face.points for face in found])) / frames.shape[1]
    images, landmarks = to_images(frames), np.stack([face.landmarks for face in found])
    told = landmark_measures(images[1:], images[:-1], points[:-1])
    distance = landmark_distance(landmarks[1:], landmarks[:-1], frames.shape[1])
    pose = np.abs(head_pose(landmarks[1:]) - head_pose(landmarks[:-1])).mean()
    assert told == pytest.approx({"lmd_mouth": distance.mouth, "lmd_face": distance.face, "pose_error": pose}, rel=0.2)
    assert landmark_measures(images, images, points) == {"lmd_mouth": 0, "lmd_face": 0, "pose_error": 0}


def test_small_frames_are_measured_in_the_same_unit(frames: np.ndarray) -> None:
    found = [DlibDetector().detect(frame)[0] for frame in frames]
    points = torch.from_numpy(np.stack([face.points for face in found])) / frames.shape[1]
    images = to_images(frames)
    small = torch.nn.functional.interpolate(images, size=(96, 96), mode="area")
    large, less = (landmark_measures(each[1:], each[:-1], points[:-1]) for each in (images, small))
    assert less["lmd_face"] == pytest.approx(large["lmd_face"], rel=0.3)


def test_noise_is_bad_and_nothing_is_zero(frames: np.ndarray) -> None:
    images = to_images(frames)
    points = torch.tensor([[0.4, 0.4], [0.6, 0.4], [0.5, 0.5], [0.42, 0.65], [0.58, 0.65]]).expand(6, 5, 2)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert landmark_measures(noise, images, points)["lmd_mouth"] > 3
    assert landmark_measures(images[:0], images[:0], points[:0])["lmd_mouth"] == 0
