"""Who, which clip and which moment is drawn: balanced, and a function of the position alone."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_sets import store, write_set
from scipy.stats import chisquare

from fctfg.data.augmentation.pictures import PictureAugment
from fctfg.data.augmentation.sound import SoundAugment
from fctfg.data.batch import Sample
from fctfg.data.dataset import FLIP, TalkingClips
from fctfg.data.loader import BatchLoader
from fctfg.data.manifest import Clip
from fctfg.data.sampler import Key, PositionSampler
from fctfg.data.shards import ClipReader

SIZE, LENGTH, FRAMES = 16, 40, 5
CLIPS = (1, 2, 4, 8, 16, 32)  # of each person
CHANCE = 1e-4  # with which a fair draw fails; the draws are always the same


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people with very unequal numbers of clips, in many shards."""
    root = tmp_path_factory.mktemp("clips")
    draw = np.random.default_rng(0)
    kept = [
        store(
            root,
            Clip(f"clip{person}-{number:02d}", f"person{person}", "train"),
            draw.integers(0, 256, (LENGTH, SIZE, SIZE, 3), np.uint8),
            draw.uniform(-0.5, 0.5, LENGTH * 640).astype(np.float32),
            draw.random((LENGTH, 5, 2), np.float32),
            "raw",
        )
        for person, count in enumerate(CLIPS)
        for number in range(count)
    ]
    return write_set(root, kept, SIZE, "raw", shard_bytes=200_000)


def clips(root: Path) -> TalkingClips:
    """All that may be random in a sample."""
    return TalkingClips(root, "train", FRAMES, decoys=True, pictures=PictureAugment(), sound=SoundAugment(), seed=3)


def flat(sample: Sample) -> torch.Tensor:
    """Every number of a sample, in one row."""
    fields = [*sample[:-2], *sample.pictures, *sample.sound]
    return torch.cat([field.flatten().double() for field in fields])


def read(data: TalkingClips, keys: list[Key]) -> torch.Tensor:
    """Samples of positions, one a row; what another process calls."""
    torch.set_num_threads(1)
    return torch.stack([flat(data[key]) for key in keys])


def fair(counts: np.ndarray) -> None:
    assert chisquare(counts).pvalue > CHANCE, counts


def test_every_lap_shows_everybody_once_in_another_order(root: Path) -> None:
    data = TalkingClips(root, "train", FRAMES)
    shown = np.array([[int(data[(epoch, i)].identity) for i in range(120)] for epoch in range(3)]).reshape(-1, 6)
    assert (np.sort(shown, axis=1) == np.arange(6)).all()
    for place in range(6):
        fair(np.bincount(shown[:, place], minlength=6))
    assert len({tuple(lap) for lap in shown.tolist()}) > 50  # of 60 laps, with 720 orders


def test_clips_of_a_person_windows_and_source_are_drawn_evenly(root: Path) -> None:
    data = TalkingClips(root, "train", FRAMES, decoys=True)
    samples = [data[(0, index)] for index in range(6 * 1000)]
    clip = np.array([int(sample.clip) for sample in samples])
    who = np.array([int(sample.identity) for sample in samples])
    counts = np.bincount(clip, minlength=sum(CLIPS))
    for person, number in enumerate(CLIPS):
        own = np.unique(clip[who == person])
        assert len(own) == number and counts[own].sum() == 1000
        if number > 1:
            fair(counts[own])
    start = np.array([int(sample.start) for sample in samples])
    fair(np.bincount(start, minlength=LENGTH - FRAMES + 1))
    assert start.min() == 0 and start.max() == LENGTH - FRAMES

    reader = ClipReader(data.manifest)
    points = [reader.track(data.clip(n))["points"] for n in range(sum(CLIPS))]

    def place(number: int, frame: int) -> int:
        same = (points[clip[number]] == samples[number].points[frame].numpy()).all((1, 2))
        return int(same.nonzero()[0].item())

    fair(np.bincount([place(n, 0) for n in range(2000)], minlength=LENGTH))
    decoy = np.array([place(n, 1 + FRAMES) for n in range(6000)])
    assert (abs(decoy - start) >= FRAMES).all()
    middle = start == 10  # any window that does not overlap is as likely: 0 to 5 and 15 to 35
    fair(np.bincount(decoy[middle], minlength=36)[[*range(6), *range(15, 36)]])


def test_neither_threads_nor_the_order_of_access_change_a_sample(root: Path) -> None:
    keys = [(1, index) for index in range(60)]
    expected = read(clips(root), keys)
    order = np.random.default_rng(0).permutation(60)
    shuffled = read(clips(root), [keys[i] for i in order])
    assert torch.equal(shuffled, expected[order])
    for workers in (0, 1, 4):
        loader = BatchLoader(clips(root), PositionSampler(10, 6, done=lambda: 10), workers)
        rows = [flat(one) for batch in loader for one in _divide(batch)]
        assert torch.equal(torch.stack(rows), expected), workers


def _divide(batch: Sample) -> list[Sample]:
    """The samples of a collated batch."""
    return [
        Sample(
            *(field[i] for field in batch[:-2]),
            type(batch.pictures)(*(field[i] for field in batch.pictures)),
            type(batch.sound)(*(field[i] for field in batch.sound)),
        )
        for i in range(len(batch.clip))
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_see_the_batches_of_one(root: Path, workers: int) -> None:
    alone = [flat(one) for batch in BatchLoader(clips(root), PositionSampler(4, 6), workers) for one in _divide(batch)]
    ranks = [list(BatchLoader(clips(root), PositionSampler(4, 3, rank, 2), workers)) for rank in range(2)]
    dealt = [one for pair in zip(*ranks, strict=True) for both in zip(*map(_divide, pair), strict=True) for one in both]
    together = [flat(one) for one in dealt]
    assert torch.equal(torch.stack(together), torch.stack(alone))


def test_a_continued_run_goes_on_at_any_batch(root: Path) -> None:
    done = [0]
    loader = BatchLoader(clips(root), PositionSampler(5, 3, done=lambda: done[0]), 2)
    straight = []
    for epoch in range(2):
        done[0] = 5 * epoch
        straight += [torch.stack([flat(one) for one in _divide(batch)]) for batch in loader]
    for cut in range(10):
        done[0] = cut
        rest = [torch.stack([flat(one) for one in _divide(batch)]) for batch in loader]
        assert len(rest) == 5 - cut % 5
        assert all(torch.equal(a, b) for a, b in zip(rest, straight[cut:], strict=False))


def test_another_process_draws_the_same(root: Path) -> None:
    data = clips(root)
    keys = [(0, index) for index in (0, 7, 41, 3)]
    expected = read(data, keys)  # files are open now, which do not travel
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert torch.equal(pool.submit(read, data, keys).result(), expected)


def test_flips_alone_are_the_flips_of_all_changes_and_take_as_many_numbers() -> None:
    for seed in range(20):
        one, other = np.random.default_rng(seed), np.random.default_rng(seed)
        alone, among = FLIP.draw(one, 6), PictureAugment(flip_chance=FLIP.flip_chance).draw(other, 6)
        assert alone.flip == among.flip and alone.seed == among.seed
        assert one.bit_generator.state == other.bit_generator.state
        assert [field.shape for field in alone] == [field.shape for field in among]
        assert [field.dtype for field in alone] == [field.dtype for field in among]
