"""The contrastive loss that trains the lip-sync expert (StyleTalker's form of SyncNet)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fctfg.ops.precision import float32_island


@float32_island
def contrastive(face: Tensor, audio: Tensor, temperature: Tensor | float = 0.07, first: int = 0) -> Tensor:
    """InfoNCE from faces to sounds: every face has its own sound to find among all.

    L = -E_b[ log( exp(cos(f_b, a_b)/t) / sum over c of exp(cos(f_b, a_c)/t) ) ]

    Args:
        face: [B, D], unit length.
        audio: [N, D], unit length, N >= B: the faces' own sounds, and others (those of other processes).
        temperature: t.
        first: row of the first face's sound; the others' follow it.

    Returns:
        a scalar; ln(N) by chance.

    Raises:
        ValueError: if a face's own sound is not among the sounds.
    """
    if not 0 <= first <= len(audio) - len(face):
        raise ValueError(f"the sounds of {len(face)} faces from row {first} on are not among {len(audio)}")
    logits = face @ audio.t() / temperature
    return F.cross_entropy(logits, torch.arange(first, first + len(face), device=logits.device))
