"""Samples, their order, and their batches."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_sets import change_column, store, write_set
from torch.utils.data import default_collate

from fctfg.data.augmentation.pictures import PictureAugment
from fctfg.data.augmentation.sound import SoundAugment, change_speed
from fctfg.data.batch import Batch, to_batch
from fctfg.data.clip_file import FORMS
from fctfg.data.datamodule import TalkingData
from fctfg.data.dataset import FLIP, TalkingClips
from fctfg.data.loader import BatchLoader
from fctfg.data.manifest import Clip, read_manifest
from fctfg.data.sampler import Key, PositionSampler
from fctfg.data.shards import ClipReader
from fctfg.errors import FctfgError
from fctfg.ops.mel import HOP, mel_spectrogram

SIZE, LENGTH = 32, 60
FAST = SoundAugment(speed_chance=1, speed=1.5, reverberation_chance=0, noise_chance=0, gain_chance=0)


def _frames(tint: int) -> np.ndarray:
    """Frames whose red level tells their number and whose green level tells the clip."""
    frames = np.zeros((LENGTH, SIZE, SIZE, 3), np.uint8)
    frames[..., 0] = (np.arange(LENGTH) * 4)[:, None, None]
    frames[..., 1] = tint
    return frames


@pytest.fixture(scope="module", params=FORMS)
def clips(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three people, two clips each; every frame tells its number."""
    root = tmp_path_factory.mktemp("clips")
    kept = []
    for number in range(6):
        tone = np.sin(np.arange(LENGTH * 640) * (0.01 + 0.01 * number)).astype(np.float32) * 0.3
        points = np.random.default_rng(number).random((LENGTH, 5, 2)).astype(np.float32)
        clip = Clip(f"clip{number}", f"person{number // 2}", "train")
        kept.append(store(root, clip, _frames(40 * number), tone, points, request.param))
    return write_set(root, kept, SIZE, request.param, shard_bytes=200_000)


def batch(data: TalkingClips, key: Key, changed: bool = False) -> Batch:
    """One sample as a batch of one."""
    return to_batch(default_collate([data[key]]), data.frames, changed)


def _number(image: torch.Tensor) -> float:
    """The frame number that an image shows."""
    return float((image[0].mean() + 1) * 127.5 / 4)


def _points(root: Path, name: str) -> torch.Tensor:
    (clip,) = [clip for clip in read_manifest(root) if clip.id == name]
    return torch.from_numpy(ClipReader(read_manifest(root)).track(clip)["points"])


def test_reader_gives_exactly_what_was_stored(clips: Path) -> None:
    manifest = read_manifest(clips)
    assert len(set(manifest.column("shard"))) > 1
    reader = ClipReader(manifest)
    for number, clip in enumerate(manifest):
        shown = reader.frames(clip, reader.track(clip, 7, 20))
        assert shown.shape == (20, 3, SIZE, SIZE) and shown.dtype == torch.uint8
        assert np.allclose(shown[:, 0].float().mean((1, 2)), np.arange(7, 27) * 4, atol=2)
        assert np.allclose(shown[:, 1].float().mean((1, 2)), 40 * number, atol=2)
        tone = np.sin(np.arange(LENGTH * 640) * (0.01 + 0.01 * number)) * 0.3
        np.testing.assert_allclose(reader.sound(clip, 1000, 50), tone[1000:1050], atol=1e-4)
        whole = mel_spectrogram(torch.from_numpy(reader.sound(clip)))
        torch.testing.assert_close(reader.mel(clip), whole, atol=1e-5, rtol=0)
        assert torch.equal(reader.mel(clip, 3, 9), reader.mel(clip)[:, 3:12])


def test_sample_is_source_window_and_the_windows_own_sound(clips: Path) -> None:
    data = TalkingClips(clips, "train", frames=5)
    reader = ClipReader(data.manifest)
    for index in range(12):
        sample = batch(data, (0, index))
        start = int(sample.start)
        shown = [_number(image) for image in sample.driving[0]]
        assert np.allclose(shown, range(start, start + 5), atol=0.9)
        clip = data.clip(int(sample.clip))
        points = _points(clips, clip.id)
        assert torch.equal(sample.points[0], points[start : start + 5])
        matching = (points == sample.source_points[0]).all((1, 2)).nonzero().item()
        assert abs(_number(sample.source[0]) - matching) < 0.9
        mel = reader.mel(clip)
        first = int(80 * start / 25)
        if first + 16 <= mel.shape[1]:
            assert torch.equal(sample.mel[0, 0, 0], mel[:, first : first + 16])
        assert sample.mel.shape == (1, 5, 1, 80, 16)


def test_sample_depends_on_seed_epoch_and_index_only(clips: Path) -> None:
    def flat(sample: Batch) -> torch.Tensor:
        return torch.cat([field.flatten().double() for field in sample])

    pictures, sound = PictureAugment(), SoundAugment()
    one, other = (TalkingClips(clips, "train", pictures=pictures, sound=sound) for _ in range(2))
    keys = [(epoch, index) for epoch in range(2) for index in range(8)]
    forward = [flat(batch(one, key, True)) for key in keys]
    backward = [flat(batch(other, key, True)) for key in reversed(keys)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))
    reseeded = TalkingClips(clips, "train", pictures=pictures, sound=sound, seed=1)
    again = [flat(batch(reseeded, key, True)) for key in keys]
    assert not all(torch.equal(a, b) for a, b in zip(forward, again, strict=True))


def test_validation_is_the_same_for_every_seed(clips: Path, tmp_path: Path) -> None:
    """So that runs can be compared, and the mean over several seeds is of one set."""
    root = shutil.copytree(clips, tmp_path / "clips")
    change_column(root, "split", lambda person, split: "val" if person == "person2" else split)
    one, other = (TalkingData(str(root), batch_size=2, val_samples=8, num_workers=0, seed=seed) for seed in (0, 7))
    assert other.train.seed == 7 and one.val_clips() == other.val_clips()
    for a, b in zip(one.val_dataloader(), other.val_dataloader(), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.frames, b.frames, strict=True)) and torch.equal(a.start, b.start)


def test_flip_mirrors_pictures_and_points_alike(clips: Path) -> None:
    data = TalkingClips(clips, "train", pictures=FLIP)
    flipped = 0
    for index in range(24):
        a, b = batch(data, (0, index), True), batch(data, (0, index), False)
        if not torch.equal(a.points, b.points):
            flipped += 1
            assert torch.equal(a.driving, b.driving.flip(-1))
            assert torch.equal(a.source, b.source.flip(-1))
            assert torch.allclose(a.points[..., 0, 0], 1 - b.points[..., 1, 0])
        else:
            assert torch.equal(a.driving, b.driving)
    assert 4 <= flipped <= 20


def test_changed_sound_without_a_change_is_the_stored_mel(clips: Path) -> None:
    """The waveform's way to the mel, which augmentation takes, against the stored one."""
    still = SoundAugment(speed_chance=0, reverberation_chance=0, noise_chance=0, gain_chance=0)
    for centered in (False, True):
        stored = TalkingClips(clips, "train", centered_mel=centered)
        computed = TalkingClips(clips, "train", sound=still, centered_mel=centered)
        inside = 0
        for index in range(20):
            a, b = (data.sample(index % 6, np.random.default_rng(index)) for data in (stored, computed))
            if 4 < int(b.start) < LENGTH - 12 and int(a.start) == int(b.start):  # at a clip's ends there is silence
                one, two = (to_batch(default_collate([sample]), 5, False).mel for sample in (a, b))
                torch.testing.assert_close(one, two, atol=1e-4, rtol=0)
                inside += 1
        assert inside > 3


def test_decoy_is_another_moment_of_the_clip(clips: Path) -> None:
    data = TalkingClips(clips, "train", frames=5, decoys=True)
    for index in range(12):
        sample = batch(data, (0, index))
        shown = [_number(image) for image in sample.decoy[0]]
        assert np.allclose(np.diff(shown), 1, atol=0.9)
        points = _points(clips, data.clip(int(sample.clip)).id)
        first = (points == sample.decoy_points[0, 0]).all((1, 2)).nonzero().item()
        assert abs(shown[0] - first) < 0.9
        assert abs(first - int(sample.start)) >= 5
    assert batch(TalkingClips(clips, "train"), (0, 0)).decoy.shape == (1, 0, 3, SIZE, SIZE)


def test_decoys_keep_clear_of_fast_speech(clips: Path) -> None:
    data = TalkingClips(clips, "train", frames=17, decoys=True, sound=FAST)  # needs 59 of the 60 frames
    for index in range(40):
        sample = batch(data, (0, index))
        points = _points(clips, data.clip(int(sample.clip)).id)
        shown, decoy = (
            {int((points == one).all((1, 2)).nonzero().item()) for one in some[0]}
            for some in (sample.points, sample.decoy_points)
        )
        assert len(decoy) == 17 and not shown & decoy


def test_the_fastest_speech_is_heard_to_its_end(tmp_path: Path) -> None:
    """A long sample against the whole clip played faster."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 160 * 640).astype(np.float32)
    frames, points = np.zeros((160, SIZE, SIZE, 3), np.uint8), np.zeros((160, 5, 2), np.float32)
    kept = [store(tmp_path, Clip("long", "person", "train"), frames, sound, points)]
    data = TalkingClips(write_set(tmp_path, kept, SIZE), "train", frames=40, sound=FAST)
    whole = torch.from_numpy(data.whole(0)[2])[None]
    speed = torch.tensor(FAST.speed)
    for seed in range(3):
        sample = data.sample(0, np.random.default_rng(seed))
        start = int(sample.start)
        assert 4 < start < 90  # its sound ends before the clip
        fast = sample._replace(sound=sample.sound._replace(speed=speed))
        mel = mel_spectrogram(change_speed(whole, speed[None], start * 640))[0]
        expected = mel[:, sample.windows + (start * 640 - sample.anchor) // HOP].transpose(0, 1)  # [T, 80, 16]
        torch.testing.assert_close(
            to_batch(default_collate([fast]), 40, False).mel[0, :, 0], expected, atol=1e-3, rtol=0
        )


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
    batches = [to_batch(sample, 5, False) for sample in BatchLoader(data, PositionSampler(2, 3), workers)]
    assert len(batches) == 2
    assert batches[0].driving.shape == (3, 5, 3, SIZE, SIZE)
    assert batches[0].mel.shape == (3, 5, 1, 80, 16)
    assert batches[0].driving.abs().max() <= 1


def test_empty_split_and_short_clips_are_said(clips: Path) -> None:
    with pytest.raises(FctfgError, match="has no clip in its split 'val'"):
        TalkingClips(clips, "val")
    with pytest.raises(FctfgError, match="100 frames"):
        TalkingClips(clips, "train", frames=100)


def test_the_beginning_of_a_clip_is_that_of_the_whole(clips: Path) -> None:
    data = TalkingClips(clips, "train")
    clip, frames, sound, mel = data.whole(0)
    row, first, *others = data.whole(0, 7)
    assert row == clip and first.shape[0] == 7
    np.testing.assert_array_equal(first, frames[:7])
    np.testing.assert_array_equal(others[0], sound)
    assert torch.equal(others[1], mel)
    assert len(data.whole(0, 10**6)[1]) == clip.n_frames


def test_lost_cut_off_and_damaged_shards_are_named(clips: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(clips, copy)
    data = TalkingClips(copy, "train")
    shard = sorted((copy / "shards").iterdir())[0]
    content = shard.read_bytes()
    shard.write_bytes(content[:2000])
    with pytest.raises(FctfgError, match=rf"{shard.name} has 2000 of {len(content)} bytes"):
        TalkingClips(copy, "train")
    with pytest.raises(FctfgError, match=rf"{shard.name} is cut off"):
        data.whole(0)
    shard.unlink()
    with pytest.raises(FctfgError, match=rf"{shard.name} is lost"):
        TalkingClips(copy, "train")


def test_damaged_picture_is_named(clips: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(clips, copy)
    data = TalkingClips(copy, "train")
    if data.manifest.form == "raw":
        return  # every byte is a colour
    clip = data.clip(0)
    track = ClipReader(data.manifest).track(clip)
    with (copy / "shards" / clip.shard).open("r+b") as file:
        file.seek(clip.film_at + int(track["at"][5]))
        file.write(bytes(40))
    with pytest.raises(FctfgError, match=f"the clip {clip.id} is damaged"):
        data.whole(0)
