"""Which cases an evaluation has, its tables, what is said of figures, and `fctfg compare`."""

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fctfg.atomic import write_json
from fctfg.cli import main
from fctfg.data.manifest import Clip, Manifest, table_of
from fctfg.errors import FctfgError
from fctfg.evaluation.cases import drives, pairs
from fctfg.evaluation.figures import FIGURES, PAPER, PUBLISHED, figure
from fctfg.evaluation.judges import Judges
from fctfg.evaluation.measure import Measurement
from fctfg.evaluation.run import Done
from fctfg.evaluation.summary import Row, Whole, as_json, intervals, spread_over, write_csv
from fctfg.evaluation.whole import whole_figures
from fctfg.scatter import heat_map, scatter_chart, told_apart

DOCS = Path(__file__).parents[1] / "docs" / "evaluation.md"


def manifest(*people: str) -> Manifest:
    clips = [
        Clip(f"{person}_{number}", person, "test", n_frames=50 + number, sha256=f"{person}{number}")
        for number, person in enumerate(people)
    ]
    return Manifest(Path("data"), table_of([clip.row() for clip in clips]))


# --------------------------------------------------------------------------------------------------------------- cases


def test_reconstruction_takes_everything_from_one_clip() -> None:
    cases = drives(manifest("a", "b", "b"), "test", "reconstruction")
    assert [case.name for case in cases] == ["a_0", "b_1", "b_2"]
    assert all(case.source == case.driver == case.sound for case in cases)
    assert all(case.other is not None and case.other.identity != case.person for case in cases)


def test_cross_driving_takes_three_people() -> None:
    cases = drives(manifest("a", "b", "c", "a", "b", "c"), "test", "cross")
    assert all(len({case.source.identity, case.driver.identity, case.sound.identity}) == 3 for case in cases)
    assert len({case.name for case in cases}) == 6
    assert all(case.frames == min(case.driver.n_frames, case.sound.n_frames) for case in cases)
    assert all(
        case.other is not None and case.other.identity not in (case.driver.identity, case.sound.identity)
        for case in drives(manifest("a", "b", "c", "d"), "test", "cross")
    )
    two = drives(manifest("a", "b"), "test", "cross")
    assert all(case.driver == case.sound and case.driver.identity != case.source.identity for case in two)
    with pytest.raises(FctfgError, match="second person"):
        drives(manifest("a", "a"), "test", "cross")


def test_a_limit_is_spread_over_the_split() -> None:
    people = [f"p{number:02}" for number in range(10)]
    assert [case.person for case in drives(manifest(*people), "test", "reconstruction", 5)] == people[::2]
    assert len(drives(manifest(*people), "test", "reconstruction", 99)) == 10
    with pytest.raises(FctfgError, match="no clip in the split 'val'"):
        drives(manifest("a"), "val", "reconstruction")


def test_two_videos_of_one_name_are_no_pair(tmp_path: Path) -> None:
    for name in ("made/a.mp4", "real/a.mp4", "real/a.mov", "real/b.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(FctfgError, match="one name"):
        pairs(tmp_path / "made", tmp_path / "real")
    (tmp_path / "real/a.mov").unlink()
    found, lacking = pairs(tmp_path / "made", tmp_path / "real")
    assert [case.name for case in found] == ["a"] and lacking == ["b"]


# -------------------------------------------------------------------------------------------------------------- tables


def defined() -> set[str]:
    """The figures in the first column of the table of definitions, with what stands in brackets cut off."""
    lines = DOCS.read_text().split("| figure | unit | good |")[1].splitlines()[2:]
    cells = [line.split("|")[1] for line in itertools.takewhile(lambda line: line.startswith("| "), lines)]
    return {re.sub(r"\[.*?\]", "", name).strip() for cell in cells for name in re.split(r",(?![^\[]*\])", cell)}


def test_every_figure_is_defined() -> None:
    assert defined() == {re.sub(r" after \d+", " after N", name) for name in FIGURES}
    assert figure("CSIM[dlib]") == FIGURES["CSIM"] and set(PAPER) <= set(FIGURES)
    assert all(len(values) == len(PAPER) for methods in PUBLISHED.values() for values in methods.values())


def test_a_table_counts_what_was_measured(tmp_path: Path) -> None:
    rows = [
        Row("a", "p", {"PSNR": 20.0, "CSIM[dlib]": math.nan}),
        Row("b", "q", {"PSNR": 22.0, "CSIM[dlib]": 0.5}, notes=("half as long", "no sound")),
        Row("c", "r", {}, failure="no frames"),
    ]
    found = intervals(rows)
    assert found["PSNR"].mean == 21 and found["PSNR"].n == 2 and found["CSIM[dlib]"].n == 1
    content = json.loads(json.dumps(as_json(rows, found, {"FID[x]": Whole(1.0, 2)}, {})))
    assert content["figures"]["PSNR"]["unit"] == "dB" and content["clips"][2]["failure"] == "no frames"
    assert content["whole"]["FID[x]"] == {"value": 1.0, "clips": 2, "unit": ""} and content["failed"] == 1
    write_csv(tmp_path / "clips.csv", rows)
    assert (tmp_path / "clips.csv").read_text().splitlines() == [
        "clip,person,failure,notes,PSNR,CSIM[dlib]",
        "a,p,,,20.0,",
        "b,q,,half as long; no sound,22.0,0.5",
        "c,r,no frames,,,",
    ]


def test_figures_of_the_whole_are_those_of_all_clips() -> None:
    """People whose results are swapped are taken for each other; canonical images that look one way do not vary."""
    vectors = np.eye(4, dtype=np.float32)
    done = []
    for number, person in enumerate("ab"):
        embeddings = {"source": vectors[number : number + 1], "made": vectors[1 - number : 2 - number].repeat(2, 0)}
        embeddings |= {"portrait pose": np.array([[10.0 * number, 0, 0]]), "canonical pose": np.array([[3.0, 1, 0]])}
        done.append(Done(Row(person, person, {}), Measurement(embeddings=embeddings)))
    figures = whole_figures(done, Judges())
    assert figures["verification AUC[dlib]"] == (0, 2) and figures["verification EER[dlib]"] == (1, 2)
    assert figures["canonical pose variance"] == (0, 2)
    del done[0].measured.embeddings["canonical pose"]  # type: ignore[union-attr]
    assert "canonical pose variance" not in whole_figures(done, Judges())


def test_canonical_poses_are_compared_with_those_of_the_same_clips() -> None:
    """Canonical images that keep the pose, but show no face where it is turned: that is no virtue."""
    done = []
    for yaw in (-25.0, -1.0, 1.0, 25.0):
        pose = np.array([[yaw, 0, 0]])
        poses = {"portrait pose": pose, "canonical pose": pose if abs(yaw) < 5 else pose[:0]}
        done.append(Done(Row(f"{yaw}", f"{yaw}", {}), Measurement(embeddings=poses)))
    assert whole_figures(done, Judges())["canonical pose variance"] == (1.0, 2)


def test_intervals_are_over_people_where_there_are_enough() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(size=(6, 4)) + 3 * draw.normal(size=(6, 1))  # clips of one person are alike
    rows = [Row(f"{i}", f"p{i // 4}", {"PSNR": value}) for i, value in enumerate(values.ravel())]
    alone = [Row(row.name, row.name, row.figures) for row in rows]
    wide, narrow = (intervals(each)["PSNR"] for each in (rows, alone))
    assert wide.mean == narrow.mean and wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    pair = [Row(row.name, f"p{int(row.name) % 2}", row.figures) for row in rows]
    assert intervals(pair) == intervals(alone)
    said = {
        "the 6 people of 24": rows,
        "over 24 clips": alone,
        "24 clips of these 2 people": pair,
        "no intervals": rows[:4],
    }
    for words, each in said.items():
        assert words in spread_over([row.person for row in each])


# ---------------------------------------------------------------------------------------------------------- comparison


def evaluation(folder: Path, values: np.ndarray, reference: str = "", **made_with: Any) -> Path:
    folder.mkdir()
    rows = [Row(f"c{number}", f"p{number}", {"PSNR": float(value)}, reference) for number, value in enumerate(values)]
    whole = {"FID[x]": Whole(float(len(values)), len(values))}
    write_json(folder / "results.json", as_json(rows, intervals(rows), whole, {"definitions": 1, **made_with}))
    return folder


def test_compare_is_wilcoxons_test_over_the_same_clips(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    first = draw.normal(20, 3, 30)
    other = first[:25] + draw.normal(0.5, 0.5, 25)  # five clips are missing
    for name, values in (("a", first), ("b", other)):
        evaluation(tmp_path / name, values)
    out = tmp_path / "compared.json"
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), f"--json={out}"]) == 0
    written = json.loads(out.read_text())[str(tmp_path / "b")]
    assert written["FID[x]"] == {"first": 30, "other": 25, "difference": -5}
    found = written["PSNR"]
    assert found["clips"] == 25 and found["difference"] == pytest.approx((other - first[:25]).mean())
    assert found["p"] == pytest.approx(stats.wilcoxon(other, first[:25]).pvalue)
    assert found["low"] < found["difference"] < found["high"]
    assert found["other"] - found["first"] == pytest.approx(found["difference"])  # of the same clips


def test_several_evaluations_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is surely better, one that is probably worse on few clips, and the same once more."""
    draw = np.random.default_rng(0)
    first = draw.normal(20, 3, 30)
    few = np.array([1.0, 1.5, 0.8, 1.2, 1.1])
    values = {"first": first, "better": first + 1 + draw.normal(0, 0.1, 30), "worse": first[:5] - few, "same": first}
    values["blind"] = np.where(np.arange(30) < 20, first + 1, math.nan)  # better where it can be measured
    for name, each in values.items():
        evaluation(tmp_path / name, each)
    assert main(["compare", *(str(tmp_path / name) for name in values)]) == 0
    line = [line for line in capsys.readouterr().out.splitlines() if "PSNR" in line][-1]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    means = [f"{np.nanmean(each):.2f}" for each in values.values()]
    assert cells == ["PSNR", "up", means[0], f"{means[1]}**", f"{means[2]}*", means[3], f"{means[4]}?"]


def test_what_was_measured_otherwise_is_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two, sync = np.array([1.0, 2.0]), {"sync": "by itself"}
    settings = {"a": {"size": 64}, "b": {"size": 256}, "trained on": {"size": 64, "judge_hashes": {"sync": "f00"}}}
    for name, setting in settings.items():
        evaluation(tmp_path / name, two, judges=sync, **setting)
    evaluation(tmp_path / "other videos", two, judges=sync, size=64, reference="f00")
    for name in ("none", "damaged", "cut"):
        (tmp_path / name).mkdir()
    (tmp_path / "damaged" / "results.json").write_text("{")
    (tmp_path / "cut" / "results.json").write_text('{"clips": []}')
    refused = {
        "b": "size: 64 / 256",
        "trained on": "sync: by itself / by itself (f00)",
        "other videos": "the real videos of 2 clips are not the same (c0, c1)",
        "none": "holds no evaluation",
        "damaged": "is damaged",
        "cut": "is damaged",
    }
    for other, words in refused.items():
        assert main(["compare", str(tmp_path / "a"), str(tmp_path / other)]) == 1
        assert words in " ".join(capsys.readouterr().err.split())
    assert main(["compare", str(tmp_path / "a")]) == 2


# ------------------------------------------------------------------------------------------------------------ drawings


def test_drawings_show_what_is_finite() -> None:
    chart = scatter_chart([(1.0, 2.0, "a<b"), (math.nan, 1.0, "c"), (3.0, 4.0, "d")], "PSNR", "LMD")
    assert chart.count("<circle") == 2 and "a&lt;b: PSNR 1, LMD 2" in chart
    assert heat_map(np.ones((2, 2)), ["r", "s"], ["c", "d"], 1.0, 1.0).count("<rect") == 4
    assert "no value" in scatter_chart([(math.inf, 1.0, "a")], "x", "y")
    drawn = heat_map(np.array([[1.0, -1.0], [math.nan, 0.0]]), ["r", "s"], ["c", "a long name of a clip"])
    assert drawn.count("<rect") == 3 and 'fill-opacity="1.000"' in drawn and 'fill-opacity="0.500"' in drawn
    assert "r, c: 1.000" in drawn
    assert told_apart(["test-p1-c0-000", "test-p1-c1-000"]) == ["c0", "c1"] and told_apart(["a", "a"]) == ["a", "a"]
    with pytest.raises(ValueError, match="names"):
        heat_map(np.zeros((2, 2)), ["a"], ["b", "c"])
