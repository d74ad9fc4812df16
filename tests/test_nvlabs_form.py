"""NVlabs' StyleGAN2 computed straight from its state dict, as its documentation and paper say, in float64: what our
networks give after the import must be that."""

import math
from typing import Any

import published_files as published
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import fctfg.weights
from fctfg.models.stylegan2 import GeneratorConfig
from fctfg.weights.sources.stylegan2_nvlabs import state_for_nvlabs

SIZES = (4, 8, 16, 32)
FILTER = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])).double() / 64


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def resample(x: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0), gain: float = 1.0) -> Tensor:
    """Zeros between the pixels, padding, filter, every `down`-th pixel."""
    n, c, h, w = x.shape
    spread = x.new_zeros(n, c, h * up, w * up)
    spread[:, :, ::up, ::up] = x
    padded = F.pad(spread, (*pad, *pad))
    return F.conv2d(padded.flatten(0, 1)[:, None], gain * FILTER[None, None])[:, 0].unflatten(0, (n, c))[
        :, :, ::down, ::down
    ]


def full(x: Tensor, layer: str, state: dict[str, Tensor], activate: bool = False, multiplier: float = 1.0) -> Tensor:
    weight, bias = state[f"{layer}.weight"], state[f"{layer}.bias"]
    y = x @ (weight * (multiplier / math.sqrt(weight.shape[1]))).T + bias * multiplier
    return lrelu(y) if activate else y


def modulated(x: Tensor, weight: Tensor, styles: Tensor, demodulate: bool, up: int) -> Tensor:
    """One image at a time, each with weights of its own."""
    images = []
    for image, style in zip(x, styles, strict=True):
        own = weight * style[None, :, None, None]
        if demodulate:
            own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up == 2:
            spread = F.conv_transpose2d(image[None], own.transpose(0, 1), stride=2)
            images.append(resample(spread, pad=(1, 1), gain=4.0))
        else:
            images.append(F.conv2d(image[None], own, padding=weight.shape[-1] // 2))
    return torch.cat(images)


def synthesis(ws: Tensor, state: dict[str, Tensor]) -> Tensor:
    """[B, L, D] -> [B, 3, H, W]; a block's toRGB shares its style with the next block's first convolution."""

    def layer(x: Tensor, name: str, w: Tensor, up: int = 1) -> Tensor:
        style = full(w, f"{name}.affine", state)
        y = modulated(x, state[f"{name}.weight"], style, demodulate=True, up=up)
        y = y + state[f"{name}.noise_const"] * state[f"{name}.noise_strength"]
        return lrelu(y + state[f"{name}.bias"][:, None, None])

    def to_rgb(x: Tensor, name: str, w: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        style = full(w, f"{name}.affine", state) / math.sqrt(weight.shape[1])
        return modulated(x, weight, style, demodulate=False, up=1) + state[f"{name}.bias"][:, None, None]

    x = state["synthesis.b4.const"].expand(len(ws), -1, -1, -1)
    x = layer(x, "synthesis.b4.conv1", ws[:, 0])
    image = to_rgb(x, "synthesis.b4.torgb", ws[:, 1])
    for index, size in enumerate(SIZES[1:]):
        block, first = f"synthesis.b{size}", 2 * index + 1
        x = layer(x, f"{block}.conv0", ws[:, first], up=2)
        x = layer(x, f"{block}.conv1", ws[:, first + 1])
        image = resample(image, up=2, pad=(2, 1), gain=4.0) + to_rgb(x, f"{block}.torgb", ws[:, first + 2])
    return image


def judge(images: Tensor, state: dict[str, Tensor]) -> Tensor:
    """[B, 3, H, W] -> [B, 1], B a multiple of 4."""

    def conv(x: Tensor, name: str, down: bool = False, activate: bool = True, gain: float = 1.0) -> Tensor:
        weight = state[f"{name}.weight"]
        weight = weight / math.sqrt(math.prod(weight.shape[1:]))
        if not down:
            y = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        elif weight.shape[-1] == 1:
            y = F.conv2d(resample(x, down=2, pad=(1, 1)), weight)
        else:
            y = F.conv2d(resample(x, pad=(2, 2)), weight, stride=2)
        return gain * (lrelu(y + state[f"{name}.bias"][:, None, None]) if activate else y)

    x = conv(images, f"b{SIZES[-1]}.fromrgb")
    for size in SIZES[:0:-1]:
        half = math.sqrt(0.5)
        skip = conv(x, f"b{size}.skip", down=True, activate=False, gain=half)
        x = conv(conv(x, f"b{size}.conv0"), f"b{size}.conv1", down=True, gain=half) + skip
    groups = x.reshape(4, -1, *x.shape[1:])
    deviation = ((groups - groups.mean(0)).square().mean(0) + 1e-8).sqrt().mean((1, 2, 3))
    x = torch.cat([x, deviation.repeat(4)[:, None, None, None].expand(-1, 1, 4, 4)], 1)
    x = conv(x, "b4.conv").flatten(1)
    return full(full(x, "b4.fc", state, activate=True), "b4.out", state)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Networks from a file in NVlabs' layout, in float64, and the state dicts of that file."""
    config = GeneratorConfig(resolution=32, style_dim=12, n_mlp=3, channel_base=256, channel_max=16)
    content = {
        "G_ema": state_for_nvlabs(published.generator(config)),
        "D": state_for_nvlabs(published.discriminator(config)),
    }
    path = published.save(content, tmp_path_factory.mktemp("nvlabs") / "n.pt")
    loaded = fctfg.weights.load_all(path, "stylegan2-nvlabs")
    double = {name: {key: tensor.double() for key, tensor in part.items()} for name, part in content.items()}
    return {name: network.double() for name, network in loaded.items()}, double


def test_mapping(networks: tuple[dict[str, Any], dict[str, dict[str, Tensor]]]) -> None:
    ours, theirs = networks
    z = torch.randn(5, 12, dtype=torch.float64)
    x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for layer in range(3):
        x = full(x, f"mapping.fc{layer}", theirs["G_ema"], activate=True, multiplier=0.01)
    torch.testing.assert_close(ours["generator"].mapping(z), x, atol=1e-10, rtol=1e-10)
    assert torch.equal(ours["generator"].latent_avg, theirs["G_ema"]["mapping.w_avg"])


def test_images(networks: tuple[dict[str, Any], dict[str, dict[str, Tensor]]]) -> None:
    ours, theirs = networks
    codes = torch.randn(3, 8, 12, dtype=torch.float64)
    want = synthesis(codes, theirs["G_ema"])
    # their demodulation adds 1e-8 to the energy of unscaled weights, ours to that of scaled ones
    torch.testing.assert_close(ours["generator"](codes), want, atol=1e-6, rtol=1e-6)
    assert want.std() > 0.1


def test_logits(networks: tuple[dict[str, Any], dict[str, dict[str, Tensor]]]) -> None:
    ours, theirs = networks
    images = torch.randn(8, 3, 32, 32, dtype=torch.float64)
    want = judge(images, theirs["D"])
    torch.testing.assert_close(ours["discriminator"](images), want, atol=1e-9, rtol=1e-9)
    assert want.std() > 1e-3
