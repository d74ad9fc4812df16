"""Whether the expert's network, trained as stage 0 trains it, can learn a few clips by heart."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import default_collate

from fctfg.data.batch import Batch, to_batch
from fctfg.data.dataset import TalkingClips
from fctfg.models.experts.syncnet import SyncNetConfig
from fctfg.randomness import rng
from fctfg.stages.networks import Networks
from fctfg.stages.sync_expert import SyncExpert, shifted_accuracy

FRAMES = 40  # of a sample: eight windows, as in configs/sync_expert.yaml
BATCH = 8  # samples of an iteration
LEARNING_RATE = 1e-3
ENOUGH = 0.9  # accuracy on what is learnt at which it is called learnt
LOOK = 50  # iterations from one look at the accuracy to the next


@dataclass(frozen=True)
class Overfit:
    """What became of learning a few clips by heart.

    Attributes:
        clips, windows: that were learnt.
        width, dim: of the network.
        iterations, seconds: that it took.
        given: iterations that there were.
        loss: of the last iteration.
        chance: loss of a guess.
        accuracy: two-way, on what was learnt, shifts of 5-15 frames; chance is 0.5.
    """

    clips: int
    windows: int
    width: float
    dim: int
    iterations: int
    given: int
    seconds: float
    loss: float
    chance: float
    accuracy: float

    @property
    def learnt(self) -> bool:
        """Whether it knows the clips by heart."""
        return self.accuracy >= ENOUGH

    @property
    def decided(self) -> bool:
        """Whether it does, or has had all its iterations."""
        return self.learnt or self.iterations >= self.given

    def __str__(self) -> str:
        return (
            f"{self.clips} clips, {self.windows} windows, width {self.width:g}: accuracy {self.accuracy:.2f} (a guess: "
            f"0.50), loss {self.loss:.2f} (a guess: {self.chance:.2f}) after {self.iterations} iterations, "
            f"{self.seconds:.0f} s"
        )


def measure_overfit(
    data: Path,
    network: SyncNetConfig,
    iterations: int,
    seconds: float,
    clips: int = 200,
    device: str = "cpu",
    show: Callable[[int, int], None] = lambda done, total: None,
) -> Overfit:
    """Train a new expert on one moment of each of a few training clips, without any variation.

    Args:
        data: the data set.
        network: its sizes.
        iterations: at most.
        seconds: at most; at least one look at the accuracy is taken.
        clips: at most.
        device: that computes.
        show: called with the iterations that are done and all.

    Raises:
        FctfgError: no training clip has 40 frames.
    """
    torch.manual_seed(0)
    begun = time.monotonic()
    sizes = replace(Networks(), sync_expert=network)
    stage = SyncExpert(sizes, learning_rate=LEARNING_RATE, augment=False).to(device).train()
    mouths, sounds = _moments(stage, data, clips)
    optimizer = stage.configure_optimizers()
    draw = rng(0, "overfit")
    done, loss, chance, accuracy = 0, torch.zeros(()), torch.zeros(()), 0.0
    while done < iterations and accuracy < ENOUGH and (not done or time.monotonic() - begun < seconds):
        for _ in range(min(LOOK, iterations - done)):
            rows = torch.from_numpy(draw.permutation(len(mouths))[:BATCH])
            face, sound = stage.embed(mouths[rows].float().to(device), sounds[rows].to(device))
            terms = stage.contrastive_terms(face.flatten(0, 1), sound.flatten(0, 1))
            loss, chance = terms["contrastive"], terms["contrastive_chance"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            done += 1
            show(done, iterations)
            if time.monotonic() - begun > seconds:
                break
        accuracy = _known(stage, mouths, sounds)
    return Overfit(
        clips=len(mouths),
        windows=len(mouths) * mouths.shape[1],
        width=network.width,
        dim=network.dim,
        iterations=done,
        given=iterations,
        seconds=time.monotonic() - begun,
        loss=loss.item(),
        chance=chance.item(),
        accuracy=accuracy,
    )


def _moments(stage: SyncExpert, data: Path, clips: int) -> tuple[Tensor, Tensor]:
    """Mouths [N, W, 15, 48, 96], in half precision, and sounds [N, W, 1, 80, 16] of one moment of each clip."""
    known = TalkingClips(data, "train", FRAMES)
    chosen = rng(0, "overfit", "clips").permutation(len(known))[:clips]
    mouths, sounds = [], []
    for clip in map(int, chosen):
        sample = known.sample(clip, rng(0, "overfit", clip))
        batch = to_batch(default_collate([sample]), FRAMES, False)
        with torch.no_grad():
            seen, heard = stage.cut(Batch(*(field.to(stage.device) for field in batch)))
        mouths.append(seen.half().cpu())
        sounds.append(heard.cpu())
    return torch.cat(mouths), torch.cat(sounds)


@torch.no_grad()
def _known(stage: SyncExpert, mouths: Tensor, sounds: Tensor) -> float:
    """Accuracy on what is learnt; batch norms see a batch, as in training."""
    parts = [
        shifted_accuracy(*stage.embed(m.float().to(stage.device), s.to(stage.device))) * len(m)
        for m, s in zip(mouths.split(BATCH), sounds.split(BATCH), strict=True)
    ]
    return float(torch.stack(parts).sum() / len(mouths))
