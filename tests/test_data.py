"""Samples, their order, and their batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fctfg.data.augment import LEVEL, augment
from fctfg.data.batch import Batch
from fctfg.data.clip import read_clip
from fctfg.data.dataset import TalkingClips, clip_mel, mirror_points
from fctfg.data.manifest import Clip, write_manifest
from fctfg.data.sampler import PositionSampler
from fctfg.errors import FctfgError
from fctfg.media import write_video, write_wav
from fctfg.ops.pixels import to_images

SIZE, LENGTH = 32, 60


def _frames(tint: int) -> np.ndarray:
    """Frames whose red level tells their number and whose green level tells the clip."""
    frames = np.zeros((LENGTH, SIZE, SIZE, 3), np.uint8)
    frames[..., 0] = (np.arange(LENGTH) * 4)[:, None, None]
    frames[..., 1] = tint
    return frames


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three people, two clips each; every frame tells its number."""
    root = tmp_path_factory.mktemp("clips")
    rows = []
    for number in range(6):
        name = f"clip{number}"
        write_video(root / f"{name}.mp4", _frames(40 * number), crf=0, gop=12)
        tone = np.sin(np.arange(LENGTH * 640) * (0.01 + 0.01 * number)).astype(np.float32) * 0.3
        write_wav(root / f"{name}.wav", tone)
        points = np.random.default_rng(number).random((LENGTH, 5, 2)).astype(np.float32)
        rows.append(
            Clip(
                id=name,
                identity=f"person{number // 2}",
                split="train",
                source=name,
                path=f"{name}.mp4",
                audio=f"{name}.wav",
                n_frames=LENGTH,
                size=SIZE,
                points=points,
                boxes=np.zeros((LENGTH, 4), np.float32),
            )
        )
    write_manifest(root, rows)
    return root


def _number(image: torch.Tensor) -> float:
    """The frame number that an image shows."""
    return float((image[0].mean() + 1) * 127.5 / 4)


def test_read_clip_gives_exactly_the_frames_asked_for(clips: Path) -> None:
    asked = [57, 3, 4, 5, 30, 0, 31]
    shown = [_number(image) for image in to_images(read_clip(clips / "clip1.mp4", asked))]
    assert np.allclose(shown, asked, atol=0.9)
    with pytest.raises(FctfgError, match="frame 60 is not in the clip"):
        read_clip(clips / "clip1.mp4", [60])


def test_sample_is_source_window_and_the_windows_own_sound(clips: Path) -> None:
    data = TalkingClips(clips, "train", frames=5)
    for index in range(12):
        sample = data[(0, index)]
        start = int(sample.start)
        shown = [_number(image) for image in sample.driving]
        assert np.allclose(shown, range(start, start + 5), atol=0.9)
        clip = data.clips[int(sample.clip)]
        assert torch.equal(sample.points, torch.from_numpy(clip.points[start : start + 5]))
        matching = (torch.from_numpy(clip.points) == sample.source_points).all((1, 2)).nonzero().item()
        assert abs(_number(sample.source) - matching) < 0.9
        mel = clip_mel(clips / clip.audio)
        first = int(80 * start / 25)
        if first + 16 <= mel.shape[1]:
            assert torch.equal(sample.mel[0, 0], mel[:, first : first + 16])
        assert sample.mel.shape == (5, 1, 80, 16)


def test_sample_depends_on_seed_epoch_and_index_only(clips: Path) -> None:
    def flat(sample: Batch) -> torch.Tensor:
        return torch.cat([field.flatten().double() for field in sample])

    one, other = TalkingClips(clips, "train", flip=True), TalkingClips(clips, "train", flip=True)
    keys = [(epoch, index) for epoch in range(2) for index in range(8)]
    forward = [flat(one[key]) for key in keys]
    backward = [flat(other[key]) for key in reversed(keys)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))
    reseeded = TalkingClips(clips, "train", flip=True, seed=1)
    assert not all(torch.equal(a, flat(reseeded[key])) for a, key in zip(forward, keys, strict=True))


def test_each_lap_visits_every_clip_once(clips: Path) -> None:
    data = TalkingClips(clips, "train")
    laps = [[int(data[(0, lap * 6 + i)].clip) for i in range(6)] for lap in range(3)]
    assert all(sorted(lap) == list(range(6)) for lap in laps)
    assert len({tuple(lap) for lap in laps}) > 1


def test_flip_mirrors_pictures_and_points_alike(clips: Path) -> None:
    data = TalkingClips(clips, "train", flip=True)
    plain = TalkingClips(clips, "train", flip=False)
    flipped = 0
    for index in range(24):
        a, b = data[(0, index)], plain[(0, index)]
        if not torch.equal(a.points, b.points):
            flipped += 1
            assert torch.equal(a.driving, b.driving.flip(-1))
            assert torch.equal(a.points, mirror_points(b.points))
    assert 4 <= flipped <= 20
    points = torch.rand(7, 5, 2)
    assert torch.allclose(mirror_points(mirror_points(points)), points, atol=1e-6)


def test_augmentation_moves_points_with_the_picture() -> None:
    size, places = 64, torch.tensor([[0.3, 0.4], [0.7, 0.35], [0.5, 0.65]])
    middles = (torch.arange(size) + 0.5) / size
    x, y = middles[None, None], middles[None, :, None]
    spots = torch.exp(-((x - places[:, 0, None, None]) ** 2 + (y - places[:, 1, None, None]) ** 2) / (2 * 0.03**2))
    images = (spots * 2 - 1)[:, None].expand(3, 3, size, size)  # one spot in each
    largest = torch.zeros(())
    for seed in range(20):
        moved, points = augment(images, places[:, None], np.random.default_rng(seed))
        weight = (moved - moved.amin((2, 3), keepdim=True))[:, 0]
        weight = weight / weight.sum((1, 2), keepdim=True)
        found = torch.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))], dim=-1)
        assert torch.allclose(found, points[:, 0], atol=0.004)  # a quarter of a pixel
        largest = torch.maximum(largest, (points[:, 0] - places).abs().max())
    assert largest > 0.02


def test_augmentation_is_the_same_for_all_frames_and_stays_in_range(clips: Path) -> None:
    frame = torch.rand(1, 3, SIZE, SIZE) * 2 - 1
    images, points = augment(
        frame.expand(4, -1, -1, -1), torch.rand(1, 5, 2).expand(4, -1, -1), np.random.default_rng(0)
    )
    assert torch.equal(images, images[:1].expand_as(images)) and torch.equal(points, points[:1].expand_as(points))
    assert images.abs().max() <= 1 and not torch.allclose(images[:1], frame, atol=LEVEL / 10)
    augmented, plain = TalkingClips(clips, "train", augment=True), TalkingClips(clips, "train")
    assert torch.equal(augmented[(1, 2)].driving, augmented[(1, 2)].driving)
    assert not torch.equal(augmented[(1, 2)].driving, plain[(1, 2)].driving)
    assert torch.equal(augmented[(1, 2)].mel, plain[(1, 2)].mel)


def test_decoy_is_another_moment_of_the_clip(clips: Path) -> None:
    data = TalkingClips(clips, "train", frames=5, decoys=True)
    for index in range(12):
        sample = data[(0, index)]
        shown = [_number(image) for image in sample.decoy]
        assert np.allclose(np.diff(shown), 1, atol=0.9)
        points = torch.from_numpy(data.clips[int(sample.clip)].points)
        first = (points == sample.decoy_points[0]).all((1, 2)).nonzero().item()
        assert abs(shown[0] - first) < 0.9
        assert abs(first - int(sample.start)) >= 5
    assert TalkingClips(clips, "train")[(0, 0)].decoy.shape == (0, 3, SIZE, SIZE)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_an_epoch_without_overlap(world: int) -> None:
    samplers = [
        PositionSampler(batches=4, batch_size=3, rank=rank, world=world, done=lambda: 28) for rank in range(world)
    ]
    seen = [key for sampler in samplers for batch in sampler for key in batch]
    assert sorted(seen) == [(7, index) for index in range(4 * 3 * world)]


@pytest.mark.parametrize("done", [0, 3, 5, 12])
def test_sampler_goes_on_where_the_run_is(done: int) -> None:
    counted = [0]
    sampler = PositionSampler(batches=5, batch_size=2, done=lambda: counted[0])
    straight = []
    for epoch in range(3):
        counted[0] = 5 * epoch
        straight += list(sampler)
    assert len({key for batch in straight for key in batch}) == 30
    counted[0] = done
    assert list(sampler) == straight[done : (done // 5 + 1) * 5]
    assert len(sampler) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_a_batch(clips: Path, workers: int) -> None:
    data = TalkingClips(clips, "train", frames=5)
    loader = DataLoader(data, batch_sampler=PositionSampler(2, 3), num_workers=workers)  # type: ignore[arg-type]
    batches = list(loader)
    assert len(batches) == 2
    assert isinstance(batches[0], Batch)
    assert batches[0].driving.shape == (3, 5, 3, SIZE, SIZE)
    assert batches[0].mel.shape == (3, 5, 1, 80, 16)
    assert batches[0].driving.abs().max() <= 1


def test_empty_split_and_short_clips_are_said(clips: Path) -> None:
    with pytest.raises(FctfgError, match="has no clip in its split 'val'"):
        TalkingClips(clips, "val")
    with pytest.raises(FctfgError, match="100 frames"):
        TalkingClips(clips, "train", frames=100)


def test_lost_clip_is_named(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.parquet").write_bytes((clips / "manifest.parquet").read_bytes())
    with pytest.raises(FctfgError, match=r"clip0\.mp4"):
        TalkingClips(tmp_path, "train")
