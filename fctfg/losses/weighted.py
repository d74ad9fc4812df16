"""The weighted sum of loss terms."""

from collections.abc import Mapping

import torch
from torch import Tensor


def weighted(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The sum of terms by their weights; a term and its weight have one name.

    Args:
        terms: scalars by name.
        weights: by the same names.

    Returns:
        a scalar.

    Raises:
        ValueError: if the two do not have exactly the same names, or there are none.
    """
    if terms.keys() != weights.keys() or not terms:
        missing, unknown = sorted(terms.keys() - weights.keys()), sorted(weights.keys() - terms.keys())
        raise ValueError(f"loss terms without a weight: {missing}; weights without a term: {unknown}")
    return torch.stack([weights[name] * value for name, value in terms.items()]).sum()
