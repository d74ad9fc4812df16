"""Activations that are computed again in the backward pass: the same gradients, of any order, from less memory."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from trained_runs import Place, arguments, checkpoint, equal

from fctfg.cli import main
from fctfg.losses.adversarial import g_nonsaturating, path_length_penalty, r1_penalty
from fctfg.models.discriminator import Discriminator, DiscriminatorConfig
from fctfg.models.stylegan2 import Generator, GeneratorConfig

SIZE, DIM = 32, 16


@pytest.fixture(scope="module")
def networks() -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(SIZE, DIM, n_mlp=2, channel_base=256, channel_max=16))
    for layer in (generator.conv1, *generator.convs):
        nn.init.constant_(layer.noise.weight, 0.5)  # so that drawn noise matters
    return generator, Discriminator(DiscriminatorConfig(SIZE, 256, 16))


def adversarial(generator: Generator, discriminator: Discriminator, codes: Tensor) -> Tensor:
    return g_nonsaturating(discriminator(generator(codes, noise="random")))


def path_length(generator: Generator, discriminator: Discriminator, codes: Tensor) -> Tensor:
    images = generator(codes, noise="random")
    return path_length_penalty(images, codes, torch.zeros(()), 0.01)[0]


def r1(generator: Generator, discriminator: Discriminator, codes: Tensor) -> Tensor:
    with torch.no_grad():
        images = generator(codes)
    return r1_penalty(discriminator, images)


Term = Callable[[Generator, Discriminator, Tensor], Tensor]


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("term", [adversarial, path_length, r1])
def test_gradients_are_the_same(networks: tuple[Generator, Discriminator], term: Term, bf16: bool) -> None:
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(1)
        codes = torch.randn(4, networks[0].n_styles, DIM, requires_grad=True)
        for network in networks:
            network.recompute = recompute
            network.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = term(*networks, codes)
        loss.backward()
        after = torch.rand(())  # the random state goes on as it would
        found = {f"{k}.{name}": p.grad for k, network in enumerate(networks) for name, p in network.named_parameters()}
        gradients.append(found | {"codes": codes.grad, "loss": loss.detach(), "after": after})
    kept, again = gradients
    assert any(gradient is not None for gradient in kept.values())
    for name, gradient in kept.items():
        assert (gradient is None) == (again[name] is None), name
        assert gradient is None or torch.equal(gradient, again[name]), name


def test_fewer_tensors_are_kept(networks: tuple[Generator, Discriminator]) -> None:
    generator, _ = networks
    held = []
    for recompute in (False, True):
        generator.recompute = recompute
        held.append(_kept(generator(torch.randn(2, generator.n_styles, DIM))))
    assert 0 < held[1] < held[0] / 2


@pytest.mark.parametrize("stage", ["generator", "talking_face"])
def test_a_run_ends_in_the_same_weights(place: Place, untracked: None, stage: str) -> None:
    run = f"{stage}_recomputed"
    assert main(arguments(place, stage, run, "--networks.recompute=true")) == 0
    kept, again = checkpoint(place, stage), checkpoint(place, run)
    assert equal(kept["state_dict"], again["state_dict"])
    assert equal(kept["optimizer_states"], again["optimizer_states"])


def _kept(result: Tensor) -> int:
    """Bytes that the graph of a result keeps for its backward pass."""
    seen, stack, kept = set(), [result.grad_fn], {}
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for name in dir(node):
            if name.startswith("_raw_saved"):
                raw = getattr(node, name)
                for saved in raw if isinstance(raw, tuple) else (raw,):
                    tensor = getattr(saved, "data", None)
                    if isinstance(tensor, Tensor):
                        kept[tensor.data_ptr()] = tensor.nbytes
        stack += [function for function, _ in node.next_functions]
    return sum(kept.values())
