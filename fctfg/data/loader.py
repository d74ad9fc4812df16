"""Batches read ahead by threads.

Decoders, file reads and tensor operations release the interpreter's lock, so threads scale as processes do, without
copying every batch from one process to another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch.utils.data import default_collate

from fctfg.data.batch import Sample
from fctfg.data.dataset import TalkingClips
from fctfg.data.sampler import Key, PositionSampler


class BatchLoader:
    """Batches of samples in the order of their positions, whatever the number of threads.

    Args:
        data: gives the samples.
        sampler: says which ones; asked anew at each iteration.
        workers: threads that read ahead; 0 reads when a batch is asked for.
        pin: put batches into page-locked memory, from which they go to a GPU faster.
    """

    def __init__(self, data: TalkingClips, sampler: PositionSampler, workers: int, pin: bool = False) -> None:
        self.data, self.positions, self.workers, self.pin = data, sampler, workers, pin

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, keys: list[Key]) -> Sample:
        """One batch, collated; frames are read right to where the batch has them."""
        size = self.data.size
        frames = torch.empty(
            len(keys), self.data.pictures_per_sample, size, size, 3, dtype=torch.uint8, pin_memory=self.pin
        )
        samples = [self.data.read(key, place) for key, place in zip(keys, frames, strict=True)]
        rest: Sample = default_collate([sample._replace(frames=sample.start) for sample in samples])
        if self.pin:
            rest = torch.utils.data._utils.pin_memory.pin_memory(rest)
        return rest._replace(frames=frames.movedim(-1, 2))

    def __iter__(self) -> Iterator[Sample]:
        if not self.workers:
            yield from map(self.batch, self.positions)
            return
        waiting: deque[Future[Sample]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="loader")
        try:
            for keys in self.positions:
                waiting.append(pool.submit(self.batch, keys))
                if len(waiting) > self.workers + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
