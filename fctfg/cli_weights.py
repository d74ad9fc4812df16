"""`fctfg weights`: published weights in and out, the catalogue of them, and what lies in the folders."""

from __future__ import annotations

import argparse
import dataclasses
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
    listed.add_argument("name", nargs="?", help="everything about one file of the catalogue; none: all, in short")
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
    given.add_argument(
        "--out", type=Path, required=True, help="file to write (.pt; stylegan2-nvlabs also .safetensors)"
    )
    given.set_defaults(run=_export)

    checked = own.add_parser("verify", help="read weights files completely and check them", **style)
    checked.add_argument(
        "files", type=Path, nargs="*", help="files, runs or folders; none: checkpoints/ and FCTFG_WEIGHTS"
    )
    checked.set_defaults(run=_verify)


def _list(options: argparse.Namespace) -> None:
    from fctfg.weights.catalogue import entry
    from fctfg.weights.sources import SOURCES

    if options.name is not None:
        for field, value in dataclasses.asdict(entry(options.name)).items():
            print(f"{field + ':':<12}{'unknown' if value is None else value}")
        print(f"{'here:':<12}{_place(entry(options.name)) or 'no'}")
        return
    print(f"{'NAME':<27}{'SIZE, MB':>8}  {'COMMERCIAL':<11}FILE")
    for each in catalogue().values():
        size = "" if each.size is None else f"{each.size / 1e6:,.{1 if each.size > 1e5 else 3}f}"
        print(f"{each.name:<27}{size:>8}  {'yes' if each.commercial else 'no':<11}{_place(each) or each.file}")
    print(
        "\nfctfg weights list NAME shows its licence, address, hash and citation; fctfg weights fetch NAME brings it.\n"
    )
    print(f"{'SOURCE':<24}{'':<8}WHAT IT IS")
    for source in SOURCES.values():
        print(f"{source.name:<24}{'in, out' if source.write else 'in':<8}{source.title}")
    print("\nfctfg weights import SOURCE FILE --out OUT.safetensors; fctfg weights export RUN SOURCE --out FILE")


def _place(entry: Entry) -> Path | None:
    """Where an entry's file lies, or None."""
    return next((folder / entry.file for folder in folders() if (folder / entry.file).is_file()), None)


def _fetch(options: argparse.Namespace) -> None:
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from fctfg.weights.catalogue import entry
    from fctfg.weights.fetch import fetch

    with Progress(
        "{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    ) as bar:
        task = bar.add_task(entry(options.name).file, total=None, visible=False)
        path = fetch(
            options.name,
            options.to,
            mirror=options.mirror,
            file=options.file,
            progress=lambda done, total: bar.update(task, completed=done, total=total, visible=True),
            say=bar.console.print,
        )
        bar.update(task, visible=False)
    known = entry(options.name)
    print(f"{path}: {known.licence}; commercial use: {'yes' if known.commercial else 'no'}")


def _import(options: argparse.Namespace) -> None:
    from fctfg.weights.opening import open_weights
    from fctfg.weights.published import import_weights

    logging.basicConfig(format="%(message)s")
    networks = import_weights(options.file, options.source, options.out, options.licence)
    _say_networks(options.out, networks)
    (licence,) = open_weights(str(options.out), "what was written").card["licences"]["weights"].values()
    print(f"  licence: {licence}{'' if options.licence else '; --licence says another one'}")


def _export(options: argparse.Namespace) -> None:
    from fctfg.weights.published import export_weights

    names = export_weights(options.weights, options.source, options.out)
    print(f"{options.out}: {', '.join(names)} as {options.source}")


def _verify(options: argparse.Namespace) -> None:
    inside = {path for folder in options.files or folders() for path in _weights_in(folder)}
    named = {path for path in options.files if not path.is_dir() or (path / "export").is_dir()}
    files = sorted(inside | named)
    if not files:
        places = ", ".join(map(str, options.files or folders()))
        raise FctfgError(f"no weights in {places}; name files, or get some with `fctfg weights fetch NAME`")
    failed = []
    for path in files:
        try:
            found = _verified(path)
            if found is None and path in named:
                raise FctfgError(f"{path} has no layout that fctfg knows; `fctfg weights list` names them")
            print(f"ok      {path}: {found}" if found else f"left    {path}: no layout that fctfg knows")
        except FctfgError as error:
            failed.append(path)
            print(f"FAILED  {path}: {str(error).removeprefix(f'{path} ')}")
    if failed:
        raise FctfgError(f"{len(failed)} of {len(files)} files failed; see above what to do")


def _verified(path: Path) -> str | None:
    """Reads a file completely; returns a line on what it holds, or None for a layout that is not known.

    Raises:
        FctfgError: it is not what it should be.
    """
    from fctfg.weights.artifact import fits
    from fctfg.weights.card import check_card
    from fctfg.weights.fetch import check_file
    from fctfg.weights.licences import from_card
    from fctfg.weights.opening import is_ours, open_weights
    from fctfg.weights.published import identify_file

    known, hashed = entry_of_file(path), ""
    if known is not None and path.is_file():
        check_file(path, known)
        hashed = "" if known.sha256 is None else "; size and hash as published"
        if known.source == "lpips":  # heads are nothing without their trunk, which may be elsewhere
            return f"{known.title}{hashed}; licences: {known.licence}"
    elif path.is_file() and not is_ours(path) and identify_file(path) is None:
        return None
    artifact = open_weights(str(path), "the file to verify")
    check_card(artifact.path, artifact.sha256)
    networks = [f"{name} {fits(artifact, name) / 1e6:.2f} M" for name in artifact.configs]
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
