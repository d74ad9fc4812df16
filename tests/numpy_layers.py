"""The layers of published networks in NumPy, float64: sums over taps, written from their definitions.

They know nothing of torch but the names of a state dict's tensors.
"""

from collections.abc import Mapping
from itertools import product

import numpy as np
import torch
from torch import nn

Weights = Mapping[str, np.ndarray]


def randomized(network: nn.Module, seed: int = 0) -> nn.Module:
    """In float64 and eval mode, with every parameter and statistic random, so that none is zero, one or equal."""
    draw = torch.Generator().manual_seed(seed)
    network = network.double().eval()
    for key, tensor in network.state_dict().items():
        if key.endswith("kernel") or not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, dtype=torch.float64, generator=draw)
        tensor.copy_(0.5 + noise.abs() if key.endswith("running_var") else tensor + 0.3 * noise)
    return network


def numpy_weights(network: nn.Module) -> dict[str, np.ndarray]:
    """The state dict."""
    return {key: tensor.numpy() for key, tensor in network.state_dict().items()}


def under(weights: Weights, prefix: str) -> dict[str, np.ndarray]:
    """The tensors whose keys begin with ``prefix.``, without it."""
    return {key.removeprefix(f"{prefix}."): w for key, w in weights.items() if key.startswith(f"{prefix}.")}


def conv(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, stride: int = 1, pad: int = 0
) -> np.ndarray:
    """Cross-correlation: [N, I, H, W] with [O, I, j, k] -> [N, O, h, w]; zeros around the input."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    tall, wide = weight.shape[2:]
    rows, columns = (x.shape[2] - tall) // stride + 1, (x.shape[3] - wide) // stride + 1
    y = np.zeros((len(x), len(weight), rows, columns))
    for j, k in product(range(tall), range(wide)):
        seen = x[:, :, j : j + stride * rows : stride, k : k + stride * columns : stride]
        y += np.einsum("oi,nihw->nohw", weight[:, :, j, k], seen)
    return y if bias is None else y + bias[:, None, None]


def max_pool(x: np.ndarray, size: int, strides: tuple[int, int], pad: int = 0) -> np.ndarray:
    """The largest of each size x size window; what is outside of [N, C, H, W] does not count."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=-np.inf)
    rows, columns = ((x.shape[2 + axis] - size) // strides[axis] + 1 for axis in (0, 1))
    y = np.empty((*x.shape[:2], rows, columns))
    for r, c in product(range(rows), range(columns)):
        top, left = r * strides[0], c * strides[1]
        y[:, :, r, c] = x[:, :, top : top + size, left : left + size].max((2, 3))
    return y


def batch_norm(x: np.ndarray, weights: Weights) -> np.ndarray:
    """With the stored statistics and 1e-5 added to the variance; [N, C, ...]."""
    shape = (-1, *[1] * (x.ndim - 2))
    mean, var, weight, bias = (weights[key].reshape(shape) for key in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


def leaky_relu(x: np.ndarray, slope: float | np.ndarray) -> np.ndarray:
    """x, or slope x where x is negative."""
    return np.where(x > 0, x, slope * x)


def equal_linear(x: np.ndarray, weights: Weights, lr_multiplier: float = 1.0) -> np.ndarray:
    """Equalized learning rate: the weight by lr / sqrt(inputs), the bias by lr."""
    weight = weights["weight"] * lr_multiplier / np.sqrt(x.shape[1])
    return x @ weight.T + weights["bias"] * lr_multiplier
