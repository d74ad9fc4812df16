"""The fast networks against straightforward ones (weights per image, inserted zeros), in float64."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fctfg.bench_networks import Sizes, Workload
from fctfg.cli import main
from fctfg.losses.adversarial import d_logistic_fake, d_logistic_real, g_nonsaturating, path_length_penalty, r1_penalty
from fctfg.models import frozen_generator
from fctfg.models.discriminator import Discriminator, DiscriminatorConfig
from fctfg.models.frozen_generator import FrozenGenerator
from fctfg.models.stylegan2 import Generator, GeneratorConfig
from fctfg.ops.convolution import convolution, no_weight_gradients
from fctfg.ops.epilogue import epilogue
from fctfg.ops.recompute import recomputed
from fctfg.ops.upfirdn2d import fir_kernel, upfirdn2d

TINY = GeneratorConfig(resolution=16, style_dim=8, n_mlp=2, channel_base=96, channel_max=10)
TINY_D = DiscriminatorConfig(resolution=16, channel_base=96, channel_max=10)
EXACT = {"atol": 1e-10, "rtol": 1e-10}


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def varied(network: nn.Module) -> nn.Module:
    """float64, with every parameter random (noise strengths and biases start at zero)."""
    network.double()
    with torch.no_grad():
        for index, parameter in enumerate(network.parameters()):
            parameter.add_(0.2 * draw(*parameter.shape, seed=index))
    return network


def logistic(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss of logits [B, 1]."""
    return d_logistic_real(real) + d_logistic_fake(fake)


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    made = varied(Generator(TINY))
    assert isinstance(made, Generator)
    return made


@pytest.fixture
def discriminator() -> Discriminator:
    torch.manual_seed(1)
    made = varied(Discriminator(TINY_D))
    assert isinstance(made, Discriminator)
    return made


@pytest.fixture
def codes() -> Tensor:
    return draw(4, TINY.n_styles, TINY.style_dim, seed=5)


@pytest.fixture
def images() -> Tensor:
    return draw(4, 3, 16, 16, seed=6)


# ------------------------------------------------------------------------------------------- the straightforward form

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
KERNEL = torch.outer(TAPS, TAPS) / 64


def plain_upfirdn(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Zeros inserted one image and channel at a time, then an ordinary convolution."""
    n, c, h, w = x.shape
    x = x.reshape(n * c, 1, h, 1, w, 1)
    x = F.pad(x, (0, up - 1, 0, 0, 0, up - 1)).reshape(n * c, 1, h * up, w * up)
    y = F.conv2d(F.pad(x, (*pad, *pad)), kernel.flip(0, 1)[None, None].to(x))
    return y.reshape(n, c, *y.shape[2:])[:, :, ::down, ::down]


def plain_linear(layer: nn.Module, x: Tensor) -> Tensor:
    y = F.linear(x, layer.weight * layer.scale, layer.bias * layer.lr_multiplier)
    return F.leaky_relu(y, 0.2) * 2**0.5 if layer.activate else y


def plain_modulated(conv: nn.Module, x: Tensor, style: Tensor, demodulate: bool, delta: Tensor | None) -> Tensor:
    """A weight for each image, and the batch as the groups of one convolution."""
    n, channels, height, width = x.shape
    base = conv.weight if delta is None else (conv.weight * (1 + delta)).repeat_interleave(n // len(delta), 0)
    weight = conv.scale * base * plain_linear(conv.modulation, style)[:, None, :, None, None]  # [N, O, I, k, k]
    if demodulate:
        weight = weight / (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    x = x.reshape(1, n * channels, height, width)
    if conv.up:
        y = F.conv_transpose2d(x, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=n)
        return plain_upfirdn(y.reshape(n, -1, *y.shape[2:]), KERNEL * 4, pad=(1, 1))
    y = F.conv2d(x, weight.flatten(0, 1), padding=weight.shape[-1] // 2, groups=n)
    return y.reshape(n, -1, *y.shape[2:])


def plain_generator(g: Generator, codes: Tensor, deltas: Sequence[Tensor | None] | None = None) -> Tensor:
    """G with fixed noise, as the literature writes it."""
    deltas = [None] * len(g.config.convolutions) if deltas is None else deltas

    def styled(layer: nn.Module, x: Tensor, index: int, delta: Tensor | None) -> Tensor:
        y = plain_modulated(layer.conv, x, codes[:, index], True, delta)
        y = y + layer.noise.weight * getattr(g.noises, f"noise_{index if index == 0 else layers.index(layer)}")
        return F.leaky_relu(y + layer.activate.bias[:, None, None], 0.2) * 2**0.5

    def rgb(layer: nn.Module, x: Tensor, index: int, skip: Tensor | None) -> Tensor:
        y = plain_modulated(layer.conv, x, codes[:, index], False, None) + layer.bias
        return y if skip is None else y + plain_upfirdn(skip, KERNEL * 4, up=2, pad=(2, 1))

    layers = [g.conv1, *g.convs]
    x = styled(g.conv1, g.input.input.repeat(len(codes), 1, 1, 1), 0, deltas[0])
    image = rgb(g.to_rgb1, x, 1, None)
    for i, to_rgb in enumerate(g.to_rgbs):
        x = styled(g.convs[2 * i], x, 2 * i + 1, deltas[3 * i + 2])
        x = styled(g.convs[2 * i + 1], x, 2 * i + 2, deltas[3 * i + 3])
        image = rgb(to_rgb, x, 2 * i + 3, image)
    return image


def plain_discriminator(d: Discriminator, images: Tensor) -> Tensor:
    """D as the literature writes it."""

    def activated(x: Tensor, bias: Tensor) -> Tensor:
        return F.leaky_relu(x + bias[:, None, None], 0.2) * 2**0.5

    def convolved(layer: nn.Module, x: Tensor, **settings: int) -> Tensor:
        return F.conv2d(x, layer.weight * layer.scale, **settings)

    first, *blocks = d.convs
    x = activated(convolved(first[0], images), first[1].bias)
    for block in blocks:
        y = activated(convolved(block.conv1[0], x, padding=1), block.conv1[1].bias)
        y = convolved(block.conv2[1], plain_upfirdn(y, KERNEL, pad=(2, 2)), stride=2)
        skip = convolved(block.skip[1], plain_upfirdn(x, KERNEL, pad=(1, 1)), stride=2)
        x = (activated(y, block.conv2[2].bias) + skip) / 2**0.5
    deviation = (x.var(0, correction=0) + 1e-8).sqrt().mean()  # one group of four
    x = torch.cat([x, deviation.expand(len(x), 1, 4, 4)], 1)
    x = activated(convolved(d.final_conv[0], x, padding=1), d.final_conv[1].bias)
    for layer in d.final_linear:
        x = plain_linear(layer, x.flatten(1))
    return x


def agree(network: nn.Module, got: Tensor, want: Tensor, *inputs: Tensor) -> None:
    """Two scalars, and their gradients by every parameter and input, are the same to 1e-10."""
    torch.testing.assert_close(got, want, **EXACT)
    places = [*network.parameters(), *inputs]
    ours = torch.autograd.grad(got, places, allow_unused=True)
    theirs = torch.autograd.grad(want, places, allow_unused=True)
    assert sum(gradient is not None for gradient in theirs) > len(places) / 2
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None or not one.any()) == (other is None or not other.any())
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, **EXACT)


def offsets(sources: int) -> list[Tensor | None]:
    return [
        None if c.to_rgb else 0.3 * draw(sources, c.out_channels, c.in_channels, 3, 3, seed=i)
        for i, c in enumerate(TINY.convolutions)
    ]


# ------------------------------------------------------------------------------------------------------------ parity


@pytest.mark.parametrize("sources", [None, 1, 2])
def test_images_and_all_gradients_are_the_straightforward_ones(
    generator: Generator, codes: Tensor, sources: int | None
) -> None:
    codes.requires_grad_()
    deltas = None if sources is None else offsets(sources)
    got, want = generator(codes, deltas=deltas), plain_generator(generator, codes, deltas)
    torch.testing.assert_close(got, want, **EXACT)
    direction = draw(*got.shape, seed=9)
    agree(generator, (got * direction).sum(), (want * direction).sum(), codes)


def test_logits_and_all_gradients_are_the_straightforward_ones(discriminator: Discriminator, images: Tensor) -> None:
    images.requires_grad_()
    got, want = discriminator(images), plain_discriminator(discriminator, images)
    torch.testing.assert_close(got, want, **EXACT)
    agree(discriminator, logistic(got, got * 2), logistic(want, want * 2), images)


def test_the_generators_loss_reaches_its_parameters_through_the_discriminator(
    generator: Generator, discriminator: Discriminator, codes: Tensor
) -> None:
    discriminator.requires_grad_(False)
    got = g_nonsaturating(discriminator(generator(codes)))
    agree(generator, got, g_nonsaturating(plain_discriminator(discriminator, plain_generator(generator, codes))))


def test_r1_and_its_gradients_are_the_straightforward_ones(discriminator: Discriminator, images: Tensor) -> None:
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(plain_discriminator(discriminator, x).sum(), x, create_graph=True)
    want = gradient.square().sum((1, 2, 3)).mean()
    agree(discriminator, r1_penalty(discriminator, images), want)


def test_the_path_length_and_its_gradients_are_the_straightforward_ones(generator: Generator, codes: Tensor) -> None:
    codes.requires_grad_()
    noise, mean = draw(4, 3, 16, 16, seed=8), torch.tensor(0.3, dtype=torch.float64)
    got, new_mean = path_length_penalty(generator(codes), codes, mean, 0.01, noise)
    projection = (plain_generator(generator, codes) * noise / 16).sum()
    (gradient,) = torch.autograd.grad(projection, codes, create_graph=True)
    lengths = gradient.square().sum(2).mean(1).sqrt()
    expected_mean = mean + 0.01 * (lengths.mean() - mean)
    torch.testing.assert_close(new_mean, expected_mean.detach(), **EXACT)
    agree(generator, got, (lengths - expected_mean).square().mean(), codes)


@pytest.mark.parametrize(
    ("size", "kernel", "settings"),
    [
        (5, 3, {"padding": 1}),
        (4, 1, {}),
        (7, 3, {"stride": 2}),
        (8, 3, {"stride": 2}),  # leaves the last row over
        (4, 3, {"stride": 2, "transposed": True}),
    ],
)
def test_convolution_can_be_differentiated_twice(size: int, kernel: int, settings: dict[str, int]) -> None:
    x, weight, bias = draw(2, 2, size, size), draw(2, 2, kernel, kernel, seed=1), draw(2, seed=2)
    for tensor in (x, weight, bias):
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: convolution(*a, **settings), (x, weight, bias))
    assert torch.autograd.gradgradcheck(lambda *a: convolution(*a, **settings).sin(), (x, weight, bias))


def test_the_epilogue_can_be_differentiated_twice() -> None:
    y, factor = draw(2, 3, 4, 4), draw(2, 3, seed=1).abs() + 0.5
    noise, strength, bias = draw(2, 1, 4, 4, seed=2), draw(1, seed=3), draw(3, seed=4)
    for tensor in (y, factor, strength, bias):
        tensor.requires_grad_()

    def call(y: Tensor, factor: Tensor, strength: Tensor, bias: Tensor) -> Tensor:
        return epilogue(y, factor, noise, strength, bias, 0.2)

    want = F.leaky_relu(y * factor[:, :, None, None] + strength * noise + bias[:, None, None], 0.2)
    torch.testing.assert_close(call(y, factor, strength, bias), want, **EXACT)
    assert torch.autograd.gradcheck(call, (y, factor, strength, bias))
    assert torch.autograd.gradgradcheck(lambda *a: call(*a).sin(), (y, factor, strength, bias))


def test_what_is_computed_again_gives_the_same_first_and_second_gradients() -> None:
    x, style, weight = draw(2, 3, 4, 4), draw(2, 3, 1, 1, seed=1), draw(2, 3, 3, 3, seed=2)
    for tensor in (x, style, weight):
        tensor.requires_grad_()
    calls = 0

    def scaled() -> Tensor:
        nonlocal calls
        calls += 1
        return x * style

    def loss(again: bool) -> Tensor:
        product = scaled()
        with recomputed(product, scaled) if again else nullcontext():
            y = convolution(product.contiguous(memory_format=torch.channels_last), weight, padding=1)
        (gradient,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        return gradient.square().sum()

    x.data = x.data.contiguous(memory_format=torch.channels_last)
    want = torch.autograd.grad(loss(again=False), (x, style, weight))
    assert calls == 1
    for one, other in zip(torch.autograd.grad(loss(again=True), (x, style, weight)), want, strict=True):
        torch.testing.assert_close(one, other, **EXACT)
    assert calls > 2


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_networks_compute_again_what_they_say(
    generator: Generator,
    discriminator: Discriminator,
    codes: Tensor,
    precision: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def counted(result: Tensor, again: Callable[[], Tensor]) -> AbstractContextManager[None]:
        return recomputed(result, lambda: (calls.append(result.shape), again())[1])

    for module in ("fctfg.models.discriminator", "fctfg.ops.modulated_conv"):
        monkeypatch.setattr(f"{module}.recomputed", counted)
    with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
        logits = discriminator.float()(generator.float()(codes.float()))
    logits.sum().backward()
    # The inputs of the generator's convolutions, but for the constant; two filtered images in each block of the other.
    assert len(calls) == 4 + 2 * 2


def test_a_weight_changed_before_the_backward_pass_is_noticed(discriminator: Discriminator, images: Tensor) -> None:
    logits = discriminator(images)
    with torch.no_grad():
        discriminator.convs[1].conv2[1].weight.mul_(2)
    with pytest.raises(RuntimeError, match="was changed in place"):
        logits.sum().backward()


def test_derivatives_of_float32_filters_stay_float32_under_autocast() -> None:
    kernel = fir_kernel()
    for settings in ({"pad": (2, 1)}, {"down": 2, "pad": (1, 1)}, {"up": 2, "pad": (2, 1)}):
        found = []
        for enabled in (False, True):
            x = draw(1, 3, 8, 8).float().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                y = upfirdn2d(x, kernel, **settings)
                y.square().sum().backward()
            found.append((y, x.grad))
        assert torch.equal(found[0][0], found[1][0])
        assert torch.equal(found[0][1], found[1][1])


def test_gradients_of_weights_can_be_left_out() -> None:
    x, weight = draw(1, 2, 4, 4).requires_grad_(), draw(2, 2, 3, 3).requires_grad_()
    y = convolution(x, weight, padding=1).sum()
    with no_weight_gradients():
        by_x, by_weight = torch.autograd.grad(y, (x, weight), retain_graph=True, allow_unused=True)
    assert by_x is not None and by_weight is None
    assert torch.autograd.grad(y, weight)[0].any()


@pytest.mark.parametrize("settings", [{"padding": 1}, {"stride": 2}, {"stride": 2, "transposed": True}])
def test_the_layouts_of_float32_gradients_change_no_number(settings: dict[str, int]) -> None:
    """float32 takes the path with copies, float64 the one without."""
    x, weight = draw(2, 130, 9, 9), draw(130, 130, 3, 3, seed=1)
    found = []
    for dtype in (torch.float32, torch.float64):
        w = weight.to(dtype).requires_grad_()
        found.append(torch.autograd.grad(convolution(x.to(dtype), w, **settings).square().sum(), w)[0])
    assert (found[0].double() - found[1]).abs().max() < 1e-5 * found[1].abs().max()


def test_a_compiler_is_told_the_truth_about_gradients_of_weights() -> None:
    gradient, x = draw(2, 4, 4, 4).float(), draw(2, 3, 9, 9).float().contiguous(memory_format=torch.channels_last)
    torch.library.opcheck(torch.ops.fctfg.plain_weight_gradient, (gradient, x, [4, 3, 3, 3], 2, 0, False, [0, 0]))


def test_what_a_stride_leaves_over_gets_no_gradient() -> None:
    for dtype in (torch.float32, torch.float64):
        x, weight = draw(1, 64, 258, 256).to(dtype).requires_grad_(), draw(128, 64, 3, 3, seed=1).to(dtype)
        (ours,) = torch.autograd.grad(convolution(x, weight, stride=2).sum(), x)
        (theirs,) = torch.autograd.grad(F.conv2d(x, weight, stride=2).sum(), x)
        assert not ours[:, :, -1].any()
        assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_large_up_sampling_in_float32_changes_no_number() -> None:
    """One more column, and gradients of some images after the other, where a layer has StyleGAN2's shape at 256 px."""
    x, weight = draw(4, 128, 128, 128), draw(128, 64, 3, 3, seed=1)
    found = []
    for dtype in (torch.float32, torch.float64):
        a, b = x.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()
        y = convolution(a, b, stride=2, transposed=True)
        found.append((y, *torch.autograd.grad(y.square().mean(), (a, b))))
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape
        assert (one.double() - other).abs().max() < 1e-5 * other.abs().max()


def test_bfloat16_gradients_point_where_those_of_float32_do(
    generator: Generator, discriminator: Discriminator, codes: Tensor, images: Tensor
) -> None:
    generator.float()
    discriminator.float()
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            fake = discriminator(generator(codes.float()))
            loss = logistic(discriminator(images.float()), fake)
        for network in (generator, discriminator):
            gradients = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
            found.append(torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]))
    for precise, coarse in zip(found[:2], found[2:], strict=True):
        assert F.cosine_similarity(precise, coarse, dim=0) > 0.99


@pytest.mark.slow  # three rounds of everything, both ways
def test_nothing_is_slower_at_64_px_than_the_straightforward_form() -> None:
    torch.manual_seed(0)
    g = Generator(GeneratorConfig(resolution=64, channel_base=8192, channel_max=256))
    d = Discriminator(DiscriminatorConfig(resolution=64, channel_base=8192, channel_max=256))
    codes, images = torch.randn(4, g.config.n_styles, g.config.style_dim), torch.randn(4, 3, 64, 64)

    def path_length(make: Callable[[Tensor], Tensor]) -> None:
        leaf = codes[:2].clone().requires_grad_()
        path_length_penalty(make(leaf), leaf, torch.zeros(()), 0.01)[0].backward()

    def forward(make: Callable[[Tensor], Tensor]) -> None:
        with torch.no_grad():
            make(codes)

    makers = [g, lambda codes: plain_generator(g, codes)]
    judges = [d, lambda images: plain_discriminator(d, images)]
    taken: dict[str, tuple[list[float], list[float]]] = {}
    for _ in range(4):
        for kind, (make, judge) in enumerate(zip(makers, judges, strict=True)):
            for name, call in {
                "generator": lambda make=make: forward(make),
                "generator step": lambda make=make, judge=judge: g_nonsaturating(judge(make(codes))).backward(),
                "discriminator step": lambda judge=judge: logistic(judge(images), judge(-images)).backward(),
                "R1": lambda judge=judge: r1_penalty(judge, images).backward(),
                "path length": lambda make=make: path_length(make),
            }.items():
                start = time.perf_counter()
                call()
                taken.setdefault(name, ([], []))[kind].append(time.perf_counter() - start)
    ratios = {name: min(plain[1:]) / min(ours[1:]) for name, (ours, plain) in taken.items()}
    print("times as fast as the straightforward form:", ratios)
    assert min(ratios.values()) > 1, ratios


# ---------------------------------------------------------------------------------------------- frozen and compiled


@pytest.mark.parametrize("sources", [None, 1])
def test_the_frozen_generator_gives_the_same_images(generator: Generator, codes: Tensor, sources: int | None) -> None:
    deltas = None if sources is None else offsets(sources)
    frozen = FrozenGenerator(generator, deltas, torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(frozen(codes), generator(codes, deltas=deltas), **EXACT)


def test_the_frozen_generator_makes_large_images_in_turns(
    generator: Generator, codes: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = FrozenGenerator(generator, precision=torch.float64)
    want = frozen(codes)
    for elements in (1, 8 * 8 * 10 * 2, 16 * 16 * 6 * 3):
        monkeypatch.setattr(frozen_generator, "AT_ONCE", elements)
        torch.testing.assert_close(frozen(codes), want, **EXACT)


def test_the_frozen_generator_is_a_copy(generator: Generator, codes: Tensor) -> None:
    frozen = FrozenGenerator(generator, precision=torch.float64)
    before = frozen(codes)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.zero_()
    assert torch.equal(frozen(codes), before)
    assert not list(frozen.parameters())


def test_the_frozen_generator_in_bfloat16_stays_close(generator: Generator, codes: Tensor) -> None:
    generator.float()
    with torch.no_grad():
        want, got = generator(codes.float()), FrozenGenerator(generator, precision=torch.bfloat16)(codes.float())
    assert got.dtype == torch.float32
    error = (got - want).square().mean().sqrt() / (want.max() - want.min())
    assert -20 * torch.log10(error) > 45  # dB of the images' range


def test_the_frozen_generator_says_what_does_not_fit(generator: Generator, codes: Tensor) -> None:
    with pytest.raises(ValueError, match="1 weight offsets for 8 convolutions"):
        FrozenGenerator(generator, [None])
    with pytest.raises(ValueError, match="of one source"):
        FrozenGenerator(generator, offsets(2))
    with pytest.raises(ValueError, match=r"codes must be \[B, 6, 8\], not \[4, 5, 8\]"):
        FrozenGenerator(generator)(codes[:, :5].float())


@pytest.mark.slow  # the compiler takes a minute
def test_compiled_networks_give_the_eager_images_and_gradients(
    generator: Generator, discriminator: Discriminator, codes: Tensor
) -> None:
    torch.compiler.reset()
    found = []
    for wrap in (lambda network: network, torch.compile):
        g, d = wrap(generator), wrap(discriminator)
        images = g(codes)
        loss = logistic(d(images.detach()), d(images))
        places = [*generator.parameters(), *discriminator.parameters()]
        found.append((images, *torch.autograd.grad(loss, places, allow_unused=True)))
    for eager, compiled in zip(*found, strict=True):
        assert (eager is None) == (compiled is None)
        if eager is not None:
            torch.testing.assert_close(compiled, eager, **EXACT)
    frozen = FrozenGenerator(generator, precision=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(frozen)(codes), frozen(codes), **EXACT)


# ----------------------------------------------------------------------------------------------------- the benchmark

SMALL = ["--size", "32", "--channel-max", "16", "--channel-base", "512", "--rounds", "1", "--no-compile"]


def test_bench_networks_measures_every_piece(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    arguments = ["bench", "networks", *SMALL, "--no-memory", "--precision", "float32", "bf16", "--json", str(out)]
    assert main(arguments) == 0
    found = json.loads(out.read_text())
    rows = {(row["what"], row["precision"]): row for row in found["figures"]}
    both = {
        "generator forward",
        "discriminator step",
        "generator step",
        "one-shot generation, per frame",
        "pSp",
        "hypernetwork",
        "iteration, amortised",
    }
    regularizers = {"R1 step", "path-length step"}
    expected = {(what, p) for what in both for p in ("float32", "bf16")} | {(what, "float32") for what in regularizers}
    assert rows.keys() == expected
    assert all(row["ms"] > 0 and row["gflop"] > 0 and 0 < row["share"] < 1.5 for row in rows.values())
    assert found["peak_gflops"]["float32"] > 0
    printed = capsys.readouterr().out
    assert "of peak" in printed and "bf16" in printed


@pytest.mark.slow  # ten processes, each of which imports torch
def test_bench_networks_measures_memory(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    assert main(["bench", "networks", *SMALL, "--json", str(out)]) == 0
    used = {row["what"]: row["peak_gb"] for row in json.loads(out.read_text())["figures"]}
    assert used["generator step"] > 0


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--size", "48"], 2, "power of two"),
        (["--batch", "0"], 2, "--batch must be 1 or more"),
        (["--rounds", "0"], 2, "--rounds must be 1 or more"),
        (["--precision", "float16"], 2, "invalid choice"),
        ([*SMALL[:6], "--device", "nonsense"], 1, "device nonsense cannot be used"),
    ],
)
def test_bench_networks_refuses(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "networks", *arguments]) == status
    assert said in capsys.readouterr().err


def test_the_nominal_work_is_what_the_passes_compute() -> None:
    """Counted in the passes themselves; they may save a little of it (the first layer's input has no gradient)."""
    workload = Workload(Sizes(size=32, batch=4, channel_base=512, channel_max=16))
    nominal = workload.work()
    for what in ("generator forward", "discriminator step", "generator step"):
        with FlopCounterMode(display=False) as counter:
            workload.call(what, "float32", compiled=False)()
        assert counter.get_total_flops() / 1e9 == pytest.approx(nominal[what], rel=0.15), what
