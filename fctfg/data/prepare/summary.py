"""What `fctfg prepare` did, for people to read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from fctfg.data.manifest import lost_name
from fctfg.data.query import Query
from fctfg.media import FPS

_SHOWN = 20  # rejected clips printed by name


@dataclass(frozen=True)
class Summary:
    """What `prepare` did.

    Attributes:
        root: The data set.
        videos: Raw videos found.
        reused: Of them, those whose clips were there already.
        kept: Clips per split.
        recommended: How many of them the recommended view leaves.
        frames: Frames of the kept clips.
        identities: People in the kept clips.
        rejected: Rejected clips and videos: (name, reason).
        pending: Videos that other processes are still working on; the data set is packed by the last one.
    """

    root: Path
    videos: int
    reused: int
    kept: Mapping[str, int]
    recommended: int
    frames: int
    identities: int
    rejected: tuple[tuple[str, str], ...] = field(repr=False)
    pending: int = 0

    @property
    def reasons(self) -> Counter[str]:
        """How often each kind of reason occurs."""
        return Counter(reason.partition(":")[0] for _, reason in self.rejected)

    def table(self) -> Table:
        """The summary for a terminal."""
        table = Table(show_header=False)
        table.add_column()
        table.add_column(justify="right")
        table.add_row("videos", str(self.videos))
        table.add_row("  of them done before", str(self.reused))
        table.add_row("clips kept", str(sum(self.kept.values())))
        for split, count in self.kept.items():
            table.add_row(f"  {split}", str(count))
        table.add_row("  in the recommended view", str(self.recommended))
        table.add_row("hours", f"{self.frames / FPS / 3600:.3f}")
        table.add_row("identities", str(self.identities))
        table.add_row("clips rejected", str(len(self.rejected)))
        for kind, count in self.reasons.most_common():
            table.add_row(f"  {kind}", str(count))
        return table

    def show(self) -> None:
        """Print it, with the first reasons of what was rejected, to the standard error."""
        console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
        if self.pending or not self.kept:
            console.print(f"{self.root}: {self.pending} videos are left to other processes; the last one packs them")
            return
        console.print(f"{self.root}:")
        console.print(self.table())
        for name, reason in self.rejected[:_SHOWN]:
            console.print(f"rejected {name}: {reason}")
        if len(self.rejected) > _SHOWN:
            console.print(f"and {len(self.rejected) - _SHOWN} more: fctfg data status {self.root} --failed")


def summary_of(out: Path, videos: int, reused: int, table: pa.Table, recommended: Query) -> Summary:
    """Count what a manifest's table holds.

    Args:
        out: the data set.
        videos: that were found.
        reused: of them, those that were done before.
        table: rows under `fctfg.data.manifest.SCHEMA`.
        recommended: the recommended view.
    """
    kept = table.filter(pc.is_null(table["reject_reason"]))
    names = ["source", "start", "n_frames", "reject_reason"]
    lost = table.filter(pc.is_valid(table["reject_reason"])).select(names).to_pylist()
    count = Counter(kept["split"].to_pylist())
    return Summary(
        root=out,
        videos=videos,
        reused=reused,
        kept={split: count[split] for split in ("train", "val", "test")},
        recommended=int(recommended.mask(kept).sum()),
        frames=pc.sum(kept["n_frames"]).as_py() or 0,
        identities=len(pc.unique(kept["identity"])),
        rejected=tuple((lost_name(row), row["reject_reason"]) for row in lost),
    )
