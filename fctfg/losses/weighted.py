"""The weighted sum of loss terms."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LossWeights:
    """Weights of loss terms: a subclass has one field for each, by the term's name.

    Raises:
        ValueError: one is negative or not finite.
    """

    def __post_init__(self) -> None:
        wrong = {name: value for name, value in asdict(self).items() if not (math.isfinite(value) and value >= 0)}
        if wrong:
            raise ValueError(f"weights of loss terms must be finite and not negative: {wrong}")


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
