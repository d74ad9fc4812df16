"""``fctfg prepare``: a folder of raw videos to a clip data set."""

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from fctfg.atomic import atomic_path, make_folder
from fctfg.data.manifest import FILE_NAME, Clip, Manifest, read_manifest, write_manifest
from fctfg.data.prepare.settings import Settings
from fctfg.data.prepare.sources import Rights, Source, find_sources, read_rights
from fctfg.data.prepare.splits import assign_splits, check_shares
from fctfg.data.prepare.video import blank_row, cut_clips, file_hash
from fctfg.errors import FctfgError, UsageError
from fctfg.faces.detector import FaceDetector

_STAGING = ".preparing"
_SHOWN = 20  # rejected clips printed by name


@dataclass(frozen=True)
class Summary:
    """What `prepare` did.

    Attributes:
        root: The data set.
        videos: Raw videos found.
        reused: Of them, those whose clips were there already.
        kept: Clips per split.
        frames: Frames of the kept clips.
        identities: People in the kept clips.
        rejected: Rejected clips and videos: (id, reason).
    """

    root: Path
    videos: int
    reused: int
    kept: Mapping[str, int]
    frames: int
    identities: int
    rejected: tuple[tuple[str, str], ...] = field(repr=False)

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
        table.add_row("  of them reused", str(self.reused))
        table.add_row("clips kept", str(sum(self.kept.values())))
        for split, count in self.kept.items():
            table.add_row(f"  {split}", str(count))
        table.add_row("frames", str(self.frames))
        table.add_row("identities", str(self.identities))
        table.add_row("clips rejected", str(len(self.rejected)))
        for kind, count in self.reasons.most_common():
            table.add_row(f"  {kind}", str(count))
        return table


def prepare(
    source: str | Path,
    out: str | Path,
    size: int = 256,
    splits: tuple[float, float, float] = (0.9, 0.05, 0.05),
    workers: int = 1,
    detector: str = "dlib",
    detector_weights: str | Path | None = None,
    licence: str = "",
    consent: str = "",
    min_frames: int = 64,
    max_frames: int = 1024,
    detect_every: int = 5,
    progress: bool = True,
) -> Summary:
    """Cut raw videos into face clips at 25 fps and 16 kHz, with a manifest.

    The folder's layout says who is who: see `find_sources`. Videos and clips that cannot be used become rows with a
    reason, and the rest go on. The same input gives the same bytes, whatever the number of workers. A second run
    reuses the clips of unchanged videos when the settings are equal. The data set appears, or changes, only at the end:
    until then everything is written to a hidden folder inside `out`, which is removed when something fails.

    Args:
        source: A video, or a folder of videos.
        out: The data set's folder.
        size: Side of the square clips in pixels.
        splits: Shares of identities for train, val and test, where the folders do not say the split.
        workers: Processes.
        detector: ``dlib``, ``dlib-cnn`` or ``insightface``.
        detector_weights: Folder of insightface's weights.
        licence, consent: Stored in every row; where empty, taken from ``provenance.json`` in `source`.
        min_frames, max_frames: Shortest and longest clip; longer tracks give several.
        detect_every: Frames from one face detection to the next.
        progress: Show a progress bar and the summary.

    Returns:
        What was kept and rejected, and why.

    Raises:
        UsageError: A setting is out of range.
        FctfgError: `source` is missing or empty, nothing could be kept, or `out` cannot be written.
    """
    source, out = Path(source), Path(out)
    settings = Settings(
        size=size, min_frames=min_frames, max_frames=max_frames, detect_every=detect_every, detector=detector
    )
    check_shares(splits)
    if workers < 1:
        raise UsageError(f"--workers must be 1 or more, not {workers}")
    videos = find_sources(source, skip=out)
    rights = read_rights(source, licence, consent)
    weights = None if detector_weights is None else Path(detector_weights)
    before = _earlier(out, settings)

    with _staging(out) as staging, _bar(len(videos), progress) as advance:
        rows: list[Clip] = []
        job = _Job(settings, rights, weights, staging, before)
        reused = 0
        for clips, old in _run(job, videos, workers):
            rows += clips
            reused += old
            advance()
        rows = _with_splits(rows, videos, splits)
        summary = _summary(out, videos, rows, reused)
        if not sum(summary.kept.values()):
            raise FctfgError(_nothing(source, summary))
        _publish(out, staging, rows, settings, before)
    if progress:
        _show(summary)
    return summary


def _earlier(out: Path, settings: Settings) -> Manifest | None:
    """The data set that is in `out` already, if its clips can be reused or must be cleared away."""
    if not (out / FILE_NAME).is_file():
        return None
    try:
        return read_manifest(out, check_files=False)
    except FctfgError:
        return None  # not ours or of an older version; it is replaced at the end


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A hidden folder inside `out`, removed at the end; `out` too if it was new and nothing came into it."""
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    make_folder(out)
    staging = out / _STAGING
    try:
        shutil.rmtree(staging, ignore_errors=True)  # of a run that was killed
        make_folder(staging / "clips")
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for folder in (out / "clips", *new):
            with suppress(OSError):  # it holds something
                folder.rmdir()


@contextmanager
def _bar(total: int, show: bool) -> Iterator[Callable[[], None]]:
    columns = (
        TextColumn("prepare"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("videos"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show, transient=True) as bar:
        task = bar.add_task("videos", total=total)
        yield lambda: bar.advance(task)


@dataclass(frozen=True)
class _Job:
    """What a worker needs for any video."""

    settings: Settings
    rights: Rights
    weights: Path | None
    staging: Path
    before: Manifest | None

    def earlier_rows(self) -> dict[str, list[Clip]]:
        """Rows of the data set that is there already, by video, where its settings are these."""
        if self.before is None or dict(self.before.settings) != self.settings.header():
            return {}
        rows: dict[str, list[Clip]] = {}
        for clip in self.before:
            rows.setdefault(clip.source, []).append(clip)
        return rows


class _Worker:
    """Handles one video after the other in one process; the detector is loaded with the first that needs it."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._earlier = job.earlier_rows()
        self._detector: FaceDetector | None = None

    def __call__(self, source: Source) -> tuple[list[Clip], bool]:
        """(rows, whether they were reused) of one video."""
        job = self._job
        try:
            digest = file_hash(source.path)
        except OSError as error:
            reason = f"unreadable: {error.strerror}"
            return [blank_row(source, "", job.settings, job.rights, reason)], False
        old = self._earlier.get(source.name, [])
        if old and all(self._usable(clip, source, digest) for clip in old):
            rights = vars(job.rights)
            return [replace(clip, split=source.split or "train", **rights) for clip in old], True
        if self._detector is None:
            self._detector = job.settings.build_detector(job.weights)
        return cut_clips(source, digest, job.settings, job.rights, self._detector, job.staging), False

    def _usable(self, clip: Clip, source: Source, digest: str) -> bool:
        if clip.source_sha256 != digest or not clip.id.startswith(source.id):
            return False
        if clip.reject_reason is not None:
            return True
        root = self._job.staging.parent
        paths = root / clip.path, root / clip.audio
        return all(path.is_file() for path in paths) and file_hash(*paths) == clip.sha256


_worker: _Worker | None = None  # of a pool's process


def _start(job: _Job) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the pool's processes without their tracebacks
    _worker = _Worker(job)


def _work(source: Source) -> tuple[list[Clip], bool]:
    assert _worker is not None
    return _worker(source)


def _run(job: _Job, videos: list[Source], workers: int) -> Iterator[tuple[list[Clip], bool]]:
    """Results in the order in which they are ready."""
    if workers == 1 or len(videos) == 1:
        yield from map(_Worker(job), videos)
        return
    # spawn: forked processes would inherit the threads' locks of PyAV, torch and OpenMP
    pool = ProcessPoolExecutor(min(workers, len(videos)), get_context("spawn"), _start, (job,))
    try:
        for future in as_completed([pool.submit(_work, video) for video in videos]):
            yield future.result()
    except BrokenProcessPool as error:
        raise FctfgError(
            "a worker process died (out of memory, or a video crashed the decoder); run again with --workers 1"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _with_splits(rows: list[Clip], videos: list[Source], shares: tuple[float, float, float]) -> list[Clip]:
    """Fill in the splits that the folders do not say; somebody's second face goes where the first one is."""
    person = {video.name: video for video in videos}
    if any(video.split for video in videos):
        shares = (1.0, 0.0, 0.0)  # videos beside train/, val/ and test/ are for training
    kept = {person[row.source].identity for row in rows if row.reject_reason is None}
    chosen = assign_splits(kept, shares)
    return [
        row if person[row.source].split else replace(row, split=chosen.get(person[row.source].identity, "train"))
        for row in rows
    ]


def _summary(out: Path, videos: list[Source], rows: list[Clip], reused: int) -> Summary:
    kept = [row for row in rows if row.reject_reason is None]
    count = Counter(row.split for row in kept)
    return Summary(
        root=out,
        videos=len(videos),
        reused=reused,
        kept={split: count[split] for split in ("train", "val", "test")},
        frames=sum(row.n_frames for row in kept),
        identities=len({row.identity for row in kept}),
        rejected=tuple(sorted((row.id, row.reject_reason) for row in rows if row.reject_reason is not None)),
    )


def _show(summary: Summary) -> None:
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{summary.root}:")
    console.print(summary.table())
    for name, reason in summary.rejected[:_SHOWN]:
        console.print(f"rejected {name}: {reason}")
    if len(summary.rejected) > _SHOWN:
        console.print(f"and {len(summary.rejected) - _SHOWN} more, see reject_reason in {summary.root / FILE_NAME}")


def _nothing(source: Path, summary: Summary) -> str:
    if summary.videos == 1 and len(summary.rejected) == 1:
        return f"nothing in {source} can be used ({summary.rejected[0][1]}); give another video"
    kinds = ", ".join(f"{kind} ({count})" for kind, count in summary.reasons.most_common())
    name, reason = summary.rejected[0]
    return f"none of the {summary.videos} videos in {source} can be used: {kinds}; the first is {name}: {reason}"


def _publish(out: Path, staging: Path, rows: list[Clip], settings: Settings, before: Manifest | None) -> None:
    """Move the new clips to their places, replace the manifest, and clear away clips that it no longer names.

    When a step fails, the clips that were there before are put back.
    """
    draft = write_manifest(staging, rows, settings.header())
    make_folder(out / "clips")
    make_folder(staging / "old")
    moved: list[Path] = []
    try:
        with atomic_path(out / FILE_NAME) as temporary:
            for path in sorted((staging / "clips").iterdir()):
                place = out / "clips" / path.name
                if place.exists():
                    os.replace(place, staging / "old" / path.name)
                moved.append(place)
                os.replace(path, place)
            os.replace(draft, temporary)
    except BaseException:
        for place in moved:
            place.unlink(missing_ok=True)
            if (staging / "old" / place.name).exists():
                (staging / "old" / place.name).rename(place)
        raise
    named = {name for row in rows if row.reject_reason is None for name in (row.path, row.audio)}
    old = set() if before is None else {*before.kept().column("path"), *before.kept().column("audio")}
    for name in old - named:
        (out / name).unlink(missing_ok=True)
