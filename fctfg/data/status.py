"""What became of every raw video of a data set, at any time, also while it is being prepared."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fctfg.atomic import atomic_path
from fctfg.data.claims import living, server_time
from fctfg.data.ledger import FOLDER, Ledger, Outcome
from fctfg.data.manifest import lost_name
from fctfg.data.remove import read_removed
from fctfg.errors import FctfgError
from fctfg.media import FPS

NOTED = "pending.txt"  # in the ledger: what `note_pending` keeps


@dataclass(frozen=True)
class Status:
    """Counts over the ledger.

    Attributes:
        found: Videos that the last run has found.
        states: How many are ``done``, ``rejected`` and ``failed``, also of videos that are gone, and how many of those
            found are ``pending`` (new, changed, or failed in an earlier run).
        reasons: How many were rejected or failed, by (stage, kind of reason); clips and whole videos together.
        clips: Finished clips.
        hours: Of finished clips.
        worked_hours: Of videos that were looked at.
        seconds: Work in all, over all processes.
        processes: That are alive now.
        per_second: Videos that are finished a second, over the last ten minutes; 0 when nobody works.
        lost: What was rejected or failed: (name, stage, reason).
    """

    found: int
    states: Counter[str]
    reasons: Counter[tuple[str, str]]
    clips: int
    hours: float
    worked_hours: float
    seconds: float
    processes: int
    per_second: float
    lost: list[tuple[str, str, str]] = field(repr=False)

    @property
    def seconds_left(self) -> float | None:
        """Until all videos are worked on; None when nobody works."""
        return self.states["pending"] / self.per_second if self.per_second else None


def read_status(root: Path) -> Status:
    """Count what the ledger says.

    Raises:
        FctfgError: there is no ledger.
    """
    folder = root / FOLDER
    if not folder.is_dir():
        raise FctfgError(f"{root} is no data set that `fctfg prepare` has begun (no {FOLDER}/); check the path")
    ledger, removed = Ledger(folder), read_removed(root).clips
    outcomes = [
        replace(outcome, clips=tuple(clip for clip in outcome.clips if clip.id not in removed))
        for outcome in ledger.outcomes.values()
    ]
    states = Counter[str](outcome.state for outcome in outcomes)
    found, left, entries = _noted(folder) or (len(outcomes), 0, ledger.entries)
    states["pending"] = max(0, left - (ledger.entries - entries))
    reasons: Counter[tuple[str, str]] = Counter()
    lost = []
    for outcome in ledger.complete():
        for row in outcome.rejects:
            reasons[row["stage"], row["reject_reason"].partition(":")[0]] += 1
            lost.append((lost_name(row), row["stage"], row["reject_reason"]))
    now = time.time()
    recent = [outcome for outcome in outcomes if now - outcome.time < 600]
    alive = _alive(folder)
    begin = min((outcome.time - outcome.seconds for outcome in recent), default=now)
    return Status(
        found=found,
        states=states,
        reasons=reasons,
        clips=sum(len(outcome.clips) for outcome in outcomes),
        hours=sum(_clip_seconds(outcome) for outcome in outcomes) / 3600,
        worked_hours=sum(outcome.video_seconds for outcome in outcomes) / 3600,
        seconds=sum(outcome.seconds for outcome in outcomes),
        processes=alive,
        per_second=len(recent) / max(now - begin, 1) if alive else 0.0,
        lost=sorted(lost),
    )


def note_pending(root: Path, found: int, pending: int, entries: int) -> None:
    """Keep for `read_status` how many videos there are and are left, when the ledger had so many entries.

    Raises:
        FctfgError: the folder is not writable, or the disk is full.
    """
    with atomic_path(root / FOLDER / NOTED) as temporary:
        temporary.write_text(f"{found} {pending} {entries}\n")


def _noted(folder: Path) -> tuple[int, int, int] | None:
    try:
        found, pending, entries = map(int, (folder / NOTED).read_text().split())
    except FileNotFoundError:
        return None
    return found, pending, entries


def _clip_seconds(outcome: Outcome) -> float:
    return sum(clip.n_frames for clip in outcome.clips) / FPS


def _alive(folder: Path) -> int:
    """Processes with a fresh sign of life."""
    return len(living(folder / "claims", server_time(folder)))


def show_status(root: Path, all_lost: bool = False) -> None:
    """Print the counts, and on request everything that was rejected or failed."""
    status = read_status(root)
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("videos", str(status.found))
    for state in ("done", "rejected", "failed", "pending"):
        table.add_row(f"  {state}", str(status.states[state]))
    table.add_row("clips kept", str(status.clips))
    table.add_row("hours kept", f"{status.hours:.3f}")
    table.add_row("hours looked at", f"{status.worked_hours:.3f}")
    if status.worked_hours:
        table.add_row("work per hour of video", f"{status.seconds / 3600 / status.worked_hours:.2f} core h")
    table.add_row("clips and videos not used", str(sum(status.reasons.values())))
    for (stage, kind), count in status.reasons.most_common():
        table.add_row(f"  {stage}: {kind}", str(count))
    table.add_row("processes at work", str(status.processes))
    if status.seconds_left is not None:
        table.add_row("videos per minute", f"{60 * status.per_second:.1f}")
        table.add_row("time left", f"{status.seconds_left / 3600:.2f} h")
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    for name, stage, reason in status.lost if all_lost else ():
        console.print(f"{name}: {stage}: {reason}")
