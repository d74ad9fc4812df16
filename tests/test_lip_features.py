"""LSE-C and LSE-D of a stream of frames: the crop of the demonstration, and windows as of the whole clip."""

import numpy as np
import pytest
import torch
from scipy.signal import medfilt

from fctfg.evaluation.lip_features import GREY, SIDE, LipFeatures, face_crop, square
from fctfg.metrics.lse import lip_sync, sync_windows
from fctfg.models.experts.syncnet_v2 import SyncNetV2, SyncNetV2Config

DRAW = np.random.default_rng(0)


@pytest.fixture(scope="module")
def network() -> SyncNetV2:
    torch.manual_seed(0)
    return SyncNetV2(SyncNetV2Config(width=1 / 16)).eval().requires_grad_(False)


def test_the_crop_is_that_of_the_demonstration() -> None:
    """A box of 100 px around (128, 118): 70 px to the left and right, 50 up, 90 down; grey beyond the picture."""
    frame = np.zeros((256, 256, 3), np.uint8)
    frame[68:208, 58:198] = 200  # exactly the crop
    assert (face_crop(frame, square((88.0, 68.0, 168.0, 168.0))) == 200).all()
    beyond = face_crop(np.full((256, 256, 3), 30, np.uint8), square((0.0, 68.0, 80.0, 168.0)))
    assert beyond.shape == (SIDE, SIDE, 3) and (beyond[:, 0] == GREY).all() and (beyond[:, -1] == 30).all()


def test_a_stream_is_judged_as_the_whole_clip(network: SyncNetV2) -> None:
    """Boxes jump; scipy's median filter of all of them says where the whole clip is cut."""
    frames = DRAW.integers(0, 255, (53, 64, 64, 3), dtype=np.uint8)
    sound = DRAW.normal(size=53 * 640).astype(np.float32) * 0.1
    boxes = np.array([12.0, 12.0, 52.0, 52.0]) + DRAW.normal(size=(53, 4)) * 4
    stream = LipFeatures(network)
    for frame, box in zip(frames, boxes, strict=True):
        stream.update(frame, tuple(box))
    found = stream.judge(sound)
    smooth = np.stack([medfilt(column, 13) for column in np.array([square(box) for box in boxes]).T], axis=1)
    crops = np.stack([face_crop(frame, where) for frame, where in zip(frames, smooth, strict=True)])
    images = torch.from_numpy(crops).permute(0, 3, 1, 2).flip(1).float()
    faces, windows = sync_windows(images, torch.from_numpy(sound))
    wanted = lip_sync(network.lips(faces), network.audio(windows))
    assert found is not None and found.offset == wanted.offset
    torch.testing.assert_close(found.distance, wanted.distance)
    torch.testing.assert_close(found.confidence, wanted.confidence)


def test_few_frames_and_little_sound_say_nothing(network: SyncNetV2) -> None:
    short = LipFeatures(network)
    for _ in range(4):
        short.update(np.zeros((64, 64, 3), np.uint8), None)
    assert short.judge(np.zeros(16_000, np.float32)) is None
    silent = LipFeatures(network)
    for _ in range(10):
        silent.update(np.zeros((64, 64, 3), np.uint8), None)
    assert silent.judge(np.zeros(1000, np.float32)) is None
