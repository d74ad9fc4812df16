"""`fctfg weights`: published weights in and out, the catalogue of them, and what lies in the folders."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fctfg.errors import FctfgError
from fctfg.weights.catalogue import FOLDER, Entry, catalogue, entry_of_file, folders


def add_weights(commands: Any, style: dict[str, Any]) -> None:
    """Adds the command and its own commands.

    Args:
        commands: what `add_subparsers` of the parser above returned.
        style: options of every parser.
    """
    weights = commands.add_parser("weights", help="published weights in and out; the catalogue of them", **style)
    own = weights.add_subparsers(dest="weights_command", required=True, metavar="COMMAND")

    listed = own.add_parser("list", help="the catalogue, and the layouts that can be read and written", **style)
    listed.set_defaults(run=_list)

    fetched = own.add_parser("fetch", help="download a file of the catalogue and check it", **style)
    fetched.add_argument("name", help="as `fctfg weights list` shows it")
    fetched.add_argument("--to", type=Path, default=FOLDER, help="folder that it goes to")
    fetched.add_argument("--mirror", help="address of a folder that has the file under its own name")
    fetched.add_argument("--file", type=Path, help="the file, downloaded before; nothing is downloaded then")
    fetched.set_defaults(run=_fetch)

    taken = own.add_parser("import", help="a published file to a weights file of fctfg", **style)
    taken.add_argument("source", help="its layout, as `fctfg weights list` shows them")
    taken.add_argument("file", type=Path, help="the published file")
    taken.add_argument("--out", type=Path, required=True, help=".safetensors file to write")
    taken.add_argument("--licence", default="", help="of the weights; none: what the catalogue says of this file name")
    taken.set_defaults(run=_import)

    given = own.add_parser("export", help="networks of fctfg to a published layout", **style)
    given.add_argument("weights", type=Path, help="a weights file of fctfg, or a run folder")
    given.add_argument("source", help="the layout, as `fctfg weights list` shows them")
    given.add_argument("--out", type=Path, required=True, help="file to write (.pt; StyleGAN2 also .safetensors)")
    given.set_defaults(run=_export)

    checked = own.add_parser("verify", help="read weights files completely and check them", **style)
    checked.add_argument(
        "files", type=Path, nargs="*", help="files or runs; none: all of checkpoints/ and FCTFG_WEIGHTS"
    )
    checked.set_defaults(run=_verify)


def _list(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from fctfg.weights.sources import SOURCES

    table = Table(
        "name", "source", "size, MB", "commercial use", "file", title="Published files (fctfg weights fetch NAME)"
    )
    for entry in catalogue().values():
        here = next((folder / entry.file for folder in folders() if (folder / entry.file).is_file()), None)
        size = (
            "" if entry.size is None else f"{entry.size / 1e6:,.1f}" if entry.size > 1e5 else f"{entry.size / 1e6:.3f}"
        )
        table.add_row(entry.name, entry.source, size, "yes" if entry.commercial else "no", str(here or entry.file))
    layouts = Table("source", "in", "out", "what it is", title="Layouts (fctfg weights import SOURCE FILE --out OUT)")
    for source in SOURCES.values():
        layouts.add_row(source.name, "yes", "yes" if source.write else "no", source.title)
    console = Console()
    console.print(table, layouts)
    console.print("Licences and citations: docs/weights.md; `fctfg weights fetch` writes them beside each file.")


def _fetch(options: argparse.Namespace) -> None:
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from fctfg.weights.catalogue import entry
    from fctfg.weights.fetch import fetch

    with Progress(
        "{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    ) as bar:
        task = bar.add_task(entry(options.name).file, total=None)
        path = fetch(
            options.name,
            options.to,
            mirror=options.mirror,
            file=options.file,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            say=bar.console.print,
        )
        bar.update(task, visible=False)
    known = entry(options.name)
    print(f"{path}: {known.licence}; commercial use: {'yes' if known.commercial else 'no'}")


def _import(options: argparse.Namespace) -> None:
    from fctfg.weights.published import import_weights

    logging.basicConfig(format="%(message)s")
    networks = import_weights(options.file, options.source, options.out, options.licence)
    _say_networks(options.out, networks)


def _export(options: argparse.Namespace) -> None:
    from fctfg.weights.published import export_weights

    names = export_weights(options.weights, options.source, options.out)
    print(f"{options.out}: {', '.join(names)} as {options.source}")


def _verify(options: argparse.Namespace) -> None:
    files = options.files or sorted({path for folder in folders() for path in _weights_in(folder)})
    if not files:
        raise FctfgError(
            f"no weights in {', '.join(map(str, folders()))}; name files, or get some with `fctfg weights fetch NAME`"
        )
    failed = []
    for path in files:
        try:
            print(f"ok      {path}: {_verified(path, entry_of_file(path))}")
        except FctfgError as error:
            failed.append(path)
            print(f"FAILED  {error}")
    if failed:
        raise FctfgError(f"{len(failed)} of {len(files)} files failed: {', '.join(map(str, failed))}")


def _verified(path: Path, known: Entry | None) -> str:
    """Reads a file completely; returns a line on what it holds.

    Raises:
        FctfgError: it is not what it should be.
    """
    from fctfg.weights.artifact import build
    from fctfg.weights.card import check_card
    from fctfg.weights.fetch import check_file
    from fctfg.weights.licences import from_card
    from fctfg.weights.opening import open_weights

    if known is not None and path.is_file():
        check_file(path, known)
    artifact = open_weights(str(path), "the file to verify")
    check_card(artifact.path, artifact.sha256)
    networks = [
        f"{name} {sum(p.numel() for p in build(artifact, name).parameters()) / 1e6:.2f} M" for name in artifact.configs
    ]
    hashed = "" if known is None or known.sha256 is None else "; size and hash as published"
    said = from_card(artifact.card.get("licences"), path.name)
    licences = [*(f"data {licence}" for licence in sorted(said.data)), *sorted(set(said.weights.values()))]
    return f"{', '.join(networks)}{hashed}; licences: {'; '.join(licences) or 'none said'}"


def _weights_in(folder: Path) -> list[Path]:
    """Files of a folder that are weights, by their names."""
    suffixes = {".safetensors", ".pt", ".pth", ".pkl", ".model", ".onnx"}
    return [path for path in folder.glob("*") if path.suffix in suffixes and path.is_file()]


def _say_networks(path: Path, networks: dict[str, Any]) -> None:
    """One line for each network, with the sizes that were read from its tensors."""
    from fctfg.weights.config_json import config_to_dict

    print(f"{path}:")
    for name, network in networks.items():
        sizes = ", ".join(f"{key} {value}" for key, value in _sizes(config_to_dict(network.config)))
        print(f"  {name}: {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters ({sizes})")


def _sizes(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The numbers of a configuration by their dotted names, in the order of its fields."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _sizes(value, f"{prefix}{key}.")
        elif not isinstance(value, str):
            yield f"{prefix}{key}", value
