"""Runs that end at a chosen moment as if killed: nothing of the project runs after it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from trained_runs import Place, checkpoint, equal

from fctfg.cli import main
from fctfg.stages.base import Stage
from fctfg.weights.artifact import load_artifact

MOMENTS = ("on_train_batch_start", "on_train_batch_end", "on_validation_start", "on_validation_batch_end") + (
    "on_validation_end",
    "on_train_epoch_end",
)
"""Called by Lightning after the callbacks; together they fall into every part of a run."""


class KilledError(BaseException):
    """Ends a run as SIGKILL does, as far as its folder can tell."""


@contextmanager
def killed_at(moment: int) -> Iterator[list[str]]:
    """Within, the run ends at the moment of this number; yields the moments that have come."""
    come: list[str] = []

    with pytest.MonkeyPatch.context() as patch:
        for name in MOMENTS:
            before = getattr(Stage, name)

            def strike(self: Stage, *rest: object, name: str = name, before: object = before) -> object:
                come.append(name)
                if len(come) > moment:
                    raise KilledError
                return before(self, *rest)  # type: ignore[operator]

            patch.setattr(Stage, name, strike)
        yield come


def run_until(command: list[str], moment: int) -> bool:
    """Whether the run has come to its end before that moment."""
    with killed_at(moment):
        try:
            assert main(command) == 0
        except KilledError:
            return False
    return True


def assert_same_run(place: Place, straight: str, cut: str) -> None:
    """Both runs end in the same checkpoint (all of it), log, and export."""
    one, other = checkpoint(place, straight), checkpoint(place, cut)
    for part in one.keys() | other.keys():
        assert equal(one[part], other[part]), f"{part} of {cut}: {difference(one[part], other[part])}"
    logs = [(place[1] / run / "metrics.csv").read_text() for run in (straight, cut)]
    assert logs[0] == logs[1], f"metrics.csv of {cut}"
    a, b = (load_artifact(place[1] / run) for run in (straight, cut))
    assert equal(a.state_dicts, b.state_dicts) and a.card["metrics"] == b.card["metrics"], f"export of {cut}"
    assert a.card["iterations"] == b.card["iterations"]
    pictures = [sorted(path.name for path in (place[1] / run / "samples").iterdir()) for run in (straight, cut)]
    assert pictures[0] == pictures[1]


def difference(one: object, other: object, at: str = "") -> str:
    """Where two nested values first differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            if key not in one or key not in other:
                return f"{at}.{key} is missing"
            if not equal(one[key], other[key]):
                return difference(one[key], other[key], f"{at}.{key}")
    return f"{at}: {one} != {other}"
