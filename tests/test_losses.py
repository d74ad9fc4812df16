"""Loss terms by their formulas, on numbers worked out separately."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from fctfg.losses.adversarial import d_logistic_fake, d_logistic_real, g_nonsaturating, path_length_penalty, r1_penalty
from fctfg.losses.arcface_margin import arcface_margin
from fctfg.losses.contrastive import contrastive
from fctfg.losses.identity import identity
from fctfg.losses.orthogonality import orthogonality
from fctfg.losses.perceptual import perceptual
from fctfg.losses.reconstruction import reconstruction, squared_error
from fctfg.losses.sync import sync
from fctfg.losses.weighted import LossWeights, weighted


def unit(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=-1)


# --------------------------------------------------------------------------------------------------- orthogonality


def test_orthogonality_is_the_elementwise_product() -> None:
    z_canonical = torch.tensor([[[1.0, 2.0], [0.0, -1.0]]])  # [1, 2, 2]
    z_motion = torch.tensor([[[[3.0, -1.0], [5.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]]])  # [1, 2, 2, 2]
    # frame 0: layer 0 |3|, |-2|; layer 1 |0|, |-2|; frame 1: nothing
    assert orthogonality(z_canonical, z_motion).item() == pytest.approx((3 + 2 + 0 + 2) / 8)
    assert orthogonality(z_canonical, z_motion, "sum").item() == pytest.approx((5 + 2 + 0 + 0) / 4)


def test_orthogonality_is_neither_inner_product_nor_cosine() -> None:
    z_canonical, z_motion = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[[1.0, -1.0]]]])  # at right angles
    assert orthogonality(z_canonical, z_motion).item() == 1.0
    assert orthogonality(z_canonical, z_motion, "cosine").item() == pytest.approx(0.0, abs=1e-7)
    assert orthogonality(z_canonical, 3 * z_motion).item() == 3.0
    assert orthogonality(z_canonical, 3 * z_canonical[:, None], "cosine").item() == pytest.approx(1.0)


def test_orthogonality_in_numpy() -> None:
    rng = np.random.default_rng(0)
    c, m = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 5, 3, 4))
    want = np.mean([np.abs(c[b] * m[b, t]).mean() for b in range(2) for t in range(5)])
    assert orthogonality(torch.from_numpy(c), torch.from_numpy(m)).item() == pytest.approx(want)


# -------------------------------------------------------------------------------------- sync, identity, pixel terms


@pytest.mark.parametrize("term", [sync, identity])
def test_cosine_terms_run_from_zero_to_two(term) -> None:  # type: ignore[no-untyped-def]
    a = unit(4, 8)
    assert term(a, a).item() == pytest.approx(0.0)
    assert term(a, -a).item() == pytest.approx(2.0)
    angle = math.pi / 3
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[math.cos(angle), math.sin(angle)]])
    assert term(one, other).item() == pytest.approx(0.5)


def test_pixel_terms() -> None:
    a, b = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 1.0]])
    assert reconstruction(a, b).item() == 2.0
    assert squared_error(a, b).item() == 5.0


def test_every_feature_map_counts_the_same_whatever_its_size() -> None:
    small, large = torch.zeros(1, 2, 2, 2), torch.zeros(1, 8, 16, 16)
    assert perceptual([small + 1, large + 3], [small, large]).item() == pytest.approx((1 + 9) / 2)
    with pytest.raises(ValueError):
        perceptual([small], [small, large])


# ------------------------------------------------------------------------------------------------------ adversarial


def test_logistic_losses_in_numpy() -> None:
    real, fake = torch.tensor([[2.0], [-1.0]]), torch.tensor([[0.5], [3.0], [-30.0]])
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    assert d_logistic_real(real).item() == pytest.approx(softplus(-real.numpy()).mean(), rel=1e-5)
    assert d_logistic_fake(fake).item() == pytest.approx(softplus(fake.numpy()).mean(), rel=1e-5)
    assert g_nonsaturating(fake).item() == pytest.approx(softplus(-fake.numpy()).mean(), rel=1e-5)
    for loss in (d_logistic_real, d_logistic_fake):
        assert loss(torch.zeros(2, 1)).item() == pytest.approx(math.log(2))


def test_r1_of_a_known_function() -> None:
    """D(x) = a sum x^2 / 2 has the gradient a x, so R1 = a^2 E |x|^2 and dR1/da = 2 a E |x|^2."""
    a = torch.tensor(3.0, requires_grad=True)
    images = torch.randn(4, 3, 2, 2)
    penalty = r1_penalty(lambda x: a * x.square().sum((1, 2, 3), keepdim=True)[:, :, 0, 0] / 2, images)
    energy = images.square().sum((1, 2, 3)).mean().item()
    assert penalty.item() == pytest.approx(9 * energy, rel=1e-5)
    penalty.backward()
    assert a.grad is not None
    assert a.grad.item() == pytest.approx(6 * energy, rel=1e-5)
    assert not images.requires_grad


def test_path_length_of_a_linear_generator() -> None:
    """images = A w has the Jacobian A: the length of A^T y is known."""
    draw = torch.Generator().manual_seed(0)
    matrix = torch.randn(5, 3 * 4 * 4, generator=draw, dtype=torch.float64).requires_grad_()
    noise = torch.randn(6, 3, 4, 4, generator=draw, dtype=torch.float64)
    w = torch.randn(6, 5, generator=draw, dtype=torch.float64).requires_grad_()
    penalty, mean = path_length_penalty(
        (w @ matrix).view(6, 3, 4, 4).double(), w, torch.tensor(0.5).double(), 0.1, noise
    )
    lengths = np.linalg.norm(noise.numpy().reshape(6, -1) / 4 @ matrix.detach().numpy().T, axis=1)
    new_mean = 0.5 + 0.1 * (lengths.mean() - 0.5)
    assert mean.item() == pytest.approx(new_mean, rel=1e-6)
    assert penalty.item() == pytest.approx(((lengths - new_mean) ** 2).mean(), rel=1e-6)
    assert not mean.requires_grad
    penalty.backward()
    assert matrix.grad is not None
    assert matrix.grad.abs().sum() > 0


def test_path_length_of_codes_per_layer_is_averaged_under_the_root() -> None:
    w = torch.randn(2, 3, 4).requires_grad_()
    images = w.sum((1, 2)).view(2, 1, 1, 1).expand(2, 3, 1, 1)  # every entry of the Jacobian is 1
    _, mean = path_length_penalty(images, w, torch.tensor(0.0), 1.0, torch.ones(2, 3, 1, 1))
    assert mean.item() == pytest.approx((4 * 3**2) ** 0.5)  # sqrt of the mean over layers of 4 channels of 3^2


# ----------------------------------------------------------------------------------------------------- contrastive


def test_contrastive_written_out() -> None:
    face, audio, t = unit(3, 4), unit(3, 4, seed=1), 0.2
    total = 0.0
    for b in range(3):
        scores = np.array([float(face[b] @ audio[c]) / t for c in range(3)])
        total -= scores[b] - np.log(np.exp(scores).sum())
    assert contrastive(face, audio, t).item() == pytest.approx(total / 3, rel=1e-5)


def test_contrastive_chance_and_perfection() -> None:
    same = torch.ones(4, 2) / 2**0.5
    assert contrastive(same, same).item() == pytest.approx(math.log(4), rel=1e-5)
    apart = torch.eye(4)
    assert contrastive(apart, apart, temperature=0.05).item() < 1e-6
    assert contrastive(apart, apart.roll(1, 0), temperature=0.05).item() > 10


def test_the_temperature_can_be_learned() -> None:
    temperature = torch.tensor(0.1, requires_grad=True)
    contrastive(unit(3, 4), unit(3, 4, seed=1), temperature=temperature).backward()
    assert temperature.grad is not None


# -------------------------------------------------------------------------------------------------------- identity


def test_the_margin_is_an_angle() -> None:
    angles = np.array([[0.3, 1.2, 2.0], [1.0, 2.9, 0.4]])  # the second own angle plus the margin exceeds pi
    labels = [0, 1]
    logits = np.cos(angles)
    logits[0, 0] = math.cos(0.3 + 0.5)
    logits[1, 1] = math.cos(2.9) - 0.5 * math.sin(0.5)
    logits *= 8
    want = np.mean([np.log(np.exp(logits[b]).sum()) - logits[b, labels[b]] for b in range(2)])
    got = arcface_margin(torch.tensor(np.cos(angles)), torch.tensor(labels), margin=0.5, scale=8.0)
    assert got.item() == pytest.approx(want, rel=1e-5)


def test_the_margin_leaves_finite_gradients_at_the_ends() -> None:
    cosine = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], requires_grad=True)
    arcface_margin(cosine, torch.tensor([0, 0])).backward()
    assert cosine.grad is not None
    assert cosine.grad.isfinite().all()


# -------------------------------------------------------------------------------------------------------- weighted


def test_terms_and_weights_must_have_the_same_names() -> None:
    @dataclass(frozen=True)
    class Weights(LossWeights):
        identity: float = 0.5
        sync: float = 0.1
        lpips: float = 0.0

    terms = {"sync": torch.tensor(2.0), "identity": torch.tensor(3.0, requires_grad=True)}
    assert weighted(terms, Weights()).item() == pytest.approx(1.7)  # a term of weight 0 may be left out, or not
    assert weighted(terms | {"lpips": torch.tensor(9.0)}, Weights()).item() == pytest.approx(1.7)
    assert Weights().computed(training=True) == {"identity", "sync"}
    assert Weights().computed(training=False) == {"identity", "sync", "lpips"}
    with pytest.raises(ValueError, match=r"without a weight: \['snyc'\]"):
        weighted(terms | {"snyc": torch.tensor(1.0)}, Weights())
    with pytest.raises(ValueError, match=r"without a term: \['lpips'\]"):
        weighted(terms, Weights(lpips=1.0))
    with pytest.raises(ValueError):
        weighted({}, Weights())
