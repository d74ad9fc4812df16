"""How often a run has gone back to a checkpoint, and the report when it gives up."""

from __future__ import annotations

import json
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only

from fctfg.atomic import atomic_path, write_json
from fctfg.errors import FctfgError, WriteError
from fctfg.stages.base import say
from fctfg.stages.finite import Safety

ADVICE = """\
What helps most often, in this order:

1. Look at the clips above, if the same ones return (`fctfg data show`), and take them out.
2. A smaller learning rate, or `--safety.gradient_clip 1`.
3. `--trainer.precision 32-true`, if the run uses bf16-mixed.
4. An older checkpoint, if the norms of the gradients had grown long before.

The same command goes on from the last checkpoint; `--safety.max_rollbacks` gives it more attempts.
"""


class Rollbacks:
    """The attempts of a run. `troubles/rollbacks.json` remembers them, also where a process is killed meanwhile.

    Args:
        run: the run's folder.
        saved: attempt of the checkpoint that the run continues from; None when it begins.
    """

    def __init__(self, run: Path, saved: int | None) -> None:
        self.folder = run / "troubles"
        self.reasons: list[str] = []
        if saved is not None and self._file.is_file():
            self.reasons = json.loads(self._file.read_text())
        self.attempt = max(saved or 0, len(self.reasons))

    @property
    def _file(self) -> Path:
        return self.folder / "rollbacks.json"

    def go_back(self, reason: str, checkpoint: Path | None, safety: Safety) -> None:
        """Count an attempt more, in which the data come in another order.

        Args:
            reason: what has happened.
            checkpoint: where the run goes back to; None when there is nothing yet.
            safety: says how often it may.

        Raises:
            FctfgError: there is no checkpoint, or the run has gone back often enough; a report is written.
        """
        self.reasons.append(reason)
        if checkpoint is None or self.attempt >= safety.max_rollbacks:
            back = f"has gone back {self.attempt} times" if checkpoint else "has no checkpoint to go back to"
            rank_zero_only(self._report)(back)
            raise FctfgError(
                f"the run has diverged ({reason}) and {back}; {self.folder / 'report.md'} says what was seen and "
                f"what helps"
            )
        self.attempt += 1
        try:
            rank_zero_only(write_json)(self._file, self.reasons)
        except WriteError as error:  # it is only forgotten if the process is killed before the next checkpoint
            say(f"The attempt is not written down: {error}")
        say(
            f"The run goes back to {checkpoint}, since {reason}; it goes on with its data in another order "
            f"(attempt {self.attempt} of {safety.max_rollbacks})"
        )

    def _report(self, back: str) -> None:
        files = sorted(self.folder.glob("skipped-*.json"), key=lambda path: path.stat().st_mtime)
        lines = ["# Stopped: numbers that are not finite", "", f"The run {back}.", ""]
        lines += [f"- {reason}" for reason in self.reasons]
        lines += ["", "The last skipped iterations:", ""]
        for path in files[-20:]:
            seen = json.loads(path.read_text())
            wrong = [name for name, value in seen["terms"].items() if isinstance(value, str)]
            lines.append(
                f"- iteration {seen['iteration']}, process {seen['process']}: gradients of "
                f"{', '.join(seen['not_finite'])}; terms that are not finite: {', '.join(wrong) or 'none'}; clips "
                f"{', '.join(seen['clips'])}"
            )
        with atomic_path(self.folder / "report.md") as partial:
            partial.write_text("\n".join(lines) + "\n\n" + ADVICE)
