"""What the expert is trained to: its own sound, in step, correlates most."""

import torch
from torch import Tensor

SHARE = (0.15, 0.7, 0.15)  # of a shift of -1, 0, 1 frames in the answer: lips are not exact to a frame


def curves(lips: Tensor, heard: Tensor) -> Tensor:
    """Correlation of each clip's lips with each clip's sound at each shift.

    Args:
        lips: [B, T, D].
        heard: [B, T + S - 1, D].

    Returns:
        [B lips, B sounds, S] in [-1, 1].
    """
    windows = heard.unfold(1, lips.shape[1], 1)  # [B, S, D, T]
    windows = windows - windows.mean(-1, keepdim=True)
    lips = lips - lips.mean(1, keepdim=True)
    lips = lips / lips.square().sum((1, 2), keepdim=True).sqrt().clamp_min(1e-6)
    windows = windows / windows.square().sum((2, 3), keepdim=True).sqrt().clamp_min(1e-6)
    return torch.einsum("itd,jsdt->ijs", lips, windows)


def contrast(curve: Tensor, scale: Tensor) -> Tensor:
    """Cross entropy of finding one's own sound in step among its shifts, and among everybody's sounds and shifts.

    Args:
        curve: [B, B, S] of `curves`, S odd.
        scale: scalar, by which correlations are multiplied to be logits.

    Returns:
        Scalar.
    """
    batch, _, shifts = curve.shape
    answer = torch.zeros(shifts)
    answer[shifts // 2 - 1 : shifts // 2 + 2] = torch.tensor(SHARE)
    own = torch.arange(batch)
    logits = scale * curve
    alone = logits[own, own].log_softmax(1)  # [B, S]
    among = logits.flatten(1).log_softmax(1).view_as(curve)[own, own]  # [B, S]
    return -((alone + among) * answer).sum(1).mean()
