"""Where numbers must not be coarser than float32."""

import torch
from torch import Tensor


def precise(x: Tensor) -> Tensor:
    """x in float32, or as it is where its type is finer; any shape."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
