"""What a run may go on as: the same run, or with changes that are said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fctfg.errors import FctfgError
from fctfg.stages import STAGES
from fctfg.stages.checkpoint_files import load
from fctfg.weights.config_json import changed_fields

HARMFUL = {"data": "data set", "view": "clips", "processes": "number of processes", "precision": "precision"}
"""Facts about the data and the machine whose change is refused unless it is accepted: the run would become another."""


@dataclass(frozen=True)
class Begun:
    """What a checkpoint says about its run.

    Attributes:
        path: the checkpoint.
        facts: of `Stage.facts`.
        iterations: that the run has done.
        epochs: that it has finished.
        within: whether it is in the middle of an epoch.
    """

    path: Path
    facts: Mapping[str, Any]
    iterations: int
    epochs: int
    within: bool


def begun(checkpoint: Path, class_path: str) -> Begun:
    """What a checkpoint says, once it is sure that it is readable and of the stage.

    Args:
        checkpoint: the file.
        class_path: of the stage that is to go on.

    Raises:
        FctfgError: it is of another stage, of an earlier version, or cannot be read.
    """
    state = load(checkpoint)
    wanted = next((stage.stage for stage in STAGES if class_path.endswith(f".{stage.__name__}")), class_path)
    facts = state.get("fctfg", {}) if isinstance(state, dict) else {}
    if facts.get("stage", "unknown") != wanted:
        raise FctfgError(
            f"{checkpoint} is of stage '{facts.get('stage', 'unknown')}', not '{wanted}'; choose another --run name"
        )
    if missing := {"networks", "judges", "data", "settings", "measured"} - facts.keys():
        raise FctfgError(
            f"{checkpoint} was written by an earlier fctfg (it lacks {', '.join(sorted(missing))}); continue "
            f"with that version, or choose another --run name"
        )
    loop = state["loops"]["fit_loop"]
    epochs, done = loop["epoch_progress"]["total"], loop["epoch_loop.batch_progress"]["total"]["completed"]
    return Begun(checkpoint, facts, done, epochs["processed"], epochs["processed"] < epochs["ready"])


def check(
    before: Begun, now: Mapping[str, Any], follows_data: bool, accepted: bool, init_from: Mapping[str, str]
) -> str:
    """Refuse to continue as something else.

    Args:
        before: of the checkpoint.
        now: facts of the stage that is to go on.
        follows_data: whether the stage may go on with other data at all.
        accepted: whether the user accepts another data set, number of processes or precision.
        init_from: where the stage's networks come from, by role.

    Returns:
        What else is not as it was, to be said; empty when nothing is.

    Raises:
        FctfgError: what is to be trained, how large, what judges it, or what it learns from is not as it was.
    """
    run, then = before.path.parents[1], before.facts
    trained, wanted = (", ".join(sorted(facts["networks"])) for facts in (then, now))
    if trained != wanted:
        raise FctfgError(
            f"{run} was begun to train {trained}, and is now to train {wanted}; give it the settings that "
            f"it was begun with, or choose another --run name"
        )
    if changes := _changes(then["networks"], now["networks"]):
        raise FctfgError(
            f"{before.path} was trained with other networks ({changes}); use the same, or another --run name"
        )
    for role in now["judges"]:
        if then["judges"].get(role) != now["judges"][role]:
            raise FctfgError(
                f"{init_from[role]} (model.init_args.init_from.{role}) is not what {run} was "
                f"begun with; restore it, or choose another --run name"
            )
    data = {name: (then["data"].get(name), value) for name, value in now["data"].items()}
    changed = [name for name, (old, new) in data.items() if old != new]
    if not follows_data and "data" in changed:
        raise FctfgError(
            f"{before.path} was trained on other data, and this stage has a class for each person of its data; "
            f"choose another --run name"
        )
    if "batches_per_epoch" in changed and before.within:
        raise FctfgError(
            f"{before.path} is within an epoch, which cannot change its length; set data.batches_per_epoch="
            f"{data['batches_per_epoch'][0]} until the epoch's end"
        )
    if "batches_per_epoch" in changed and before.iterations % now["data"]["batches_per_epoch"]:
        raise FctfgError(
            f"{run} has done {before.iterations} iterations, which are no whole epochs of "
            f"data.batches_per_epoch={now['data']['batches_per_epoch']}; choose a number that divides them"
        )
    if not accepted and (harmful := [name for name in HARMFUL if name in changed]):
        said = "; ".join(f"{HARMFUL[name]} {_short(data[name][0])} -> {_short(data[name][1])}" for name in harmful)
        raise FctfgError(
            f"{run} cannot go on exactly as it was begun ({said}); restore that, choose another --run name, or say "
            f"--accept_changes true to go on all the same"
        )
    others = [_changes(then[part], now[part]) for part in ("data", "settings")]
    if then.get("machine", now["machine"]) != now["machine"]:  # earlier checkpoints do not know theirs
        others.append(f"{then['machine']['device']} -> {now['machine']['device']}, which rounds otherwise")
    return "; ".join(filter(None, others))


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs in nested tables of plain values, such as "generator.n_mlp 2 -> 3"; empty when nothing does."""
    return "; ".join(f"{name} {a} -> {b}" for name, a, b in changed_fields(dict(before), dict(now)))


def _short(value: Any) -> str:
    """A value, and of a hash the first digits."""
    return str(value)[:12]
