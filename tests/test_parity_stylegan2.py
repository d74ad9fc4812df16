"""StyleGAN2's networks against themselves written out in NumPy, image by image with weights of its own, in float64."""

from itertools import product

import numpy as np
import pytest
import torch
from numpy_layers import Weights, conv, equal_linear, leaky_relu, numpy_weights, randomized, under

from fctfg.models.discriminator import Discriminator, DiscriminatorConfig
from fctfg.models.stylegan2 import Generator, GeneratorConfig, StyledConv, ToRGB
from fctfg.ops.draws import Draws

CONFIG = GeneratorConfig(resolution=16, style_dim=6, n_mlp=3, channel_base=64, channel_max=8)
TAPS = np.array([1.0, 3.0, 3.0, 1.0]) / 8


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def same(got: torch.Tensor, want: np.ndarray) -> None:
    """Equal up to float64's rounding."""
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=1e-10, atol=1e-10 * np.abs(want).max())


def blur(x: np.ndarray, before: int, after: int) -> np.ndarray:
    """[C, H, W] filtered with [1, 3, 3, 1] / 8 along both axes, in zeros."""
    x = np.pad(x, ((0, 0), (before, after), (before, after)))
    rows = sum(TAPS[i] * x[:, i : x.shape[1] - 3 + i] for i in range(4))
    return sum(TAPS[j] * rows[:, :, j : x.shape[2] - 3 + j] for j in range(4))


def modulated(x: np.ndarray, weight: np.ndarray, scales: np.ndarray, demodulate: bool, up: bool = False) -> np.ndarray:
    """One image [I, H, W] with [O, I, k, k]: modulated, demodulated (Eq. 1 to 3 of StyleGAN2), convolved."""
    weight = weight / np.sqrt(weight[0].size) * scales[None, :, None, None]
    if demodulate:
        for o in range(len(weight)):
            weight[o] /= np.sqrt((weight[o] ** 2).sum() + 1e-8)
    if not up:
        return conv(x[None], weight, pad=weight.shape[-1] // 2)[0]
    height, width = x.shape[1:]
    y = np.zeros((len(weight), 2 * height + 1, 2 * width + 1))
    for row, column in product(range(height), range(width)):  # every pixel leaves its 3 x 3 print
        y[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += np.einsum("oikl,i->okl", weight, x[:, row, column])
    return blur(y, 1, 1) * 4  # a quarter of the pixels are not zero


def styled(
    x: np.ndarray, style: np.ndarray, noise: np.ndarray, w: Weights, up: bool, factor: float | np.ndarray = 1.0
) -> np.ndarray:
    """One styled convolution: [I, H, W], [style_dim], [H, W] -> [O, H, W]; ``factor`` multiplies the weight."""
    scales = equal_linear(style[None], under(w, "conv.modulation"))[0]
    y = modulated(x, w["conv.weight"][0] * factor, scales, demodulate=True, up=up)
    y = y + w["noise.weight"] * noise + w["activate.bias"][:, None, None]
    return leaky_relu(y, 0.2) * np.sqrt(2)


def to_rgb(x: np.ndarray, style: np.ndarray, skip: np.ndarray | None, w: Weights) -> np.ndarray:
    """[I, H, W], [style_dim], image [3, H/2, W/2] -> image [3, H, W]."""
    scales = equal_linear(style[None], under(w, "conv.modulation"))[0]
    image = modulated(x, w["conv.weight"][0], scales, demodulate=False) + w["bias"][0]
    if skip is None:
        return image
    spread = np.zeros((3, 2 * skip.shape[1], 2 * skip.shape[2]))
    spread[:, ::2, ::2] = skip
    return image + blur(spread, 2, 1) * 4


@pytest.mark.parametrize("up", [False, True])
def test_a_styled_convolution(up: bool) -> None:
    layer = randomized(StyledConv(5, 4, 6, up=up))
    x, style, size = draw(3, 5, 4, 6), draw(3, 6, seed=1), (8, 12) if up else (4, 6)
    noise = draw(3, 1, *size, seed=2)
    got = layer(*map(torch.from_numpy, (x, style, noise)))
    same(got, np.stack([styled(x[n], style[n], noise[n, 0], numpy_weights(layer), up) for n in range(3)]))


@pytest.mark.parametrize("up", [False, True])
def test_the_convolution_to_rgb_and_the_skip(up: bool) -> None:
    layer = randomized(ToRGB(5, 6, up=up))
    x, style = draw(2, 5, 6, 4), draw(2, 6, seed=1)
    skip = draw(2, 3, 3, 2, seed=2) if up else None
    got = layer(torch.from_numpy(x), torch.from_numpy(style), None if skip is None else torch.from_numpy(skip))
    w = numpy_weights(layer)
    same(got, np.stack([to_rgb(x[n], style[n], None if skip is None else skip[n], w) for n in range(2)]))


def test_the_mapping_network() -> None:
    network = randomized(Generator(CONFIG))
    z = draw(4, 6)
    w = numpy_weights(network)
    want = z / np.sqrt((z**2).mean(1, keepdims=True) + 1e-8)
    for layer in range(1, 4):
        want = leaky_relu(equal_linear(want, under(w, f"style.{layer}"), 0.01), 0.2) * np.sqrt(2)
    same(network.mapping(torch.from_numpy(z)), want)


def synthesis(codes: np.ndarray, w: Weights, factors: list[float | np.ndarray]) -> np.ndarray:
    """One W+ code [6, style_dim] -> image [3, 16, 16]; the weights of convolution i are multiplied by factors[i]."""

    def layer(x: np.ndarray, key: str, number: int, factor: float | np.ndarray, up: bool = False) -> np.ndarray:
        return styled(x, codes[number], w[f"noises.noise_{number}"][0, 0], under(w, key), up, factor)

    x = layer(w["input.input"][0], "conv1", 0, factors[0])
    image = to_rgb(x, codes[1], None, under(w, "to_rgb1"))
    x = layer(x, "convs.0", 1, factors[2], up=True)
    x = layer(x, "convs.1", 2, factors[3])
    image = to_rgb(x, codes[3], image, under(w, "to_rgbs.0"))
    x = layer(x, "convs.2", 3, factors[5], up=True)
    x = layer(x, "convs.3", 4, factors[6])
    return to_rgb(x, codes[5], image, under(w, "to_rgbs.1"))


@pytest.mark.parametrize("sources", [0, 1, 2])
def test_the_synthesis_network_with_weight_offsets(sources: int) -> None:
    """W(1 + delta): offsets per weight and per pair of channels; 4 codes of no, one or two sources."""
    network, codes = randomized(Generator(CONFIG)), draw(4, 6, 6)
    w = numpy_weights(network)
    assert w["convs.2.conv.weight"].shape == (1, 4, 8, 3, 3)
    deltas: list[np.ndarray | None] = [None] * 8
    if sources:
        for index, convolution in enumerate(CONFIG.convolutions):
            taps = (1, 1) if index == 5 else (3, 3)
            if not convolution.to_rgb and index != 3:
                shape = (sources, convolution.out_channels, convolution.in_channels, *taps)
                deltas[index] = 0.5 * draw(*shape, seed=index)
    tensors = [None if delta is None else torch.from_numpy(delta) for delta in deltas]
    got = network(torch.from_numpy(codes), deltas=tensors if sources else None)
    want = []
    for n in range(4):
        factors = [1.0 if d is None else 1.0 + d[n * sources // 4] for d in deltas]
        want.append(synthesis(codes[n], w, factors))
    same(got, np.stack(want))


def test_random_noise_is_drawn_per_image_and_pixel_and_added_with_the_layers_strength() -> None:
    layer = randomized(StyledConv(3, 2, 6))
    drawn = Draws(torch.tensor([3, 4])).normal("noise_7", 1, 32, 32)
    with torch.no_grad():
        layer.conv.weight.zero_()  # nothing but noise and bias is left
        y = layer(torch.zeros(2, 3, 32, 32).double(), torch.ones(2, 6).double(), drawn) / 2**0.5
        added = torch.where(y > 0, y, y / 0.2) - layer.activate.bias[:, None, None]
    torch.testing.assert_close(added[:, 0], added[:, 1])  # the same for all channels
    assert not torch.equal(added[0], added[1])
    noise = added[:, 0] / layer.noise.weight.detach()
    assert noise.std().item() == pytest.approx(1, abs=0.1)
    assert noise.mean().item() == pytest.approx(0, abs=0.1)
    assert noise.unique().numel() > 0.98 * noise.numel()  # of 65,536 levels


def judged(images: np.ndarray, w: Weights) -> np.ndarray:
    """StyleGAN2's residual discriminator at 16 px: [4, 3, 16, 16] -> [4, 1], with groups of two images."""

    def layer(x: np.ndarray, key: str, conv_number: int = 0, pad: int = 1, stride: int = 1) -> np.ndarray:
        weight, bias = w[f"{key}.{conv_number}.weight"], w[f"{key}.{conv_number + 1}.bias"]
        y = conv(x, weight / np.sqrt(weight[0].size), stride=stride, pad=pad)
        return leaky_relu(y + bias[:, None, None], 0.2) * np.sqrt(2)

    x = layer(images, "convs.0", pad=0)
    for block in ("convs.1", "convs.2"):
        y = layer(x, f"{block}.conv1")
        y = layer(np.stack([blur(image, 2, 2) for image in y]), f"{block}.conv2", 1, pad=0, stride=2)
        weight = w[f"{block}.skip.1.weight"]
        skip = conv(np.stack([blur(image, 1, 1) for image in x]), weight / np.sqrt(weight[0].size), stride=2)
        x = (y + skip) / np.sqrt(2)
    deviations = np.empty((4, 1, 4, 4))
    for n in range(4):  # images 0 and 2, and 1 and 3, are a group each
        pair = x[[n % 2, n % 2 + 2]]
        mean = pair.mean(0)
        deviations[n] = np.sqrt(((pair - mean) ** 2).mean(0) + 1e-8).mean()
    x = layer(np.concatenate([x, deviations], axis=1), "final_conv").reshape(4, -1)
    x = leaky_relu(equal_linear(x, under(w, "final_linear.0")), 0.2) * np.sqrt(2)
    return equal_linear(x, under(w, "final_linear.1"))


def test_the_discriminator() -> None:
    network = randomized(Discriminator(DiscriminatorConfig(16, channel_base=64, channel_max=8, stddev_group=2)))
    images = draw(4, 3, 16, 16)
    same(network(torch.from_numpy(images)), judged(images, numpy_weights(network)))
