"""The networks that look at faces (IR-SE, pSp, HyperStyle) against themselves written out in NumPy, in float64."""

import numpy as np
import pytest
import torch
from numpy_layers import (
    Weights,
    batch_norm,
    conv,
    equal_linear,
    leaky_relu,
    max_pool,
    numpy_weights,
    randomized,
    under,
)

from fctfg.models.experts.arcface import ArcFace, ArcFaceConfig
from fctfg.models.hypernetwork import Hypernetwork, HypernetworkConfig
from fctfg.models.irse import Bottleneck, IRSEConfig
from fctfg.models.stylegan2 import GeneratorConfig
from fctfg.models.visual_encoder import VisualEncoder, VisualEncoderConfig

BODY = IRSEConfig(channels=(4, 4, 6, 8), blocks=(1, 2, 1, 2), se_reduction=2)
STRIDES = (2, 2, 1, 2, 2, 1)  # of BODY's six bottlenecks


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def same(got: torch.Tensor, want: np.ndarray, digits: int = 10) -> None:
    """Equal up to rounding."""
    atol = 10.0**-digits * np.abs(want).max()
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=10.0**-digits, atol=atol)


# ------------------------------------------------------------------------------------------------------------ IR-SE


def bottleneck(x: np.ndarray, stride: int, w: Weights) -> np.ndarray:
    """IR-SE50's block; its shortcut is a max-pooling of one pixel, or a projection where the widths differ."""
    y = batch_norm(x, under(w, "res_layer.0"))
    y = conv(y, w["res_layer.1.weight"], pad=1)
    y = leaky_relu(y, w["res_layer.2.weight"][:, None, None])
    y = batch_norm(conv(y, w["res_layer.3.weight"], stride=stride, pad=1), under(w, "res_layer.4"))
    gate = y.mean((2, 3)) @ w["res_layer.5.fc1.weight"][:, :, 0, 0].T
    gate = 1 / (1 + np.exp(-np.maximum(gate, 0) @ w["res_layer.5.fc2.weight"][:, :, 0, 0].T))
    y = y * gate[:, :, None, None]
    if "shortcut_layer.0.weight" not in w:
        return y + max_pool(x, 1, (stride, stride))
    return y + batch_norm(conv(x, w["shortcut_layer.0.weight"], stride=stride), under(w, "shortcut_layer.1"))


@pytest.mark.parametrize(("width", "stride"), [(4, 1), (4, 2), (6, 1), (6, 2)])
def test_a_bottleneck(width: int, stride: int) -> None:
    block, x = randomized(Bottleneck(4, width, stride, se_reduction=2)), draw(2, 4, 8, 6)
    same(block(torch.from_numpy(x)), bottleneck(x, stride, numpy_weights(block)))


def stem(images: np.ndarray, w: Weights) -> np.ndarray:
    """The input layer: convolution, batch norm, PReLU."""
    x = batch_norm(conv(images, w["input_layer.0.weight"], pad=1), under(w, "input_layer.1"))
    return leaky_relu(x, w["input_layer.2.weight"][:, None, None])


def test_the_identity_expert() -> None:
    network, faces = randomized(ArcFace(ArcFaceConfig(BODY, dim=5))), draw(2, 3, 112, 112)
    w = numpy_weights(network)
    x = stem(faces, w)
    for index, stride in enumerate(STRIDES):
        x = bottleneck(x, stride, under(w, f"body.{index}"))
    x = batch_norm(x, under(w, "output_layer.0")).reshape(2, -1)
    x = batch_norm(x @ w["output_layer.3.weight"].T + w["output_layer.3.bias"], under(w, "output_layer.4"))
    same(network(torch.from_numpy(faces)), x / np.sqrt((x**2).sum(1, keepdims=True)), digits=6)  # float32 at the end


# -------------------------------------------------------------------------------------------------------------- pSp


def enlarged(x: np.ndarray) -> np.ndarray:
    """Bilinear to twice the size, corners on corners; [N, C, S, S]."""
    size = x.shape[-1]
    y = np.empty((*x.shape[:2], 2 * size, 2 * size))
    for row in range(2 * size):
        for column in range(2 * size):
            v, u = row * (size - 1) / (2 * size - 1), column * (size - 1) / (2 * size - 1)
            i, j = min(int(v), size - 2), min(int(u), size - 2)
            a, b = v - i, u - j
            top = (1 - b) * x[:, :, i, j] + b * x[:, :, i, j + 1]
            bottom = (1 - b) * x[:, :, i + 1, j] + b * x[:, :, i + 1, j + 1]
            y[:, :, row, column] = (1 - a) * top + a * bottom
    return y


def convolutions(x: np.ndarray, strides: list[int], w: Weights) -> np.ndarray:
    """3x3 convolutions, a leaky ReLU with slope 0.01 after each, under ``convs.0``, ``convs.2``, ..."""
    assert sum(key.startswith("convs.") and key.endswith(".weight") for key in w) == len(strides)
    for index, stride in enumerate(strides):
        x = conv(x, w[f"convs.{2 * index}.weight"], w[f"convs.{2 * index}.bias"], stride, pad=1)
        x = leaky_relu(x, 0.01)
    return x


def test_the_visual_encoder() -> None:
    """Feature pyramid, one map-to-style network per style, the mean latent."""
    network = randomized(VisualEncoder(VisualEncoderConfig(resolution=32, style_dim=5, n_styles=9, body=BODY)))
    images = draw(2, 3, 32, 32)
    w = numpy_weights(network)
    x, found = stem(images, w), []
    for index, stride in enumerate(STRIDES):
        x = bottleneck(x, stride, under(w, f"body.{index}"))
        found.append(x)
    fine, middle, coarse = found[2], found[3], found[5]
    middle = enlarged(coarse) + conv(middle, w["latlayer1.weight"], w["latlayer1.bias"])
    fine = enlarged(middle) + conv(fine, w["latlayer2.weight"], w["latlayer2.bias"])
    codes = []
    for style in range(9):
        source, halvings = (coarse, 1) if style < 3 else (middle, 2) if style < 7 else (fine, 3)
        own = under(w, f"styles.{style}")
        x = convolutions(source, [2] * halvings, own)
        assert x.shape == (2, 5, 1, 1)
        codes.append(equal_linear(x[:, :, 0, 0], under(own, "linear")) + w["latent_avg"])
    same(network(torch.from_numpy(images)), np.stack(codes, axis=1))


# -------------------------------------------------------------------------------------------------------- HyperStyle

# Convolutions 0, 2, 3, 5 and 6 are 8 -> 8; 8 is 8 -> 4 and 9 is 4 -> 4. The feature map has 4 x 4 pixels.
HYPER = HypernetworkConfig(
    resolution=64,
    channels=(4, 4, 5, 6),
    blocks=(1, 2, 1, 1),
    code_dim=7,
    shared_width=3,
    own_width=5,
    generator=GeneratorConfig(resolution=64, style_dim=6, n_mlp=1, channel_base=128, channel_max=8),
)


def basic_block(x: np.ndarray, stride: int, w: Weights) -> np.ndarray:
    """ResNet-34's block."""
    y = np.maximum(batch_norm(conv(x, w["conv1.weight"], stride=stride, pad=1), under(w, "bn1")), 0)
    y = batch_norm(conv(y, w["conv2.weight"], pad=1), under(w, "bn2"))
    if "downsample.0.weight" in w:
        x = batch_norm(conv(x, w["downsample.0.weight"], stride=stride), under(w, "downsample.1"))
    return np.maximum(x + y, 0)


def shared_offsets(features: np.ndarray, w: Weights) -> np.ndarray:
    """[N, C, 4, 4] -> [N, 8, 8, 3, 3] by h = z w2 + b2 (one row per channel), then h w1 + b1."""
    z = equal_linear(convolutions(features, [1, 2, 2], w)[:, :, 0, 0], under(w, "linear"))
    offsets = np.empty((len(z), 8, 8, 3, 3))
    for n in range(len(z)):
        h = z[n] @ w["hypernet.w2"] + w["hypernet.b2"]
        for row in range(8):
            values = h[7 * row : 7 * row + 7] @ w["hypernet.w1"] + w["hypernet.b1"]  # [72]
            for column in range(8):  # the row is the output channel, the column the input channel
                offsets[n, row, column] = values[9 * column : 9 * column + 9].reshape(3, 3)
    return offsets


def own_offsets(features: np.ndarray, outputs: int, inputs: int, w: Weights) -> np.ndarray:
    """[N, C, 4, 4] -> [N, O, I, 3, 3]: convolutions, the mean over what is left, a linear layer; all taps alike."""
    x = convolutions(features, [2, 2], w).mean((2, 3))
    y = x @ w["output.1.weight"][:, :, 0, 0].T + w["output.1.bias"]
    offsets = np.empty((len(y), outputs, inputs, 3, 3))
    for o in range(outputs):
        for i in range(inputs):
            offsets[:, o, i] = y[:, inputs * o + i, None, None]
    return offsets


def test_the_hypernetwork() -> None:
    network = randomized(Hypernetwork(HYPER))
    images, reconstruction = draw(2, 3, 64, 64), draw(2, 3, 64, 64, seed=1)
    w = numpy_weights(network)
    x = conv(np.concatenate([images, reconstruction], axis=1), w["conv1.weight"], stride=2, pad=3)
    x = leaky_relu(batch_norm(x, under(w, "bn1")), w["relu.weight"][:, None, None])
    for index, stride in enumerate((1, 2, 1, 2, 2)):
        x = basic_block(x, stride, under(w, f"body.{index}"))
    assert x.shape == (2, 6, 4, 4)
    deltas = network(torch.from_numpy(images), torch.from_numpy(reconstruction))
    assert len(deltas) == 14
    for index, delta in enumerate(deltas):
        block = under(w, f"refinement_blocks.{index}")
        if index in (0, 2, 3, 5, 6):
            same(delta, shared_offsets(x, block))
        elif index in (8, 9, 11, 12):
            outputs, inputs = {8: (4, 8), 9: (4, 4), 11: (2, 4), 12: (2, 2)}[index]
            same(delta, own_offsets(x, outputs, inputs, block))
        else:
            assert delta is None
            assert not block
