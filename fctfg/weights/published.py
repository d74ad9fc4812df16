"""Published checkpoints in and out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fctfg.atomic import atomic_path, write_json
from fctfg.errors import FctfgError, UsageError
from fctfg.file_hash import sha256
from fctfg.weights.artifact import Artifact, build, load_artifact, save_artifact
from fctfg.weights.catalogue import entry_of_file
from fctfg.weights.checkpoint import Checkpoint, read_checkpoint
from fctfg.weights.sources import SOURCES
from fctfg.weights.sources.source import Source

UNKNOWN_LICENCE = "unknown (a file that the catalogue does not list)"


def source_named(name: str) -> Source:
    """The layout of that name.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, n=1, cutoff=0.4)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"unknown source {name!r}{meant} (one of {', '.join(SOURCES)})")
    return SOURCES[name]


def load(path: str | Path, source: str) -> nn.Module:
    """Loads the network that a published file stands for.

    Args:
        path: the file.
        source: its layout, a key of `SOURCES`.

    Returns:
        The network in eval mode, on the CPU, in float32.

    Raises:
        FctfgError: the file is missing, damaged, of another layout, incomplete, or would run code.
        UsageError: unknown source.
    """
    layout, checkpoint = source_named(source), read_checkpoint(path)
    read = next(iter(layout.networks.values()))
    network = _read(layout, checkpoint, read)
    assert network is not None, "the first network of a source is always there"
    return network


def load_all(path: str | Path, source: str) -> dict[str, nn.Module]:
    """Loads every network of a published file, such as the generator in a pSp file.

    Args:
        path, source: as for `load`.

    Returns:
        Name in `fctfg.weights.artifact.NETWORKS` -> network in eval mode; the one that `load` returns comes first.

    Raises:
        FctfgError, UsageError: as `load`.
    """
    layout = source_named(source)
    return _read_all(layout, read_checkpoint(path))


def identify(checkpoint: Checkpoint) -> Source | None:
    """The layout of a checkpoint, by its keys; None when it is none that fctfg knows."""
    return next((source for source in SOURCES.values() if source.recognise(checkpoint)), None)


def identify_file(path: Path) -> Source | None:
    """As `identify`, of a file.

    Raises:
        FctfgError: it cannot be read.
    """
    return identify(read_checkpoint(path))


def import_weights(path: Path, source: str, out: Path, licence: str = "") -> dict[str, nn.Module]:
    """Writes the networks of a published file as a weights file of fctfg.

    Args:
        path: the published file.
        source: its layout.
        out: the `.safetensors` file to write.
        licence: of the weights; empty takes what the catalogue says of a file of this name.

    Returns:
        The networks that were written, by name.

    Raises:
        FctfgError, UsageError: as `load`; or `out` cannot be written or is the file itself.
    """
    layout = source_named(source)
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: fctfg writes safetensors; give it a name that ends in .safetensors")
    if out.exists() and path.exists() and out.samefile(path):
        raise FctfgError(f"{out} is the file to import; write to another one")
    networks = _read_all(layout, read_checkpoint(path))
    save_artifact(out, networks, "imported", _card(path, layout, licence))
    return networks


def published_artifact(path: Path, source: Source | None = None) -> Artifact:
    """A published file as if it had been imported, without writing anything.

    Args:
        path: the file.
        source: its layout; None recognises it.

    Raises:
        FctfgError: as `load`, or the layout is not known.
    """
    checkpoint = read_checkpoint(path)
    layout = source or identify(checkpoint)
    if layout is None:
        raise FctfgError(
            f"{path} has no layout that fctfg knows; `fctfg weights list` names them, and a file that does not say "
            f"what it is can be read with `fctfg weights import SOURCE {path} --out FILE.safetensors`"
        )
    networks = _read_all(layout, checkpoint)
    return Artifact(
        path=path,
        stage="imported",
        configs={name: network.config for name, network in networks.items()},
        card=_card(path, layout, ""),
        state_dicts={name: dict(network.state_dict()) for name, network in networks.items()},
        sha256=sha256(path),
    )


def export_weights(path: Path, source: str, out: Path) -> list[str]:
    """Writes networks of fctfg in a published layout.

    Args:
        path: a weights file of fctfg, or a run folder.
        source: the layout; one that can be written.
        out: file to write; `.safetensors` for NVlabs' state dicts, anything else is written by `torch.save`. The card
            with the licences goes beside it, as `OUT.card.json`.

    Returns:
        Names of the networks that were written.

    Raises:
        FctfgError: the file lacks what the layout holds, or `out` cannot be written or is the file itself.
        UsageError: unknown source, one that has no way back, or a suffix that it does not have.
    """
    layout = source_named(source)
    if layout.write is None:
        able = ", ".join(name for name, each in SOURCES.items() if each.write is not None)
        raise UsageError(f"{source} cannot be written, only read; one of {able} can")
    if out.suffix == ".safetensors" and not layout.flat:
        raise UsageError(f"--out {out}: programs that read {source} expect a file of torch.save; give it a name in .pt")
    if out.suffix == ".pkl":
        raise UsageError(f"--out {out}: NVlabs' .pkl holds program text, which is not written; give it a name in .pt")
    artifact = load_artifact(path)
    if out.is_dir() or (out.exists() and out.samefile(artifact.path)):
        raise FctfgError(f"{out} is {'a folder' if out.is_dir() else 'the file to export'}; write to another file")
    names = [name for name in layout.networks if name in artifact.configs]
    if missing := [name for name in layout.needs if name not in names]:
        raise FctfgError(
            f"{path} holds {', '.join(artifact.configs)}, but {source} needs {' and '.join(layout.needs)} "
            f"({', '.join(missing)} missing); export a run that has them"
        )
    networks = {name: build(artifact, name).eval() for name in names}
    try:
        content = layout.write(networks)
    except FctfgError as error:
        raise FctfgError(f"{path}: {error}") from error
    with atomic_path(out) as temporary:
        if out.suffix == ".safetensors":
            save_file(_flat(content), str(temporary))
        else:
            torch.save(_alone(content), temporary)
    origin = {"source": source, "from": artifact.path.name, "from_sha256": artifact.sha256, "sha256": sha256(out)}
    write_json(out.with_name(f"{out.name}.card.json"), {"exported": origin, **artifact.card})
    return names


def _read_all(layout: Source, checkpoint: Checkpoint) -> dict[str, nn.Module]:
    found = {name: _read(layout, checkpoint, read) for name, read in layout.networks.items()}
    return {name: network for name, network in found.items() if network is not None}


def _read(layout: Source, checkpoint: Checkpoint, read: Any) -> nn.Module | None:
    """Reads one network; an error of a file that looks like another source's says so."""
    try:
        network: nn.Module | None = read(checkpoint)
    except FctfgError as error:
        other = None if layout.recognise(checkpoint) else identify(checkpoint)
        if other is None:
            raise
        raise FctfgError(
            f"{checkpoint.path} is not {layout.name} ({layout.title}), but looks like {other.name} ({other.title}); "
            f"use `fctfg weights import {other.name} {checkpoint.path} --out FILE.safetensors`"
        ) from error
    return None if network is None else network.eval()


def _card(path: Path, layout: Source, licence: str) -> dict[str, Any]:
    """Where the weights come from."""
    digest, known = sha256(path), entry_of_file(path)
    if known is not None and not known.fits(path, digest):
        known = None  # another file of that name
    licence = licence or (known.licence if known else UNKNOWN_LICENCE)
    return {
        "imported": {"source": layout.name, "file": path.name, "sha256": digest},
        "licences": {"data": [], "weights": {known.name if known else path.name: licence}},
    }


def _alone(content: Any) -> Any:
    """Tensors without the rest of a larger one that they are a part of, which would be saved with them."""
    if isinstance(content, Tensor):
        whole = content.untyped_storage().nbytes() == content.numel() * content.element_size()
        return content.detach() if whole else content.detach().clone()
    return {key: _alone(value) for key, value in content.items()} if isinstance(content, dict) else content


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """Nested tables of tensors under dotted names."""
    flat: dict[str, Tensor] = {}
    for key, value in content.items():
        if isinstance(value, Tensor):
            flat[f"{prefix}{key}"] = value.detach().cpu().clone().contiguous()
        else:
            flat |= _flat(value, f"{prefix}{key}.")
    return flat
