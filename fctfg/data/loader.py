"""Batches read ahead by threads.

Decoders, file reads and tensor operations release the interpreter's lock, so threads scale as processes do, without
copying every batch from one process to another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch
from torch.utils.data import default_collate

from fctfg.data.batch import Sample
from fctfg.data.dataset import TalkingClips
from fctfg.data.replaced import Replacing
from fctfg.data.sampler import Key, PositionSampler
from fctfg.troubles import Troubles


class BatchLoader:
    """Batches of samples in the order of their positions, whatever the number of threads.

    Args:
        data: gives the samples.
        sampler: says which ones; asked anew at each iteration.
        workers: threads that read ahead; with 0 one thread reads, when a batch is asked for.
        pin: put batches into page-locked memory, from which they go to a GPU faster.
        troubles: where samples that had to be replaced are counted, and long waits.
        patience: seconds of waiting for a batch after which it is said which clip is being read.
    """

    def __init__(
        self,
        data: TalkingClips,
        sampler: PositionSampler,
        workers: int,
        pin: bool = False,
        troubles: Troubles | None = None,
        patience: float = 60.0,
    ) -> None:
        self.data, self.positions, self.workers, self.pin, self.patience = data, sampler, workers, pin, patience
        self.troubles = troubles or Troubles()
        self._samples = Replacing(data, self.troubles)
        self._reading: dict[Key, Key] = {}  # position of a batch's first sample -> of the sample that is being read

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, keys: list[Key]) -> Sample:
        """One batch, collated; frames are read right to where the batch has them."""
        size = self.data.size
        frames = torch.empty(
            len(keys), self.data.pictures_per_sample, size, size, 3, dtype=torch.uint8, pin_memory=self.pin
        )
        samples = []
        for key, place in zip(keys, frames, strict=True):
            self._reading[keys[0]] = key
            samples.append(self._samples.read(key, place))
        self._reading.pop(keys[0], None)
        rest: Sample = default_collate([sample._replace(frames=sample.start) for sample in samples])
        if self.pin:
            rest = torch.utils.data._utils.pin_memory.pin_memory(rest)
        return rest._replace(frames=frames.movedim(-1, 2))

    def __iter__(self) -> Iterator[Sample]:
        waiting: deque[tuple[list[Key], Future[Sample]]] = deque()
        ahead = self.workers + 1 if self.workers else 0
        pool = ThreadPoolExecutor(self.workers or 1, thread_name_prefix="loader")
        try:
            for keys in self.positions:
                waiting.append((keys, pool.submit(self.batch, keys)))
                if len(waiting) > ahead:
                    yield self._result(*waiting.popleft())
            while waiting:
                yield self._result(*waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _result(self, keys: list[Key], batch: Future[Sample]) -> Sample:
        """A batch once it is read; while it takes long, the clips are named that are being read."""
        while not wait([batch], self.patience).done:
            reading = [self.data.drawn_clip(key) for key in list(self._reading.values())]
            names = ", ".join(f"{clip.id} ({self.data.root / 'shards' / clip.shard})" for clip in reading)
            self.troubles.meet(
                f"waits of {self.patience:g} s for the data",
                f"Training has waited for {self.patience:g} s for {names}: the disk is slow, or does not answer",
                about=names,
            )
        return batch.result()
