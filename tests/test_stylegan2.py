"""StyleGAN2: layout of published checkpoints, and its own behaviour at a tiny size."""

import pytest
import torch
from layout import layout, parameters
from torch import Tensor

from fctfg.losses.adversarial import r1_penalty
from fctfg.models.discriminator import Discriminator, DiscriminatorConfig, minibatch_stddev
from fctfg.models.layers import EqualLinear
from fctfg.models.stylegan2 import Generator, GeneratorConfig

TINY = GeneratorConfig(resolution=16, style_dim=8, n_mlp=2, channel_base=128, channel_max=8)


@pytest.fixture
def generator() -> Generator:
    """Tiny, with every parameter random (noise strengths and biases start at zero)."""
    torch.manual_seed(0)
    made = Generator(TINY)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


@pytest.fixture
def codes() -> Tensor:
    return torch.randn(4, TINY.n_styles, TINY.style_dim, generator=torch.Generator().manual_seed(1))


def offsets(sources: int, std: float = 0.3) -> list[Tensor | None]:
    draw = torch.Generator().manual_seed(2)
    return [
        None if c.to_rgb else std * torch.randn(sources, c.out_channels, c.in_channels, 3, 3, generator=draw)
        for c in TINY.convolutions
    ]


def test_keys_shapes_and_sizes_are_those_of_the_published_networks_at_256_px() -> None:
    with torch.device("meta"):
        g, d = Generator(GeneratorConfig()), Discriminator(DiscriminatorConfig())
    assert layout(g, without=("latent_avg",)) == (135, "4190591f59fca3f3")
    assert layout(d) == (50, "a18adb328021de30")
    assert parameters(g) == 30_034_338
    assert parameters(d) == 28_864_129
    assert g.n_styles == 14
    assert len(g.config.convolutions) == 20


@pytest.mark.parametrize("resolution", [0, 4, 48])
def test_a_resolution_must_be_a_power_of_two(resolution: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        GeneratorConfig(resolution)
    with pytest.raises(ValueError, match="power of two"):
        DiscriminatorConfig(resolution)


def test_codes_make_images_and_wrong_codes_an_error(generator: Generator, codes: Tensor) -> None:
    assert generator(codes).shape == (4, 3, 16, 16)
    with pytest.raises(ValueError, match=r"codes must be \[B, 6, 8\], not \[4, 5, 8\]"):
        generator(codes[:, :5])
    with pytest.raises(ValueError, match="1 weight offsets for 8 convolutions"):
        generator(codes, deltas=[None])


def test_images_of_a_batch_do_not_influence_each_other(generator: Generator, codes: Tensor) -> None:
    torch.testing.assert_close(generator(codes)[1:2], generator(codes[1:2]), atol=1e-5, rtol=1e-5)


def test_every_style_reaches_the_image(generator: Generator, codes: Tensor) -> None:
    codes.requires_grad_()
    generator(codes).square().sum().backward()
    assert codes.grad is not None
    assert (codes.grad.abs().sum((0, 2)) > 0).all()


def test_fixed_noise_repeats_and_random_noise_does_not(generator: Generator, codes: Tensor) -> None:
    assert torch.equal(generator(codes), generator(codes))
    assert not torch.equal(generator(codes, noise="random"), generator(codes, noise="random"))


def test_the_mapping_network_multiplies_its_learning_rate() -> None:
    layer = EqualLinear(3, 2, bias_init=0.5, lr_multiplier=0.01, activate=True)
    x = torch.randn(4, 3)
    y = x @ layer.weight.t() * 0.01 / 3**0.5 + layer.bias * 0.01
    torch.testing.assert_close(layer(x), torch.where(y > 0, y, 0.2 * y) * 2**0.5)
    assert layer.bias.tolist() == [50.0, 50.0]


def test_the_mean_latent_is_the_mean_and_repeats(generator: Generator) -> None:
    generator.update_latent_avg(n=20_001, seed=3)
    first = generator.latent_avg.clone()
    z = torch.randn(50_000, 8, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(first, generator.mapping(z).mean(0), atol=0.02, rtol=0)
    generator.update_latent_avg(n=20_001, seed=3)
    assert torch.equal(generator.latent_avg, first)
    assert first.abs().max() > 0.02


# -------------------------------------------------------------------------------------------------- weight offsets


def test_offsets_are_factors_on_the_weights(generator: Generator, codes: Tensor) -> None:
    deltas = offsets(sources=1)
    got = generator(codes, deltas=deltas)
    layers = [generator.conv1, generator.to_rgb1]
    for i, to_rgb in enumerate(generator.to_rgbs):
        layers += [generator.convs[2 * i], generator.convs[2 * i + 1], to_rgb]
    with torch.no_grad():
        for layer, delta in zip(layers, deltas, strict=True):
            if delta is not None:
                layer.conv.weight.mul_(1 + delta)
    torch.testing.assert_close(got, generator(codes), atol=1e-5, rtol=1e-4)


def test_an_offset_serves_the_consecutive_frames_of_its_source(generator: Generator, codes: Tensor) -> None:
    both = offsets(sources=2)
    got = generator(codes, deltas=both)  # two sources with two frames each
    for source in (0, 1):
        own = [None if delta is None else delta[source : source + 1] for delta in both]
        want = generator(codes[2 * source : 2 * source + 2], deltas=own)
        torch.testing.assert_close(got[2 * source : 2 * source + 2], want, atol=1e-5, rtol=1e-4)


def test_zero_offsets_change_nothing(generator: Generator, codes: Tensor) -> None:
    torch.testing.assert_close(generator(codes, deltas=offsets(2, std=0.0)), generator(codes), atol=1e-5, rtol=1e-4)


# --------------------------------------------------------------------------------------------------- discriminator


def discriminator() -> Discriminator:
    torch.manual_seed(0)
    made = Discriminator(DiscriminatorConfig(resolution=16, channel_base=128, channel_max=8))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize(("batch", "group", "used"), [(8, 4, 4), (6, 4, 3), (2, 4, 2), (5, 4, 1), (7, 8, 7)])
def test_minibatch_deviation_written_out(batch: int, group: int, used: int) -> None:
    x = torch.randn(batch, 3, 2, 2, dtype=torch.float64)
    y = minibatch_stddev(x, group)
    assert y.shape == (batch, 4, 2, 2)
    assert torch.equal(y[:, :3], x)
    groups = batch // used
    for n in range(batch):
        members = x[n % groups :: groups].numpy()
        assert len(members) == used
        want = ((members.var(axis=0) + 1e-8) ** 0.5).mean()
        assert y[n, 3].unique().item() == pytest.approx(want, rel=1e-5)


def test_images_are_judged_and_wrong_sizes_an_error() -> None:
    d = discriminator()
    assert d(torch.randn(4, 3, 16, 16)).shape == (4, 1)
    with pytest.raises(ValueError, match=r"\[B, 3, 16, 16\], not \[4, 3, 8, 8\]"):
        d(torch.randn(4, 3, 8, 8))


def test_the_folded_gains_are_the_published_form() -> None:
    """The first residual block, step by step with the gains where the literature has them."""
    block = discriminator().convs[1]
    x = torch.randn(2, 8, 16, 16)

    def activated(y: Tensor, bias: Tensor) -> Tensor:
        return torch.nn.functional.leaky_relu(y + bias[:, None, None], 0.2) * 2**0.5

    def blurred(y: Tensor, pad: int) -> Tensor:
        kernel = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64
        return torch.nn.functional.conv2d(y, kernel.expand(8, 1, 4, 4), padding=pad, groups=8)

    conv1, activate1 = block.conv1
    _, conv2, activate2 = block.conv2
    _, skip = block.skip
    y = activated(torch.nn.functional.conv2d(x, conv1.weight / 72**0.5, padding=1), activate1.bias)
    y = activated(torch.nn.functional.conv2d(blurred(y, 2), conv2.weight / 72**0.5, stride=2), activate2.bias)
    z = torch.nn.functional.conv2d(blurred(x, 1), skip.weight / 8**0.5, stride=2)
    torch.testing.assert_close(block(x), (y + z) / 2**0.5, atol=1e-5, rtol=1e-5)


def test_r1_by_finite_differences() -> None:
    """The derivative of the penalty by a weight, which needs the second derivative of every layer."""
    d = discriminator().double()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)

    def penalty() -> Tensor:
        x = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
        return gradient.square().sum((1, 2, 3)).mean()

    penalty().backward()
    weight = d.convs[1].conv1[0].weight
    assert weight.grad is not None
    place, step, values = (1, 2, 0, 1), 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            weight[place] += sign * step
        values.append(penalty().item())
        with torch.no_grad():
            weight[place] -= sign * step
    assert weight.grad[place].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4)


def test_r1_runs_in_float32_under_autocast() -> None:
    d, images = discriminator(), torch.randn(4, 3, 16, 16)
    want = r1_penalty(d, images)
    with torch.autocast("cpu", torch.bfloat16):
        got = r1_penalty(d, images)
    assert torch.equal(got, want)


def test_bfloat16_stays_close(generator: Generator, codes: Tensor) -> None:
    want = generator(codes)
    with torch.autocast("cpu", torch.bfloat16):
        image = generator(codes)
        deltas = generator(codes, deltas=offsets(2, std=0.0))
        logits = discriminator()(image)
    assert image.dtype == torch.float32
    assert logits.isfinite().all()
    for got in (image, deltas):
        assert (got - want).square().mean().sqrt() < 0.03 * want.std()


def test_no_weight_gradient_is_computed_for_the_path_length(generator: Generator, codes: Tensor) -> None:
    """The first pass of the regularizer differentiates by the codes only."""
    codes.requires_grad_()
    (gradient,) = torch.autograd.grad(generator(codes).square().sum(), codes, create_graph=True)
    assert gradient.requires_grad
    assert all(parameter.grad is None for parameter in generator.parameters())
    gradient.square().sum().backward()
    assert generator.conv1.conv.weight.grad is not None
