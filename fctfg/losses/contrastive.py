"""The contrastive loss that trains the lip-sync expert (StyleTalker's form of SyncNet)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_logits(
    face: Tensor, audio: Tensor, shifted: Tensor | None = None, temperature: Tensor | float = 0.07
) -> Tensor:
    """Similarities of every face with its own sound, the other sounds of the batch, and its own sound shifted in time.

    Args:
        face: [B, D], unit length.
        audio: [B, D], unit length.
        shifted: [B, K, D], unit length: the sound of each face at K wrong times.
        temperature: divides the cosines.

    Returns:
        [B, B + K]; column b belongs to face b.
    """
    cosine = face @ audio.t()
    if shifted is not None:
        cosine = torch.cat([cosine, torch.einsum("bd,bkd->bk", face, shifted)], dim=1)
    return cosine / temperature


def contrastive(
    face: Tensor, audio: Tensor, shifted: Tensor | None = None, temperature: Tensor | float = 0.07
) -> Tensor:
    """InfoNCE from faces to sounds.

    L = -E_b[ log( exp(cos(f_b, a_b)/t) / sum over candidates c of exp(cos(f_b, a_c)/t) ) ]

    Args:
        face, audio, shifted, temperature: see :func:`contrastive_logits`.

    Returns:
        a scalar; ln(B + K) by chance.
    """
    logits = contrastive_logits(face.float(), audio.float(), None if shifted is None else shifted.float(), temperature)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
