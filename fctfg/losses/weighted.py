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

    def computed(self, training: bool) -> set[str]:
        """Names of the terms to compute: in training those with a weight, otherwise all."""
        return {name for name, weight in asdict(self).items() if weight or not training}


def weighted(terms: Mapping[str, Tensor], weights: LossWeights) -> Tensor:
    """The sum of terms by their weights; a term and its weight have one name.

    Args:
        terms: scalars by name; one of weight 0 may be left out.
        weights: of all terms.

    Returns:
        a scalar.

    Raises:
        ValueError: a term has no weight, or a weight other than 0 no term.
    """
    by_name = asdict(weights)
    missing, unknown = sorted(terms.keys() - by_name.keys()), sorted(weights.computed(True) - terms.keys())
    if missing or unknown:
        raise ValueError(f"loss terms without a weight: {missing}; weights without a term: {unknown}")
    return torch.stack([by_name[name] * value for name, value in terms.items()]).sum()
