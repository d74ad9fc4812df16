"""Reading ahead with threads: order, errors, clean ends, and few open files."""

import gc
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_sets import store, write_set

from fctfg.data.batch import Sample
from fctfg.data.dataset import TalkingClips
from fctfg.data.loader import BatchLoader
from fctfg.data.manifest import Clip
from fctfg.data.sampler import PositionSampler

SIZE, LENGTH, SHARDS = 16, 10, 200


def write_clips(root: Path, count: int, form: str) -> Path:
    """As many shards as people as clips."""
    draw = np.random.default_rng(0)
    kept = [
        store(
            root,
            Clip(f"clip{number:03d}", f"person{number:03d}", "train"),
            draw.integers(0, 256, (LENGTH, SIZE, SIZE, 3), np.uint8),
            np.zeros(LENGTH * 640, np.float32),
            form=form,
        )
        for number in range(count)
    ]
    return write_set(root, kept, SIZE, form, shard_bytes=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"), SHARDS, "raw")


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_batches_come_in_the_order_of_their_positions(root: Path, workers: int) -> None:
    """The first clips of an epoch take longest, so that later batches are finished before them."""

    class Slow(TalkingClips):
        def read(self, key: tuple[int, int], out: torch.Tensor | None = None, attempt: int = 0) -> Sample:
            time.sleep(0.02 * (key[1] % 4 == 0))
            return super().read(key, out, attempt)

    keys = [(0, index) for index in range(20)]
    data = Slow(root, "train")
    expected = [data[key] for key in keys]
    batches = list(BatchLoader(data, PositionSampler(10, 2), workers))
    assert torch.equal(torch.cat([batch.clip for batch in batches]), torch.stack([one.clip for one in expected]))
    assert torch.equal(torch.cat([batch.frames for batch in batches]), torch.stack([one.frames for one in expected]))
    assert not loader_threads()


def test_a_batch_lies_in_memory_as_its_samples_do(root: Path) -> None:
    data = TalkingClips(root, "train", decoys=False)
    (batch,) = BatchLoader(data, PositionSampler(1, 3), 0)
    assert batch.frames.shape == (3, 6, 3, SIZE, SIZE) and batch.frames.dtype == torch.uint8
    assert batch.frames.movedim(2, -1).is_contiguous()


def test_an_abandoned_iterator_leaves_no_threads(root: Path) -> None:
    loader = BatchLoader(TalkingClips(root, "train"), PositionSampler(1000, 4), 3)
    for number, _ in enumerate(loader):
        if number == 2:
            break
    gc.collect()
    assert not loader_threads()
    batches = iter(loader)
    next(batches)
    assert len(loader_threads()) == 3
    del batches
    gc.collect()
    assert not loader_threads()
    assert len(list(BatchLoader(loader.data, PositionSampler(2, 4), 3))) == 2  # and can be used again


def test_reading_ahead_is_bounded(root: Path) -> None:
    """A consumer that stops does not fill the memory."""
    read = []

    class Counting(TalkingClips):
        def read(self, key: tuple[int, int], out: torch.Tensor | None = None, attempt: int = 0) -> Sample:
            read.append(key)
            return super().read(key, out, attempt)

    batches = iter(BatchLoader(Counting(root, "train"), PositionSampler(100, 2), 2))
    next(batches)
    time.sleep(0.3)
    assert len(read) <= 2 * 4  # the one that was given and three ahead


def test_few_descriptors_are_enough_for_many_shards(root: Path) -> None:
    """200 shards, 4 threads, and no more than 80 open files allowed; the result is that of one thread without limit."""
    program = """
import resource, sys, torch
from fctfg.data.dataset import TalkingClips
from fctfg.data.loader import BatchLoader
from fctfg.data.sampler import PositionSampler
resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
import os
data = TalkingClips(sys.argv[1], "train")
total, most = 0, 0
for batch in BatchLoader(data, PositionSampler(100, 8), 4):
    total += int(batch.frames.sum())
    most = max(most, len(os.listdir("/proc/self/fd")))
print(total, most)
"""
    run = subprocess.run([sys.executable, "-c", program, root], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    total, most = map(int, run.stdout.split())
    data = TalkingClips(root, "train")
    assert total == sum(int(data[(0, index)].frames.sum()) for index in range(800))
    assert most < 80


def test_a_data_set_that_goes_closes_its_files(root: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    data = TalkingClips(root, "train")
    list(BatchLoader(data, PositionSampler(10, 20), 2))
    opened = len(list(Path("/proc/self/fd").iterdir())) - before
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert 0 < opened <= limit // 2
    del data
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
