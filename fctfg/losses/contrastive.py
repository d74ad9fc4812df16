"""The contrastive loss that trains the lip-sync expert (StyleTalker's form of SyncNet)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fctfg.ops.precision import float32_island


@float32_island
def contrastive(face: Tensor, audio: Tensor, temperature: Tensor | float = 0.07) -> Tensor:
    """InfoNCE from faces to sounds: every face has its own sound to find among those of all faces.

    L = -E_b[ log( exp(cos(f_b, a_b)/t) / sum over c of exp(cos(f_b, a_c)/t) ) ]

    Args:
        face: [B, D], unit length.
        audio: [B, D], unit length.
        temperature: t.

    Returns:
        a scalar; ln(B) by chance.
    """
    logits = face @ audio.t() / temperature
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
