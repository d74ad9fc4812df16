"""What processes exchange within a step, and what is drawn for samples, against one process that has everything."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fctfg.losses.contrastive import contrastive
from fctfg.models.discriminator import minibatch_stddev
from fctfg.models.synced_batch_norm import SyncedBatchNorm, sync_batch_norms
from fctfg.ops.draws import Draws
from fctfg.ops.processes import average, gather, process
from fctfg.stages.finite import Statistics

RANKS = 2


def values(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def contrast(face: Tensor, sound: Tensor) -> Tensor:
    sounds = gather(F.normalize(sound, dim=1))
    return contrastive(F.normalize(face, dim=1), sounds, 0.1, first=process()[0] * len(face))


def contrastive_gradients(rank: int, ranks: int) -> dict[str, Tensor]:
    """Of faces and sounds, under a loss that is averaged over the processes."""
    face, sound = (x.chunk(ranks)[rank].clone().requires_grad_() for x in (values(6, 4), values(6, 4) + 1))
    loss = contrast(face, sound)
    (loss / ranks).backward()
    return {"loss": loss.detach(), "face": face.grad, "sound": sound.grad}


def norms() -> nn.Sequential:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(12)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(values(*parameter.shape) + 0.5)
    return network


def norm_gradients(rank: int, ranks: int) -> dict[str, Tensor]:
    """Of a network with batch norms: of its input, and of its weights, which are summed over the processes."""
    network = norms()
    sync_batch_norms(network)
    x = values(6, 2, 4, 4).chunk(ranks)[rank].clone().requires_grad_()
    weights = values(6, 12).chunk(ranks)[rank]
    for _ in range(2):  # running statistics twice
        y = network(x)
    (y * weights).sum().backward()
    found = {f"sum {name}": p.grad for name, p in network.named_parameters()}
    found |= {f"same {name}": b for name, b in network.named_buffers()}
    return found | {"y": y.detach(), "x": x.grad}


def agreed(rank: int) -> dict[str, Tensor]:
    """What `average` makes of gradients that differ by process, and what becomes of a batch norm that is not synced."""
    gradients = [values(2, 3) * (rank + 1), values(4).view(2, 2).t() + rank]  # the second is not contiguous
    average(gradients)
    norm = nn.BatchNorm1d(3).double()
    statistics = Statistics([norm])
    norm(values(5, 3) + rank)
    statistics.settle(torch.zeros(()))
    return {"first": gradients[0], "second": gradients[1], **dict(norm.named_buffers())}


def _rank(rank: int, port: int, found: "multiprocessing.Queue[Any]") -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=RANKS)
    gradients = contrastive_gradients(rank, RANKS), norm_gradients(rank, RANKS), agreed(rank)
    found.put((rank, [{name: value.tolist() for name, value in one.items()} for one in gradients]))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks() -> list[list[dict[str, Tensor]]]:
    """What each of two processes finds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    found: multiprocessing.Queue[Any] = context.Queue()
    processes = [context.Process(target=_rank, args=(rank, port, found)) for rank in range(RANKS)]
    for one in processes:
        one.start()
    answers = dict(found.get(timeout=120) for _ in processes)
    for one in processes:
        one.join(60)
    tensors: Callable[[Any], Tensor] = lambda value: torch.tensor(value, dtype=torch.float64)  # noqa: E731
    return [[{name: tensors(value) for name, value in part.items()} for part in answers[rank]] for rank in range(RANKS)]


def test_gradients_become_their_means_and_statistics_those_of_the_first(ranks: list[list[dict[str, Tensor]]]) -> None:
    one, two = ranks[0][2], ranks[1][2]
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    torch.testing.assert_close(one["first"], values(2, 3) * 1.5)
    torch.testing.assert_close(one["second"], values(4).view(2, 2).t() + 0.5)
    torch.testing.assert_close(one["running_mean"], 0.1 * values(5, 3).mean(0))  # a momentum of 0.1, and rank 0
    assert int(one["num_batches_tracked"]) == 1


def test_negatives_of_all_processes_get_their_gradients(ranks: list[list[dict[str, Tensor]]]) -> None:
    one, two = ranks[0][0], ranks[1][0]
    whole = contrastive_gradients(0, 1)
    torch.testing.assert_close((one["loss"] + two["loss"]) / 2, whole["loss"])
    for name in ("face", "sound"):
        torch.testing.assert_close(torch.cat([one[name], two[name]]), whole[name], rtol=1e-12, atol=1e-14)


def test_batch_norms_see_the_samples_of_all_processes(ranks: list[list[dict[str, Tensor]]]) -> None:
    """Against torch's own batch norms on everything: output, running statistics, gradients."""
    one, two = ranks[0][1], ranks[1][1]
    network, x = norms(), values(6, 2, 4, 4).requires_grad_()
    for _ in range(2):
        y = network(x)
    (y * values(6, 12)).sum().backward()
    close = {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(torch.cat([one["y"], two["y"]]), y, **close)
    torch.testing.assert_close(torch.cat([one["x"], two["x"]]), x.grad, **close)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(one[f"sum {name}"] + two[f"sum {name}"], parameter.grad, **close)
    for name, buffer in network.named_buffers():
        for part in (one, two):
            torch.testing.assert_close(part[f"same {name}"], buffer.double(), **close)


def test_batch_norms_of_one_process_are_torchs() -> None:
    network = norms()
    tensors = dict(network.state_dict(keep_vars=True))
    before = network(values(6, 2, 4, 4))
    sync_batch_norms(network)
    assert [type(m) for m in network if isinstance(m, nn.BatchNorm2d)] == [SyncedBatchNorm, SyncedBatchNorm]
    assert all(tensors[name] is value for name, value in network.state_dict(keep_vars=True).items())
    assert torch.equal(network(values(6, 2, 4, 4)), before)
    network.eval()
    sync_batch_norms(network)
    assert network(values(1, 2, 4, 4)).shape == (1, 12)


def test_the_faces_own_sounds_must_be_among_the_sounds() -> None:
    face, sounds = F.normalize(values(2, 4), dim=1), F.normalize(values(5, 4), dim=1)
    for first in range(4):
        expected = -(face @ sounds.T / 0.5).log_softmax(1)[[0, 1], [first, first + 1]].mean()
        torch.testing.assert_close(contrastive(face, sounds, 0.5, first), expected)
    for first in (-1, 4):
        with pytest.raises(ValueError, match="not among 5"):
            contrastive(face, sounds, 0.5, first)


@pytest.mark.parametrize("hands", [2, 3])
def test_dealt_samples_have_the_groups_of_the_whole_batch(hands: int) -> None:
    """The minibatch statistics: images of a sample follow each other, samples are dealt, groups of 4 divide a hand."""
    group, frames = 4, 5
    images = values(8 * hands, frames, 3, 2, 2)  # [samples, frames, ...]
    whole = minibatch_stddev(images.flatten(0, 1), group).unflatten(0, (-1, frames))[:, :, -1]
    for hand in range(hands):
        dealt = minibatch_stddev(images[hand::hands].flatten(0, 1), group).unflatten(0, (-1, frames))[:, :, -1]
        torch.testing.assert_close(dealt, whole[hand::hands])
    together = minibatch_stddev(images[: len(images) // hands].flatten(0, 1), group)
    assert not torch.allclose(together[:, -1], whole[: len(images) // hands].flatten(0, 1))


def test_draws_belong_to_samples() -> None:
    rows = torch.arange(12)
    whole = Draws.of_rows(7, rows)
    for kind in ("normal", "uniform"):
        drawn = getattr(whole, kind)("z", 2, 3)
        dealt = [getattr(Draws.of_rows(7, rows[rank::3]), kind)("z", 2, 3) for rank in range(3)]
        assert torch.equal(torch.stack(dealt, 1).flatten(0, 1), drawn)
        assert drawn.shape == (12, 2, 3) and len(drawn.unique()) > 60
        assert not torch.equal(getattr(whole, kind)("noise", 2, 3), drawn)
        assert not torch.equal(getattr(Draws.of_rows(8, rows), kind)("z", 2, 3), drawn)
    frames = whole.repeat(5)
    assert len(frames.seeds.unique()) == 60
    assert torch.equal(frames.seeds.view(12, 5)[4], Draws(whole.seeds[4:5]).repeat(5).seeds)


def test_uniform_draws_are_uniform() -> None:
    """Mean, variance and the Kolmogorov-Smirnov distance of 200,000 values, and none of 1."""
    drawn = Draws.of_rows(3, torch.arange(2000)).uniform("share", 100).double()
    assert drawn.min() >= 0 and drawn.max() < 1
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.003)
    assert drawn.var().item() == pytest.approx(1 / 12, abs=0.001)
    ordered = drawn.flatten().sort().values
    steps = torch.arange(len(ordered)) / len(ordered)
    assert (ordered - steps).abs().max() < 1.95 / len(ordered) ** 0.5  # passed by 999 of 1000 uniform samples
    between = torch.corrcoef(drawn[:, :2].T)[0, 1]
    assert abs(between) < 0.1
