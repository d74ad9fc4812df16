"""Frozen dataclass configs to JSON and back, strictly."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from fctfg.errors import FctfgError


def config_to_dict(config: Any) -> dict[str, Any]:
    """Turns a (nested) dataclass config into plain dicts, lists, strings and numbers.

    Args:
        config: dataclass instance.

    Returns:
        One entry per field; tuples become lists (JSON has no tuples).
    """
    return {field.name: _to_plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def config_from_dict(config_class: type, values: Any, where: str) -> Any:
    """Rebuilds a config from what `config_to_dict` gave.

    Args:
        config_class: dataclass to instantiate; its `__post_init__` checks the values.
        values: dict with exactly the fields of `config_class`; those whose metadata say `added_later` may be missing,
            as in files that are older than the field, and have their default then.
        where: what is being read, for the error ("runs/a/export/weights.safetensors, generator").

    Returns:
        Instance of `config_class`, nested configs and tuples restored by the field's type hints.

    Raises:
        FctfgError: a key is unknown or missing (named), or a value is refused by the config.
    """
    if not isinstance(values, dict):
        raise FctfgError(f"{where}: the config of {config_class.__name__} is not a table of fields")
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    since = {name: field.default for name, field in fields.items() if field.metadata.get("added_later")}
    values = since | values
    unknown, missing = sorted(values.keys() - fields.keys()), sorted(fields.keys() - values.keys())
    if unknown or missing:
        parts = [f"{kind} {', '.join(keys)}" for kind, keys in (("unknown", unknown), ("missing", missing)) if keys]
        raise FctfgError(
            f"{where}: the config does not fit {config_class.__name__} of this version of fctfg "
            f"({'; '.join(parts)}); use the version that wrote the file, or export again"
        )
    hints = typing.get_type_hints(config_class)
    restored = {name: _from_plain(hints[name], value, where) for name, value in values.items()}
    try:
        return config_class(**restored)
    except (TypeError, ValueError) as error:
        raise FctfgError(f"{where}: the config is refused by {config_class.__name__}: {error}") from error


def config_differences(ours: Any, theirs: Any) -> list[str]:
    """Names the fields in which two configs of the same class differ.

    Returns:
        Lines such as "resolution is 64 instead of 32" (first value: `theirs`, second: `ours`).
    """
    changes = changed_fields(dataclasses.asdict(ours), dataclasses.asdict(theirs))
    return [f"{name} is {there} instead of {here}" for name, here, there in changes]


def changed_fields(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """What differs in nested tables.

    Args:
        before, now: tables of plain values and tables; a missing key is like None.
        prefix: of the names.

    Returns:
        (dotted name, value before, value now) of each value that differs.
    """
    changes: list[tuple[str, Any, Any]] = []
    for name in [*before, *(name for name in now if name not in before)]:
        a, b = before.get(name), now.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            changes += changed_fields(a, b, f"{prefix}{name}.")
        elif a != b:
            changes.append((f"{prefix}{name}", a, b))
    return changes


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return config_to_dict(value)
    if isinstance(value, (tuple, list)):
        return [_to_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a config field of type {type(value).__name__} cannot be stored as JSON")


def _from_plain(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
        return _from_plain(hint, value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return config_from_dict(hint, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise FctfgError(f"{where}: the config has {value!r} where a list belongs")
        arguments = typing.get_args(hint)
        items = arguments[:1] * len(value) if arguments[-1:] == (Ellipsis,) else arguments
        if len(items) != len(value):
            raise FctfgError(f"{where}: the config has {len(value)} values where {len(items)} belong")
        return tuple(_from_plain(item, entry, where) for item, entry in zip(items, value, strict=True))
    return value
