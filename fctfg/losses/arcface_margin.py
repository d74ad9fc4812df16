"""The additive angular margin loss that trains the identity expert (Deng et al. 2019)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fctfg.ops.precision import float32_island


@float32_island
@float32_island
def class_cosines(embeddings: Tensor, centers: Tensor) -> Tensor:
    """Cosines of embeddings [B, D] of unit length with class centers [classes, D] of any length: [B, classes]."""
    return embeddings @ F.normalize(centers).t()


@float32_island
def arcface_margin(cosine: Tensor, labels: Tensor, margin: float = 0.5, scale: float = 64.0) -> Tensor:
    """Cross entropy of cosines, after the own class's angle was enlarged by a margin.

    L = -log( exp(s cos(t_y + m)) / (exp(s cos(t_y + m)) + sum over j != y of exp(s cos t_j)) )

    Where t_y + m exceeds pi, cos(t_y) - m sin(m) continues the function so that it keeps falling.

    Args:
        cosine: [B, classes], of embeddings and class centers, both of unit length.
        labels: int64 [B].
        margin: m, radians.
        scale: s.

    Returns:
        a scalar.
    """
    own = cosine.gather(1, labels[:, None])  # [B, 1]
    sine = (1 - own.square()).clamp_min(1e-12).sqrt()
    shifted = own * math.cos(margin) - sine * math.sin(margin)  # cos(t + m)
    shifted = torch.where(own > -math.cos(margin), shifted, own - margin * math.sin(margin))
    logits = cosine.scatter(1, labels[:, None], shifted)
    return F.cross_entropy(scale * logits, labels)
