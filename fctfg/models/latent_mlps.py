"""The MLPs of the latent space: E_can and E_m of the paper, with independent weights per generator layer."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of the leaky ReLU; not in the paper
OUTPUT_GAIN = 0.1  # of the last layer's weights at the start, so that training starts near the mean face


class LayerwiseLinear(nn.Module):
    """One linear layer for each generator layer, computed as one batched matrix product.

    Args:
        n_layers: generator layers.
        in_features, out_features: sizes of each.
        gain: the weights' standard deviation times sqrt(fan_in) at the start.
        fan_in: inputs that are summed, where more than ``in_features`` are.
    """

    def __init__(
        self, n_layers: int, in_features: int, out_features: int, gain: float, fan_in: int | None = None
    ) -> None:
        super().__init__()
        std = gain / math.sqrt(fan_in or in_features)
        self.weight = nn.Parameter(torch.randn(n_layers, in_features, out_features) * std)
        self.bias = nn.Parameter(torch.zeros(n_layers, 1, out_features))

    def forward(self, x: Tensor) -> Tensor:
        """[n_layers, N, in_features] -> [n_layers, N, out_features]."""
        return torch.baddbmm(self.bias, x, self.weight)


HE = math.sqrt(2.0 / (1.0 + SLOPE**2))  # keeps the variance through a leaky ReLU


class CanonicalEncoder(nn.Module):
    """E_can: a 2-layer MLP per manipulated generator layer.

    Args:
        n_layers: manipulated layers L'.
        dim: of the codes and of the hidden layer.
    """

    def __init__(self, n_layers: int, dim: int) -> None:
        super().__init__()
        self.hidden = LayerwiseLinear(n_layers, dim, dim, HE)
        self.output = LayerwiseLinear(n_layers, dim, dim, OUTPUT_GAIN)

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
        self.driving = LayerwiseLinear(n_layers, dim, dim, HE)
        std = HE / math.sqrt(dim + audio_dim)
        self.audio_weight = nn.Parameter(torch.randn(len(audio_layers), audio_dim, dim) * std)
        with torch.no_grad():  # the fan-in of these layers includes the audio
            self.driving.weight[list(audio_layers)] *= math.sqrt(dim / (dim + audio_dim))
        self.hidden = LayerwiseLinear(n_layers, dim, dim, HE)
        self.output = LayerwiseLinear(n_layers, dim, dim, OUTPUT_GAIN)
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
