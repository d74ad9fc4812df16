"""`fctfg train --dry-run` and `--fit`."""

import re
from pathlib import Path

import pytest
from trained_runs import Place, arguments

from fctfg.cli import main
from fctfg.errors import FctfgError
from fctfg.host_memory import available_memory, peak_resident
from fctfg.stages.dry_run import Trial, phases
from fctfg.stages.fitting import dry_run_memory, largest_batch, predicted_batch

pytestmark = pytest.mark.usefixtures("untracked")


@pytest.mark.parametrize("periods", [{}, {"r1": 16}, {"r1": 16, "path_length": 4}, {"r1": 6, "path_length": 4}])
def test_phases_are_those_of_a_long_run(periods: dict[str, int]) -> None:
    found = phases(periods)
    length = 4800  # a multiple of all cycles
    terms = [tuple(name for name, every in periods.items() if k % every == 0) for k in range(length)]
    assert {phase.terms: phase.share for phase in found} == {t: terms.count(t) / length for t in set(terms)}
    for phase in found:
        assert {name: phase.iteration % every == 0 for name, every in periods.items()} == {
            name: name in phase.terms for name in periods
        }
    assert found == sorted(found, key=lambda phase: -phase.share)


def test_amortised_time() -> None:
    seconds = {phase: 1.0 + len(phase.terms) for phase in phases({"r1": 16, "path_length": 4})}
    trial = Trial(seconds, validation=0.0, memory=0, checkpoint=0, images=1)
    assert trial.amortised == pytest.approx(1 + 1 / 16 + 1 / 4)


def everything(folder: Path) -> set[tuple[Path, int]]:
    return {(path, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.parametrize("stage", ["sync_expert", "generator", "talking_face"])
def test_a_dry_run_tells_what_a_run_needs_and_leaves_nothing(
    place: Place, stage: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = everything(place[1])
    spelled = "--dry-run" if stage == "generator" else "--dry_run=true"
    assert main(arguments(place, stage, f"{stage}_dry", spelled)) == 0
    assert everything(place[1]) == before and not list(tmp_path.iterdir())
    told = capsys.readouterr().out
    (size,) = re.findall(r"a checkpoint: (\S+) MB", told)
    written = (place[1] / stage / "checkpoints" / "last.ckpt").stat().st_size / 1e6
    assert float(size) == pytest.approx(written, rel=0.05, abs=0.06)
    assert "the run: 8 iterations, about 0:" in told
    (memory,) = re.findall(r"memory of the process, at most: (\S+) GB", told)
    assert 0.2 < float(memory) <= peak_resident() / 1e9 + 0.01
    rows = dict(re.findall(r"│ (plain|with [\w ]+?|amortised) +│ +(?:[\d.]+% +)?│ +(\d+) │", told))
    lazy = {
        "sync_expert": {"plain"},
        "generator": {"plain", "with path_length", "with r1 and path_length"},
        "talking_face": {"plain", "with r1"},
    }
    assert rows.keys() == lazy[stage] | {"amortised"}
    assert all(int(ms) > 0 for ms in rows.values())
    counts = re.findall(r"│ (\S[\w. ]*?) +│ +([\d.]+)? +│ +([\d.]+)? *│", told)
    *networks, (name, trained, frozen) = [row for row in counts if row[0] not in rows]
    assert name == "all"
    for column, total in ((1, trained), (2, frozen)):
        assert sum(float(row[column] or 0) for row in networks) == pytest.approx(float(total or 0), abs=0.01)
    if stage == "talking_face":
        names = {row[0] for row in networks}
        assert {"network.generator", "average of generator", "discriminator", "sync_expert", "vgg"} <= names


def test_the_largest_batch_is_found_wherever_the_limit_lies() -> None:
    for most in (1, 7, 64):
        for limit in range(most + 3):
            tried: list[int] = []

            def fits(size: int, limit: int = limit, tried: list[int] = tried) -> bool:
                tried.append(size)
                return size <= limit

            assert largest_batch(fits, most) == min(limit, most)
            assert max(tried) <= most and max(tried) <= max(1, 2 * limit)  # never far beyond what fits


def test_prediction_is_exact_where_memory_grows_in_a_line() -> None:
    for base, slope in ((500, 30), (0, 1)):
        peaks = {size: base + slope * size for size in (2, 4)}
        for available in (base - 1, base, base + slope, base + 10 * slope, base + 11 * slope - 1):
            expected = max((n for n in range(51) if base + slope * n <= available), default=0)
            assert predicted_batch(peaks, available, 50) == expected
    assert predicted_batch({2: 100, 4: 100}, 200, 50) == 50  # the batch does not matter
    assert predicted_batch({2: 100, 4: 100}, 50, 50) == 0


def test_the_limit_of_a_control_group_counts(tmp_path: Path) -> None:
    whole = available_memory(tmp_path)  # without files: the machine's
    assert whole > 1e8
    for name, text in (("memory.current", "5000\n"), ("memory.stat", "anon 1\ninactive_file 2000\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) == pytest.approx(whole, rel=0.5)
    (tmp_path / "memory.max").write_text("10000\n")
    assert available_memory(tmp_path) == 7000


@pytest.mark.slow
def test_fit_on_a_cpu(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(place[1])
    assert main(arguments(place, "generator", "fitted", "--fit", "--data.num_workers=1")) == 0
    assert "largest batch that fits is 8 (as many as there are clips)" in capsys.readouterr().out
    assert everything(place[1]) == before
    with pytest.raises(FctfgError, match=r"a batch of 3 cannot be tried: .*nonsense"):
        dry_run_memory(["--nonsense=1"], 3)
