"""Foreign checkpoints, read into plain tables and tensors."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fctfg.errors import FctfgError
from fctfg.weights.file_kind import Kind, file_kind
from fctfg.weights.inert_pickle import Inert, module_tensors, read_inert, refused_name, tensor_of

OUR_FORMAT = "fctfg-1"
"""`format` in the header of the safetensors files that fctfg writes."""

WRAPPERS = frozenset({"module", "_orig_mod"})
"""What DataParallel and torch.compile put into keys."""

NUMBERS: list[Any] = [np.dtype, *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64))]
for _path in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"):
    NUMBERS.append((np.float64(0).__reduce__()[0], _path))
"""numpy's numbers, which find their way into published settings."""


@dataclass(frozen=True)
class Checkpoint:
    """A file of another program.

    Attributes:
        path: the file.
        kind: see `file_kind`.
        content: tables, lists, numbers, strings and tensors (on the CPU); an empty table for ONNX.
        recorded: names of the classes and functions that a pickle asked for and that were not run.
    """

    path: Path
    kind: Kind
    content: Any
    recorded: tuple[str, ...] = ()

    def part(self, *names: str) -> Any:
        """The first of some entries of the file's table that is there, or None."""
        if not isinstance(self.content, Mapping):
            return None
        return next((self.content[name] for name in names if self.content.get(name) is not None), None)

    def state(self, *names: str) -> dict[str, Tensor] | None:
        """A state dict of the file, under keys without the wrappers of DataParallel and torch.compile.

        Args:
            names: entries that may hold it, in the order of preference; none: the file itself, or its `state_dict`.

        Returns:
            Key -> tensor; None when there is no such entry or it is no state dict.

        Raises:
            FctfgError: two keys differ by their wrappers only.
        """
        found = self.part(*names) if names else (self.part("state_dict") or self.content)
        if isinstance(found, Inert):
            found = module_tensors(found)
        if not isinstance(found, Mapping):
            return None
        every = ((key, tensor_of(value)) for key, value in found.items() if isinstance(key, str))
        tensors = {key: tensor for key, tensor in every if tensor is not None}
        clean = {_unwrapped(key): tensor for key, tensor in tensors.items()}
        if len(clean) < len(tensors):
            raise FctfgError(f"{self.path} holds some tensors twice, with and without `module.`; save it again")
        return clean or None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint of another program; nothing that it contains is run.

    Files of `torch.save` are read with `weights_only=True`, which admits tensors, containers and numbers; beside them
    numpy's numbers and `argparse.Namespace`, the settings in rosinality's files. Plain pickles (NVlabs) are read by
    `read_inert`.

    Args:
        path: safetensors, `.pt` / `.pth` / `.model`, NVlabs' `.pkl`, or `.onnx` (which is not read here).

    Raises:
        FctfgError: missing, truncated, a web page, a pickle that would run code, or a file of fctfg itself.
    """
    path = Path(path)
    kind = file_kind(path)
    if kind == "safetensors":
        return Checkpoint(path, kind, _safetensors(path))
    if kind == "pickle":
        content, recorded = read_inert(path)
        return Checkpoint(path, kind, content, tuple(recorded))
    if kind == "onnx":
        return Checkpoint(path, kind, {})
    try:
        if kind == "zip":
            _check_sums(path)
        with torch.serialization.safe_globals([argparse.Namespace, *NUMBERS]):
            return Checkpoint(path, kind, torch.load(path, map_location="cpu", weights_only=True))
    except FctfgError:
        raise
    except Exception as error:  # torch raises many kinds
        if name := refused_name(error):
            raise FctfgError(
                f"{path} asks for {name}, which could run any program when the file is read, so nothing of it was "
                f"read or run; ask its author for the tensors alone (a state dict, or safetensors)"
            ) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FctfgError(f"{path} is truncated or damaged ({reason[:200]}); copy or download it again") from error


def _check_sums(path: Path) -> None:
    """A zip holds a checksum of each of its parts, which torch does not look at."""
    with zipfile.ZipFile(path) as archive:
        if (name := archive.testzip()) is not None:
            raise FctfgError(f"{path} is truncated or damaged ({name} has another checksum); copy or download it again")


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            if (file.metadata() or {}).get("format") == OUR_FORMAT:
                raise FctfgError(f"{path} is a file of fctfg already: use it as it is, or `fctfg weights export` it")
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise FctfgError(f"{path} is truncated or damaged ({error}); copy or download it again") from error


def _unwrapped(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)
