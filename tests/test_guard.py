"""The parts that keep a step finite, each against an independent reference."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fctfg.losses.adversarial import d_logistic_fake, d_logistic_real, g_nonsaturating
from fctfg.losses.arcface_margin import arcface_margin, class_cosines
from fctfg.losses.contrastive import contrastive
from fctfg.losses.identity import identity
from fctfg.losses.orthogonality import orthogonality
from fctfg.losses.perceptual import perceptual
from fctfg.losses.reconstruction import reconstruction, squared_error
from fctfg.losses.sync import sync
from fctfg.ops.modulated_conv import demodulation
from fctfg.stages import ema
from fctfg.stages.finite import Safety, Statistics, finite_root, gradient_norms, guard
from fctfg.stages.ranger import Ranger
from fctfg.stages.spikes import UsualRange

Optimizer = torch.optim.Optimizer
OPTIMISERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=5e-4, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "ranger": lambda p: Ranger(p, lr=1e-2),
}


def parameters(seed: int = 0) -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(5, 3, generator=draw)), nn.Parameter(torch.randn(7, generator=draw))]


def give_gradients(group: list[nn.Parameter], seed: int, spoilt: float | None = None) -> None:
    draw = torch.Generator().manual_seed(100 + seed)
    for p in group:
        p.grad = torch.randn(p.shape, generator=draw)
    if spoilt is not None:
        group[1].grad[3] = spoilt  # type: ignore[index]


@pytest.mark.parametrize("kind", OPTIMISERS)
@pytest.mark.parametrize("spoilt", [math.nan, math.inf, -math.inf, 1e38])  # the square of the last is too large
def test_a_skipped_step_did_not_happen(kind: str, spoilt: float) -> None:
    ours, theirs = parameters(), parameters()
    guarded, plain = OPTIMISERS[kind](ours), OPTIMISERS[kind](theirs)
    for step in range(14):
        bad = step in (0, 3, 5, 11)  # the first too, and where Ranger returns to its slow weights
        give_gradients(ours, step, spoilt if bad else None)
        before = copy.deepcopy((ours, guarded.state_dict()["state"]))
        guard(guarded, gradient_norms({"all": ours}))
        guarded.step()
        if bad:
            assert all(torch.equal(a, b) for a, b in zip(before[0], ours, strict=True))
            after = guarded.state_dict()["state"]
            assert all(torch.equal(v, after[n][key]) for n, state in before[1].items() for key, v in state.items())
        else:
            give_gradients(theirs, step)
            plain.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert {float(state["step"]) for state in guarded.state_dict()["state"].values()} == {10.0}


@pytest.mark.parametrize("kind", ["adam", "ranger"])
@pytest.mark.parametrize("clip", [0.5, 100.0])
def test_clipping_is_that_of_torch(kind: str, clip: float) -> None:
    ours, theirs = parameters(), parameters()
    clipped, plain = OPTIMISERS[kind](ours), OPTIMISERS[kind](theirs)
    for step in range(8):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        norm = nn.utils.clip_grad_norm_(theirs, clip)
        norms = gradient_norms({"one": ours[:1], "none": [nn.Parameter(torch.ones(2))], "other": ours[1:]})
        assert list(norms) == ["one", "other"]
        assert math.hypot(*map(float, norms.values())) == pytest.approx(float(norm), rel=1e-6)
        guard(clipped, norms, clip)
        clipped.step()
        plain.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_ranger_is_radam_with_lookahead() -> None:
    """Torch's RAdam, and Lookahead as its paper has it: every 6 steps, half the way from the slow weights."""
    ours = [nn.Parameter(p.detach().double()) for p in parameters()]
    theirs = copy.deepcopy(ours)
    ranger, radam = Ranger(ours, lr=1e-2), torch.optim.RAdam(theirs, lr=1e-2, betas=(0.95, 0.999))
    slow = [p.detach().clone() for p in theirs]
    for step in range(1, 26):
        for one, other in zip(ours, theirs, strict=True):
            other.grad = torch.randn(one.shape, dtype=torch.float64)
            one.grad = other.grad.clone()
        ranger.step()
        radam.step()
        if step % 6 == 0:
            with torch.no_grad():
                for mine, p in zip(slow, theirs, strict=True):
                    mine += (p - mine) / 2
                    p.copy_(mine)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-7)  # its step sizes are float32


def test_ranger_continues_from_its_state() -> None:
    straight, cut = parameters(), parameters()
    one, other = Ranger(straight, lr=1e-2), Ranger(cut, lr=1e-2)
    for step in range(10):
        if step == 4:
            state = copy.deepcopy(other.state_dict())
            other = Ranger(cut, lr=1e-2)
            other.load_state_dict(state)
        for group, optimizer in ((straight, one), (cut, other)):
            give_gradients(group, step)
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(straight, cut, strict=True))


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_has_no_finite_gradient(loss: float) -> None:
    weight = torch.ones(3, requires_grad=True)
    total = weight.sum() + loss  # whose gradient would be 1
    total.backward(finite_root(total))
    assert weight.grad is not None and weight.grad.isnan().all()
    assert float(finite_root(torch.tensor(-3e38))) == 1.0


def test_statistics_of_a_bad_batch_are_forgotten() -> None:
    norms = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3).eval())
    statistics = Statistics(norms.modules())
    good, bad = torch.randn(4, 3, 2, 2), torch.full((4, 3, 2, 2), torch.nan)
    reference = copy.deepcopy(norms)
    for batch, skipped in ((good, 0.0), (bad, 1.0), (bad, 1.0), (good * 2, 0.0)):
        norms(batch)
        statistics.settle(torch.tensor(skipped))
        if not skipped:
            reference(batch)
        state, wanted = norms.state_dict(), reference.state_dict()
        assert all(torch.equal(state[key], wanted[key]) for key in wanted)


def test_the_average_does_not_follow_a_skipped_step() -> None:
    network = nn.Linear(4, 3)
    average = ema.shadow(network)
    start = [p.clone() for p in average.parameters()]
    with torch.no_grad():
        network.weight.add_(1.0)
    ema.update(average, network, 0.9, torch.tensor(0.0))
    torch.testing.assert_close(average.weight, torch.lerp(start[0], network.weight, 0.1))
    kept = [p.clone() for p in average.parameters()]
    with torch.no_grad():
        network.weight.fill_(torch.nan)
    ema.update(average, network, 0.9, torch.tensor(1.0))
    assert all(torch.equal(a, b) for a, b in zip(kept, average.parameters(), strict=True))


def unit(*shape: int) -> Tensor:
    return nn.functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(shape[0])), dim=-1)


def plain(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


ISLANDS: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "contrastive": (contrastive, (unit(8, 64), unit(8, 64).flip(0))),
    "sync": (sync, (unit(8, 64), unit(8, 64).flip(0))),
    "identity": (identity, (unit(8, 64), unit(8, 64).flip(0))),
    "arcface": (lambda e, c: arcface_margin(class_cosines(e, c), torch.arange(8)), (unit(8, 64), plain(9, 64))),
    "orthogonality": (orthogonality, (plain(2, 4, 16), plain(2, 5, 4, 16))),
    "orthogonality_cosine": (lambda a, b: orthogonality(a, b, "cosine"), (plain(2, 4, 16), plain(2, 5, 4, 16))),
    "perceptual": (lambda a, b: perceptual([a], [b]), (plain(2, 8, 9, 9), plain(2, 8, 9, 9).flip(0))),
    "reconstruction": (reconstruction, (plain(2, 3, 9, 9), plain(2, 3, 9, 9).flip(0))),
    "l2": (squared_error, (plain(2, 3, 9, 9), plain(2, 3, 9, 9).flip(0))),
    "d_logistic_real": (d_logistic_real, (plain(8, 1),)),
    "d_logistic_fake": (d_logistic_fake, (plain(8, 1),)),
    "adversarial": (g_nonsaturating, (plain(8, 1),)),
    "demodulation": (lambda w, s: demodulation(w, s, 0.1), (plain(8, 8, 3, 3), plain(2, 8))),
}


@pytest.mark.parametrize("name", ISLANDS)
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_losses_are_float32_under_autocast(name: str, given: torch.dtype) -> None:
    """Against float64 of the same numbers: 1e-6, where bfloat16 would be 1e-3 away."""
    loss, inputs = ISLANDS[name]
    inputs = tuple(x.to(given) for x in inputs)
    with torch.autocast("cpu", torch.bfloat16):
        result = loss(*inputs)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), loss(*(x.double() for x in inputs)), rtol=1e-6, atol=1e-7)


def test_the_usual_range_of_a_series() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(5.0, 0.5, 4000)
    series = UsualRange(limit=10.0)
    assert not any(series.take(float(value)) for value in values)
    last = values[-400:]  # nearly all of the weight
    assert series.mean == pytest.approx(np.average(last, weights=0.99 ** np.arange(400)[::-1]), abs=0.02)
    assert math.sqrt(series.variance) == pytest.approx(0.5, rel=0.2)
    text = series.take(50.0)
    assert text.startswith("50, usually 4") and "to 6" in text
    assert series.take(50.0) and series.take(math.nan)  # one spike does not hide the next
    assert not series.take(-50.0)  # a fall is no trouble
    assert not any(UsualRange(10.0).take(value) for value in (1.0, 1e9))  # at first nothing is known
    constant = UsualRange(10.0)
    assert not any(constant.take(1.0) for _ in range(200)) and not constant.take(1.0005) and constant.take(1.1)


@pytest.mark.parametrize("wrong", [{"gradient_clip": 0.0}, {"gradient_clip": math.nan}, {"max_skipped": 0}])
def test_limits_are_checked(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"safety.{name}"):
        Safety(**wrong)  # type: ignore[arg-type]
