"""Which sample comes when: a pure function of the position, so that runs repeat and resume exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch.utils.data import Sampler

Key = tuple[int, int]  # (epoch, index within the epoch)


def positions(iteration: int, batches: int, batch_size: int, rank: int = 0, world: int = 1) -> list[Key]:
    """The positions of a process's samples in an iteration, counted from 0 over all epochs; the rest as below."""
    epoch, batch = divmod(iteration, batches)
    start = batch * world * batch_size + rank
    return [(epoch, start + i * world) for i in range(batch_size)]


class PositionSampler(Sampler[list[Key]]):
    """A batch sampler that yields positions, `(epoch, index)`; the data set turns a position into a sample.

    An epoch is a fixed number of batches (a "tick"), not a pass over the clips. Where an iteration begins is asked of
    `done` each time: a continued run goes on with the batch that comes next. The samples of an iteration are dealt to
    the ranks like cards, so N ranks with batches of B see in every iteration what one with batches of N * B sees; and
    where groups of images share a statistic (`fctfg.models.discriminator`), the groups are the same.

    Args:
        batches: batches per epoch and process.
        batch_size: samples per batch and process.
        rank: this process, 0-based.
        world: number of processes.
        done: batches that the run has seen so far, over all epochs.
    """

    def __init__(
        self, batches: int, batch_size: int, rank: int = 0, world: int = 1, done: Callable[[], int] = lambda: 0
    ) -> None:
        self.batches = batches
        self.batch_size = batch_size
        self.rank = rank
        self.world = world
        self.done = done

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[Key]]:
        done = self.done()
        last = done - done % self.batches + self.batches
        return (positions(i, self.batches, self.batch_size, self.rank, self.world) for i in range(done, last))
