"""Train, validation and test, disjoint by identity."""

import hashlib
from collections.abc import Iterable

from fctfg.data.manifest import SPLITS
from fctfg.errors import UsageError


def check_shares(shares: tuple[float, float, float]) -> None:
    """Raise UsageError unless the three shares are a partition of 1."""
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise UsageError(f"the shares of train, val and test must be 0 or more and sum to 1, not {shares}")


def assign_splits(identities: Iterable[str], shares: tuple[float, float, float]) -> dict[str, str]:
    """Give each identity a split by the hash of its name.

    The hash alone decides, so that an identity keeps its split when others are added. Only in small sets, where a
    split with a share would be left without anybody, the identities with the largest hashes fill it (first the test
    set, then validation), as long as somebody is left to train on; and somebody always is.

    Args:
        identities: Names, in any order.
        shares: Of train, val and test.

    Returns:
        Split of each identity.
    """
    place = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64 for name in identities}
    train, val, _ = shares
    splits = {
        name: SPLITS[0] if value < train else SPLITS[1] if value < train + val else SPLITS[2]
        for name, value in place.items()
    }
    for split, share in ((SPLITS[2], shares[2]), (SPLITS[1], shares[1])):
        training = sorted((name for name in splits if splits[name] == SPLITS[0]), key=lambda name: place[name])
        if share > 0 and split not in splits.values() and len(training) > 1:
            splits[training[-1]] = split
    if train > 0 and len(splits) > 1 and SPLITS[0] not in splits.values():
        splits[min(splits, key=lambda name: place[name])] = SPLITS[0]
    return splits


def shares_left(given: Iterable[str | None], shares: tuple[float, float, float]) -> tuple[float, float, float]:
    """The shares among the people whose folders do not say their split.

    A split that some folder names belongs to that folder alone; the other people are divided between training and the
    splits that no folder names. So a corpus that has its own test set still gets a validation set out of the rest.

    Args:
        given: Splits that the folders say, None where they do not.
        shares: Of train, val and test where no folder says anything.

    Returns:
        Shares that sum to 1.
    """
    taken = set(given)
    left = [share if k == 0 or SPLITS[k] not in taken else 0.0 for k, share in enumerate(shares)]
    total = sum(left)
    return (left[0] / total, left[1] / total, left[2] / total) if total > 0 else (1.0, 0.0, 0.0)
