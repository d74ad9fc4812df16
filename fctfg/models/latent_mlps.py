"""The MLPs of the latent space: E_can and E_m of the paper, with independent weights per generator layer."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of the leaky ReLU; not in the paper
SHIFT = 2.0  # moves most codes, which are of the size 1, onto the leaky ReLU's straight part at the start
AUDIO_GAIN = 0.1  # standard deviation of the audio's part of the first layer at the start, for codes of unit size


class LayerwiseLinear(nn.Module):
    """One linear layer for each generator layer, computed as one batched matrix product.

    It starts as x -> gain * x + bias.

    Args:
        n_layers: generator layers.
        dim: size of input and output.
        gain: the weights' diagonal at the start.
        bias: the bias at the start.
    """

    def __init__(self, n_layers: int, dim: int, gain: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter((gain * torch.eye(dim)).repeat(n_layers, 1, 1))
        self.bias = nn.Parameter(torch.full((n_layers, 1, dim), bias))

    def forward(self, x: Tensor) -> Tensor:
        """[n_layers, N, dim] -> [n_layers, N, dim]."""
        return torch.baddbmm(self.bias, x, self.weight)


class CanonicalEncoder(nn.Module):
    """E_can: a 2-layer MLP per manipulated generator layer.

    Both MLPs start as half the identity (not in the paper), so that their sum starts as the mean of the source's and
    the driving frame's inversion, and stage 3 where stage 2 has ended.

    Args:
        n_layers: manipulated layers L'.
        dim: of the codes and of the hidden layer.
    """

    def __init__(self, n_layers: int, dim: int) -> None:
        super().__init__()
        self.hidden = LayerwiseLinear(n_layers, dim, bias=SHIFT)
        self.output = LayerwiseLinear(n_layers, dim, gain=0.5, bias=-0.5 * SHIFT)

    def forward(self, z_source: Tensor) -> Tensor:
        """z_canonical = E_can(z_source) (Eq. 1); [B, L', D] -> [B, L', D]."""
        x = z_source.transpose(0, 1)  # [L', B, D]
        x = F.leaky_relu(self.hidden(x), SLOPE)
        return self.output(x).transpose(0, 1)


class MotionEncoder(nn.Module):
    """E_m: a 3-layer MLP per manipulated generator layer; the audio layers also take the audio code.

    The first layer's product with the concatenation (z_audio, z_driving) is computed as the sum of two products.

    Args:
        n_layers: manipulated layers L'.
        dim: of the codes and of the hidden layers.
        audio_dim: of the audio code.
        audio_layers: positions *within the manipulated layers* that audio enters.
    """

    audio_layers: Tensor

    def __init__(self, n_layers: int, dim: int, audio_dim: int, audio_layers: Sequence[int]) -> None:
        super().__init__()
        if not all(0 <= layer < n_layers for layer in audio_layers):
            raise ValueError(f"audio layers {list(audio_layers)} are not all among {n_layers} manipulated layers")
        self.driving = LayerwiseLinear(n_layers, dim, bias=SHIFT)
        std = AUDIO_GAIN / math.sqrt(audio_dim)
        self.audio_weight = nn.Parameter(torch.randn(len(audio_layers), audio_dim, dim) * std)
        self.hidden = LayerwiseLinear(n_layers, dim)
        self.output = LayerwiseLinear(n_layers, dim, gain=0.5, bias=-0.5 * SHIFT)
        self.register_buffer("audio_layers", torch.tensor(list(audio_layers), dtype=torch.long), persistent=False)

    def forward(self, z_audio: Tensor, z_driving: Tensor) -> Tensor:
        """z_motion = E_m(concat(z_audio, z_driving)) (Eq. 2).

        Args:
            z_audio: [B, T, audio_dim].
            z_driving: [B, T, L', D].

        Returns:
            [B, T, L', D].
        """
        shape = z_driving.shape
        x = self.driving(z_driving.flatten(0, 1).transpose(0, 1))  # [L', B*T, D]
        audio = z_audio.flatten(0, 1) @ self.audio_weight  # [audio layers, B*T, D]
        x = x.index_add(0, self.audio_layers, audio.to(x.dtype))
        x = F.leaky_relu(x, SLOPE)
        x = F.leaky_relu(self.hidden(x), SLOPE)
        return self.output(x).transpose(0, 1).reshape(shape)
