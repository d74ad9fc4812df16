"""Pickles read without running anything that they name.

NVlabs publishes StyleGAN2 as pickled modules that bring their own source code along. Here tensors, containers and
numbers come back as they are; every other class or function of the file becomes a record of its name, its arguments
and its state, and is never imported.
"""

from __future__ import annotations

import io
import pickle
import re
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fctfg.errors import FctfgError


class Inert:
    """What stands in for an object of a class that is not admitted; nothing of the class is known but its name.

    Attributes:
        qualified_name: module and name of the class or function in the file.
        arguments: what it was called with.
        state: what its state was set to, or None.
        items: what was put into it by key, for subclasses of dict.
    """

    qualified_name = ""
    arguments: tuple[Any, ...]
    state: Any
    items: dict[Any, Any]

    def __new__(cls, *arguments: Any, **named: Any) -> Inert:
        made = super().__new__(cls)
        made.arguments, made.state, made.items = arguments, None, {}
        return made

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Takes anything."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        """For subclasses of list."""
        self.items[len(self.items)] = value

    def __repr__(self) -> str:
        return f"<{self.qualified_name}, not run>"


class Values:
    """A tensor of a file; kept apart from `torch.Tensor`, whose own way of being unpickled a file could call."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a tensor with a state of its own")


def tensor_of(value: Any) -> Tensor | None:
    """The tensor of a value that was read, or None for anything else."""
    value = value.tensor if isinstance(value, Values) else value
    return value if isinstance(value, Tensor) else None


def _storage(content: bytes) -> Any:
    """In place of `torch.storage._load_from_bytes`, which would run an unrestricted pickle."""
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise pickle.UnpicklingError(f"the values of a tensor ask for {refused_name(error) or 'a program'}") from error


def refused_name(error: Exception) -> str | None:
    """The class or function that `torch.load(weights_only=True)` refused, by its message; None for other errors."""
    text = str(error)
    found = re.search(r"GLOBAL ([\w.]+)", text) or re.search(r"Unsupported (?:class|operand):? ?([\w.]+)", text)
    return found and found[1]


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *unused: Any) -> Values:
    """In place of `torch._utils._rebuild_tensor_v2`; a tensor that lies outside of its storage is an error."""
    return Values(torch.empty(0, dtype=storage.dtype).set_(storage).as_strided(tuple(size), tuple(stride), offset))


def _parameter(data: Values, *unused: Any) -> Values:
    """In place of `torch._utils._rebuild_parameter`."""
    return data


def _encoded(text: str, encoding: str) -> bytes:
    """In place of `_codecs.encode`, by which old protocols write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in another encoding ({encoding})")
    return text.encode("latin1")


ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("_codecs", "encode"): _encoded,
}
"""What a file may call, and what is called in its place: functions of this file, containers, numbers."""
for _module in ("builtins", "__builtin__"):  # how protocols below 4 name them
    ADMITTED |= {(_module, kind.__name__): kind for kind in (set, frozenset, bytearray, complex)}


class InertUnpickler(pickle.Unpickler):
    """Reads tensors, containers and numbers; records the rest as `Inert`.

    Attributes:
        recorded: qualified names of what was recorded.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.recorded: dict[str, type[Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for `module.name`; nothing is imported."""
        if (module, name) in ADMITTED:
            admitted = ADMITTED[module, name]
            return admitted if isinstance(admitted, type) else partial(admitted)  # one of this file's own to change
        qualified = f"{module}.{name}"
        if qualified not in self.recorded:
            self.recorded[qualified] = type("Inert", (Inert,), {"qualified_name": qualified})
        return self.recorded[qualified]


def read_inert(path: Path) -> tuple[Any, list[str]]:
    """Reads a pickle without running it.

    Args:
        path: a file that `pickle.dump` wrote.

    Returns:
        What it holds, with `Inert` records in place of foreign objects; and the names of those.

    Raises:
        FctfgError: it is truncated or damaged.
    """
    with path.open("rb") as stream:
        unpickler = InertUnpickler(stream)
        try:
            return unpickler.load(), sorted(unpickler.recorded)
        except Exception as error:  # a damaged pickle raises many kinds
            raise FctfgError(
                f"{path} is a truncated or damaged pickle ({error}); nothing of it was run: copy or download it again"
            ) from error


def array_of(value: Any) -> Tensor | None:
    """The float32 array of a pickled `numpy.ndarray`, which was recorded; None for anything else."""
    made_by = value.qualified_name if isinstance(value, Inert) else ""
    if made_by not in ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"):
        return None
    match value.state:
        case (_, tuple(shape), Inert(arguments=("f4", *_)), False, bytes(content)):
            return torch.frombuffer(bytearray(content), dtype=torch.float32).reshape(shape)
    return None


def module_fields(module: Any) -> dict[str, Any] | None:
    """The attributes of a recorded `torch.nn.Module`.

    Args:
        module: what `read_inert` gave for it: a module pickled as such, or by NVlabs' `torch_utils.persistence`, whose
            record holds the module's fields under `state`.

    Returns:
        Name -> value; None when it is no module.
    """
    if not isinstance(module, Inert):
        return None
    fields = module.state
    if fields is None and module.arguments and isinstance(module.arguments[0], dict):
        fields = module.arguments[0].get("state")
    whole = isinstance(fields, dict) and all(isinstance(fields.get(part), dict) for part in ("_parameters", "_modules"))
    return fields if whole else None


def module_settings(module: Any, name: str) -> set[Any]:
    """The values that an attribute has in a recorded module and the modules in it."""
    fields = module_fields(module)
    if fields is None:
        return set()
    own = {fields[name]} if isinstance(fields.get(name), int | float | None) and name in fields else set()
    return own.union(*(module_settings(child, name) for child in fields["_modules"].values()))


def module_tensors(module: Any) -> dict[str, Tensor] | None:
    """The state dict of a recorded `torch.nn.Module`, see `module_fields`.

    Returns:
        Its parameters and persistent buffers by their dotted names; None when it is no module.
    """
    fields = module_fields(module)
    if fields is None:
        return None
    found: dict[str, Tensor] = {}
    hidden = fields.get("_non_persistent_buffers_set")
    for name, value in {**fields["_parameters"], **fields.get("_buffers", {})}.items():
        tensor = tensor_of(value)
        if tensor is not None and not (isinstance(hidden, set) and name in hidden):
            found[name] = tensor
    for name, child in fields["_modules"].items():
        for key, tensor in (module_tensors(child) or {}).items():
            found[f"{name}.{key}"] = tensor
    return found
