"""``fctfg prepare``: a folder of raw videos to a clip data set."""

import math
import shutil
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fctfg.atomic import remove_leftovers
from fctfg.data.claims import DEAD, PACKING, RENEW, Claims
from fctfg.data.ledger import FOLDER, Journal, KeptClip, Ledger, Outcome
from fctfg.data.manifest import FILE_NAME, read_manifest
from fctfg.data.pack import LOOSE, pack
from fctfg.data.prepare.people import finish
from fctfg.data.prepare.settings import Settings
from fctfg.data.prepare.settings_file import SETTINGS, check_settings
from fctfg.data.prepare.source_work import Build
from fctfg.data.prepare.sources import Source, find_sources
from fctfg.data.prepare.summary import Summary, summary_of
from fctfg.data.prepare.workers import Engine, Inline, Processes
from fctfg.data.query import Query
from fctfg.data.remove import Removed, read_removed
from fctfg.data.scores.sync_choice import OpenExpert, SyncChoice, chance_of, open_sync_expert, people
from fctfg.data.shards import FOLDER as SHARDS
from fctfg.data.status import note_pending
from fctfg.data.views import RECOMMENDED, recommended_query, save_view
from fctfg.errors import FctfgError, UsageError

_LOOK_AGAIN = 5.0  # s between two looks at what the other processes have done


def prepare(
    source: str | Path,
    out: str | Path,
    size: int = 256,
    splits: tuple[float, float, float] = (0.9, 0.05, 0.05),
    workers: int = 0,
    detector: str = "dlib",
    detector_weights: str | Path | None = None,
    licence: str = "",
    consent: str = "",
    min_frames: int = 64,
    max_frames: int = 1024,
    detect_every: int = 5,
    layout: str = "folder",
    form: str = "jpeg",
    correct_offset: bool = False,
    sync_expert: str | Path | None = None,
    shard: tuple[int, int] = (1, 1),
    engine: str = "local",
    patience: float = 120.0,
    progress: bool = True,
) -> Summary:
    """Cut raw videos into face clips at 25 fps and 16 kHz, with a manifest of scores.

    The folder's layout says who is who: see `fctfg.data.prepare.layouts`. Videos and clips that cannot be used get a
    reason, and the rest go on. The same input gives the same bytes, whatever the number of workers, machines and
    interruptions: what was done is in a ledger, and the same call goes on where the last one stopped. Videos that are
    new or changed are taken up; clips of videos that are gone stay (`fctfg data remove` takes them out).

    Any number of processes on any number of machines may work on one data set: each takes videos that nobody else has,
    and the last one packs the clips.

    Args:
        source: A video, or a folder of videos.
        out: The data set's folder.
        size: Side of the square clips in pixels.
        splits: Shares of identities for train, val and test, where the layout does not say the split.
        workers: Processes; 0 works in this one, without protection against videos that crash or hang it.
        detector: ``dlib``, ``dlib-cnn`` or ``insightface``.
        detector_weights: Folder of insightface's weights; None: ``checkpoints/insightface``.
        licence, consent: Stored in every row; see `fctfg.data.prepare.rights` for what the folder may say.
        min_frames, max_frames: Shortest and longest clip; longer tracks give several.
        detect_every: Frames from one face detection to the next.
        layout: How the corpus names its files.
        form: How frames are stored, ``jpeg`` or ``raw``.
        correct_offset: Move the sound of clips by the offset that the sync expert finds, where it is sure.
        sync_expert: What takes the scores of sync: a run folder of stage 0, a weights file, or a name of the catalogue;
            None: the expert in the package. The unit of its confidence is measured, see
            `fctfg.data.scores.sync_choice`.
        shard: (i, N) from 1: this is the i-th of N processes, which begin at different places of the list.
        engine: ``local`` processes, or ``ray``: actors of a Ray cluster.
        patience: Seconds without a new frame after which a video is given up.
        progress: Show a progress bar and the summary.

    Returns:
        What was kept and rejected, and why.

    Raises:
        UsageError: A setting is out of range.
        FctfgError: `source` is missing or empty, nothing could be kept, `out` was made with other settings or cannot
            be written, or the sync expert cannot be used.
    """
    source, out = Path(source), Path(out)
    settings = Settings(
        size=size,
        min_frames=min_frames,
        max_frames=max_frames,
        detect_every=detect_every,
        detector=detector,
        layout=layout,
        form=form,
        correct_offset=correct_offset,
        val=splits[1],
        test=splits[2],
    )
    if abs(sum(splits) - 1) > 1e-6:
        raise UsageError(f"the shares of train, val and test must sum to 1, not {splits}")
    if patience <= 0:
        raise UsageError(f"--patience must be above 0 s, not {patience:g}")
    if workers < 0:
        raise UsageError(f"--workers must be 0 or more, not {workers}")
    if engine not in ("local", "ray"):
        raise UsageError(f"--engine must be local or ray, not {engine!r}")
    if not 1 <= shard[0] <= shard[1]:
        raise UsageError(f"--shard must be i/N with i from 1 to N, not {shard[0]}/{shard[1]}")
    expert = None if sync_expert is None else open_sync_expert(sync_expert)
    if expert is not None:
        settings = replace(settings, sync_expert=expert.sha256)
    found = find_sources(source, out, layout, licence, consent)
    with _begun(out, settings):
        found = _without(found, read_removed(out))
        choice = None if expert is None else _choice(expert, progress)
        weights = Path("checkpoints/insightface") if detector_weights is None else Path(detector_weights)
        build = Build(settings, weights.absolute(), out.absolute(), choice)
        with Claims(out / FOLDER / "claims") as claims, _bar("prepare", "videos", len(found), progress) as show:
            ledger, journal = Ledger(out / FOLDER), Journal(out / FOLDER, claims.writer)
            work = _Work(found, ledger, claims, journal, shard, show, partial(note_pending, out))
            with closing(_engine(engine, build, min(workers, len(found)), patience)) as crew:
                work.run(crew)
            summary = _pack(source, out, settings, work, claims, progress)
    if progress:
        summary.show()
    return summary


def _choice(expert: OpenExpert, progress: bool) -> SyncChoice:
    with _bar("sync expert", "clips", len(people()), progress) as show:
        return SyncChoice(expert.weights, expert.sha256, chance_of(expert.network, show))


def _engine(name: str, build: Build, workers: int, patience: float) -> Engine:
    if name == "ray":
        from fctfg.data.prepare.ray_engine import RayActors

        return RayActors(build, max(1, workers), patience, on_gpu=build.settings.detector == "insightface")
    return Processes(build, workers, patience) if workers else Inline(build)


@contextmanager
def _begun(out: Path, settings: Settings) -> Iterator[None]:
    """Check the settings; after an error, leave nothing of a data set without clips, what has some can be continued."""
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    check_settings(out, settings)
    try:
        yield
    except FctfgError:
        has_clips = any(outcome.clips for outcome in Ledger(out / FOLDER).outcomes.values())
        others = any((out / FOLDER).glob("claims/*.alive"))
        if not (out / FILE_NAME).exists() and not has_clips and not others:
            for name in (FOLDER, LOOSE, SHARDS):
                shutil.rmtree(out / name, ignore_errors=True)
            with suppress(OSError):
                (out / SETTINGS).unlink()
            for folder in new:
                with suppress(OSError):  # it holds something
                    folder.rmdir()
        raise


def _without(found: list[Source], removed: Removed) -> list[Source]:
    """The videos, those of people who were taken out marked as unusable."""
    why = "removed: this person was taken out of the data set"
    return [
        replace(source, problem=why) if source.labelled and source.identity in removed.people else source
        for source in found
    ]


class _Work:
    """The videos of a run, and what became of them."""

    def __init__(
        self,
        sources: list[Source],
        ledger: Ledger,
        claims: Claims,
        journal: Journal,
        shard: tuple[int, int],
        show: Callable[[int], None],
        note: Callable[[int, int, int], None],
    ) -> None:
        self.sources = {source.name: source for source in sources}
        self.ledger, self._claims, self._journal, self._show, self._note = ledger, claims, journal, show, note
        first = len(sources) * (shard[0] - 1) // shard[1]
        self._order = sources[first:] + sources[:first]
        self._alone = shard[1] == 1
        self._read = self._cost = 0.0  # when the ledger was read last, and how long that took
        # what failed before this run is tried again, but only once
        self._failed = {name: o.time for name, o in ledger.outcomes.items() if o.state == "failed"}
        self._tried: set[str] = set()  # in this run; a file that changes all the time must not keep it going
        self.reused = sum(self._done(source) for source in sources)

    def _done(self, source: Source) -> bool:
        outcome = self.ledger.outcomes.get(source.name)
        if outcome is None or self._failed.get(source.name) == outcome.time:
            return False
        if source.name in self._tried:
            return True
        if source.problem or outcome.stage == "source":
            return outcome.reason == source.problem
        try:
            return outcome.unchanged(*source.state())
        except OSError:
            return True  # it is gone; what is known of it stays

    def pending(self) -> list[Source]:
        """Videos that nobody has finished."""
        self._refresh(math.inf)
        left = [source for source in self._order if not self._done(source)]
        self._show(len(self._order) - len(left))
        self._note(len(self._order), len(left), self.ledger.entries)
        return left

    def _refresh(self, share: float = 0.05) -> None:
        """Read the ledger again, as often as takes no more than a share of the time; there may be many journals."""
        begun = time.monotonic()
        if (begun - self._read) * share >= self._cost:
            self.ledger.refresh()
            self._read = time.monotonic()
            self._cost = self._read - begun

    def run(self, engine: Engine) -> None:
        """Work until there is nothing left.

        One of several processes ends earlier, when the others have had all that is left in hand for so long that
        they must be alive.
        """
        busy = time.monotonic()
        while left := self.pending():
            if self._round(engine, left):
                busy = time.monotonic()
            elif not self._alone and time.monotonic() - busy > DEAD + RENEW and self._claims.others():
                return
            else:
                time.sleep(_LOOK_AGAIN)

    def _round(self, engine: Engine, left: list[Source]) -> int:
        """Go through the list once; how many videos were worked on."""
        taken = running = 0
        done = len(self._order) - len(left)
        waiting = iter(left)
        source = next(waiting, None)
        while source is not None or running:
            while source is not None and engine.room():
                if self._claims.take(source.name):
                    self._refresh()
                    if self._done(source):
                        self._claims.release(source.name)
                    else:
                        known = self.ledger.outcomes.get(source.name)
                        done_before = known is not None and known.state != "failed"
                        engine.submit(source, known.sha256 if known is not None and done_before else "")
                        taken, running = taken + 1, running + 1
                source = next(waiting, None)
            for worked, outcome in engine.wait(1.0) if running or source is not None else ():
                known = self.ledger.outcomes.get(worked.name)
                if known is not None:  # the latest word, also where this machine's clock is behind
                    outcome = replace(outcome, time=max(outcome.time, known.time + 1e-3))
                self._journal.append(outcome)
                self._tried.add(worked.name)
                self._claims.release(worked.name)
                running -= 1
                done += 1
                self._show(done)
        return taken


def _pack(source: Path, out: Path, settings: Settings, work: _Work, claims: Claims, progress: bool) -> Summary:
    """Shards and manifest, when nothing is left to do and nobody else does it."""
    if pending := len(work.pending()):
        return Summary(out, len(work.sources), work.reused, {}, 0, 0, 0, (), pending)
    waited = False
    while not claims.take(PACKING):
        waited = True
        time.sleep(_LOOK_AGAIN)
    outcomes = work.ledger.outcomes
    removed = read_removed(out)
    clips = [*_unknown(out, outcomes), *(clip for outcome in outcomes.values() for clip in outcome.clips)]
    clips = [clip for clip in clips if clip.id not in removed.clips]
    recommended = Query(recommended_query(settings.size))
    if waited and (table := _packed(out, clips)) is not None:  # what another process has done meanwhile
        claims.release(PACKING)
        return summary_of(out, len(work.sources), work.reused, table, recommended)
    if not clips:
        claims.release(PACKING)
        raise FctfgError(_nothing(source, work))
    if not claims.others():
        remove_leftovers(out)
    with _bar("pack", "clips", len(clips), progress) as show:
        rejects = _rejects(work.ledger, removed)
        table = pack(out, clips, rejects, settings.header(), partial(_finish, settings, work), advance=show)
    if not claims.others():
        shutil.rmtree(out / LOOSE, ignore_errors=True)
    save_view(out, RECOMMENDED, recommended)
    claims.release(PACKING)
    return summary_of(out, len(work.sources), work.reused, table, recommended)


def _packed(out: Path, clips: list[KeptClip]) -> pa.Table | None:
    """The manifest's table, if it holds just these clips."""
    if not (out / FILE_NAME).is_file():
        return None
    table = read_manifest(out, check_files=False).table
    kept = table.filter(pc.is_null(table["reject_reason"])).select(["id", "sha256"]).to_pylist()
    return table if {(row["id"], row["sha256"]) for row in kept} == {(clip.id, clip.sha256) for clip in clips} else None


def _unknown(out: Path, outcomes: Mapping[str, Outcome]) -> list[KeptClip]:
    """Clips that the data set has of videos that the ledger does not know, because it was lost; they stay."""
    if not (out / FILE_NAME).is_file():
        return []
    columns = ["id", "sha256", "bytes", "n_frames"]
    manifest = read_manifest(out, [*columns, "source", "reject_reason"], check_files=False).kept()
    sources = manifest.column("source")
    rows = manifest.table.select(columns).to_pylist()
    return [KeptClip(**row) for row, source in zip(rows, sources, strict=True) if source not in outcomes]


def _finish(settings: Settings, work: _Work, table: pa.Table) -> pa.Table:
    return finish(table, settings, work.sources)


def _rejects(ledger: Ledger, removed: Removed) -> Iterator[dict[str, Any]]:
    for outcome in ledger.complete():
        for row in outcome.rejects:
            if row["id"] not in removed.clips:
                yield {**row, "thumbnail": b64decode(row["thumbnail"]) or None}


@contextmanager
def _bar(what: str, unit: str, total: int, show: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar; what it yields is called with how many are done."""
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def _nothing(source: Path, work: _Work) -> str:
    outcomes = sorted(work.ledger.outcomes.values(), key=lambda outcome: outcome.source)
    first = outcomes[0]
    if len(outcomes) == 1:
        return f"nothing in {source} can be used ({first.reason}); give another video"
    kinds = Counter(outcome.reason.partition(":")[0] for outcome in outcomes)
    listed = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())
    return (
        f"none of the {len(outcomes)} videos in {source} can be used: {listed}; "
        f"the first is {first.source}: {first.reason}"
    )
