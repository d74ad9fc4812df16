"""Which sample comes when: a pure function of the position, so that runs repeat and resume exactly."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler

Key = tuple[int, int]  # (epoch, index within the epoch)


class PositionSampler(Sampler[list[Key]]):
    """A batch sampler that yields positions, `(epoch, index)`; the data set turns a position into a sample.

    An epoch is a fixed number of batches (a "tick"), not a pass over the clips. The ranks take turns within each
    batch, so the samples of an epoch do not depend on anything but the number of processes.

    Args:
        batches: batches per epoch and process.
        batch_size: samples per batch and process.
        rank: this process, 0-based.
        world: number of processes.
    """

    def __init__(self, batches: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.batches = batches
        self.batch_size = batch_size
        self.rank = rank
        self.world = world
        self.epoch = 0
        self.skip = 0  # batches of the next epoch that an interrupted run has already seen

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[Key]]:
        first, self.skip = self.skip, 0
        for batch in range(first, self.batches):
            start = (batch * self.world + self.rank) * self.batch_size
            yield [(self.epoch, start + i) for i in range(self.batch_size)]
