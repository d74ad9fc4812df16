"""Foreign tensors into our networks: every key is named by a table, nothing is left over on either side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fctfg.errors import FctfgError

Table = Mapping[str, str | None]
"""Their key -> our key, or None for what is known and dropped. A key that ends in `*` stands for all keys that begin
so, and the rest of the key takes the place of the `*` in ours. The longest row that fits decides."""

COUNTER = "num_batches_tracked"  # of batch norm since PyTorch 0.4.1; older files lack it, and nothing reads it


def renamed(theirs: Mapping[str, Tensor], table: Table) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors under our keys.

    Args:
        theirs: their key -> tensor.
        table: see `Table`.

    Returns:
        Our key -> tensor, and the keys that no row of the table knows.
    """
    ours: dict[str, Tensor] = {}
    unknown = []
    for key, tensor in theirs.items():
        row = _row(key, table)
        if row is None:
            unknown.append(key)
        elif (name := table[row]) is not None:
            ours[name.replace("*", key[len(row) - 1 :])] = tensor
    return ours, unknown


def load_keys(
    path: Path,
    make: Callable[[], nn.Module],
    theirs: Mapping[str, Tensor],
    table: Table,
    given: Mapping[str, Tensor] | None = None,
    ones: bool = False,
) -> nn.Module:
    """Builds a network of foreign tensors; all or nothing.

    The tensors become the network's own, floating point ones as float32; nothing is copied that has its type already.

    Args:
        path: the file, for errors.
        make: builds the network; its tensors are never allocated.
        theirs: their key -> tensor.
        table: see `Table`.
        given: tensors by our keys that the table does not name.
        ones: their shapes may differ from ours in dimensions of size 1.

    Returns:
        The network in eval mode, on the CPU.

    Raises:
        FctfgError: keys are unknown or missing, shapes differ, or a value is not finite.
    """
    with torch.device("meta"):
        network = make().eval()
    wanted = network.state_dict()
    found, unknown = renamed(theirs, table)
    found |= given or {}
    for key in wanted:
        if key.rsplit(".", 1)[-1] == COUNTER:
            found.setdefault(key, torch.zeros((), dtype=torch.long))
    if ones:
        found = {k: _with_ones(v, wanted[k].shape) if k in wanted else v for k, v in found.items()}
    missing = sorted(wanted.keys() - found.keys())
    unknown += sorted(found.keys() - wanted.keys())
    reshaped = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted.keys() & found.keys()
        if found[key].shape != wanted[key].shape
    ]
    if unknown or missing or reshaped:
        lists = ("unknown", unknown), ("missing", missing), ("of another shape", sorted(reshaped))
        few = len(unknown) + len(missing) + len(reshaped) < len(wanted) / 10
        advice = "it has been altered; get another copy" if few else "check that the source is the right one"
        raise FctfgError(
            f"{path} is not this network as it was published ({'; '.join(f'{n}: {some(k)}' for n, k in lists if k)}); "
            f"nothing was loaded: {advice}"
        )
    single: dict[tuple[int, torch.Size], Tensor] = {}  # tensors that several keys share stay one
    for key, tensor in found.items():
        if tensor.is_floating_point():
            place = tensor.data_ptr(), tensor.shape
            if place not in single:
                single[place] = tensor.float()
            found[key] = single[place]
    if wrong := [key for key, tensor in found.items() if not _finite(tensor)]:
        raise FctfgError(f"{path} holds values that are not finite ({some(wrong)}); get another copy or an earlier one")
    network.load_state_dict(found, assign=True)
    return network


def some(lines: list[str], limit: int = 5) -> str:
    """The first lines, and how many there are when that is more."""
    text = ", ".join(lines[:limit])
    return f"{text}, ... ({len(lines)} in all)" if len(lines) > limit else text


def _finite(tensor: Tensor) -> bool:
    """Whether all values are; a sum shows it without a copy, unless it overflows."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def _row(key: str, table: Table) -> str | None:
    if key in table:
        return key
    rows = [row for row in table if row.endswith("*") and key.startswith(row[:-1])]
    return max(rows, key=len, default=None)


def _with_ones(tensor: Tensor, shape: torch.Size) -> Tensor:
    same = [n for n in tensor.shape if n != 1] == [n for n in shape if n != 1]
    return tensor.reshape(shape) if same else tensor
