"""The card of exported weights: what they were made from, by which code, under which licences."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import fctfg
from fctfg.errors import FctfgError

REQUIRED = ("config", "dataset_hash", "metrics", "licences")
"""Keys the caller must give: the stage's configuration, the data set's hash (None when there was none), measured
figures, and `licences = {"data": [...], "weights": {name: licence}}` of all that went in."""


def complete_card(card: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """Adds what the program itself knows to a card.

    Args:
        card: JSON-able; holds at least the keys of `REQUIRED`, further ones are kept.
        stage: name of the stage that made the weights.

    Returns:
        The card with `stage`, `created` (UTC), `git_revision` (None outside a clone), `fctfg_version`, `torch_version`.

    Raises:
        ValueError: a required key is missing, or the licences do not name both data and weights.
    """
    missing = [key for key in REQUIRED if key not in card]
    if missing:
        raise ValueError(f"the card of an export lacks {', '.join(missing)}")
    if not {"data", "weights"} <= set(card["licences"]):
        raise ValueError("the card's licences must name 'data' and 'weights'")
    return {
        **card,
        "stage": stage,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_revision": git_revision(),
        "fctfg_version": fctfg.__version__,
        "torch_version": torch.__version__,
    }


def check_card(weights: Path, digest: str) -> None:
    """Makes sure that the card beside exported weights is theirs; there need not be one.

    It is `card.json` beside a run's `weights.safetensors`, `FILE.card.json` beside what `fctfg weights export` wrote.

    Args:
        weights: the file.
        digest: its SHA-256.

    Raises:
        FctfgError: the card is damaged, or the weights are not those that it was written for.
    """
    of_run = weights.name == "weights.safetensors"
    card = weights.with_name("card.json" if of_run else f"{weights.name}.card.json")
    if not card.is_file():
        return
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
        expected = content["weights_sha256"] if of_run else content["exported"]["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise FctfgError(f"{card} is damaged ({error!r}); export again") from error
    if digest != expected:
        raise FctfgError(f"{weights} is not what {card} was written for (other SHA-256); export or copy it again")


def git_revision() -> str | None:
    """Revision of the clone this package runs from.

    Returns:
        The commit's hash, with "+changes" when tracked files differ from it; None when the package does not lie at the
        top of a git clone (an installed wheel) or there is no git.
    """
    package = Path(fctfg.__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != package.parent:
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
