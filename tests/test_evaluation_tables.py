"""Which cases an evaluation has, its tables, what is said of figures, and `fctfg compare`."""

import json
import math
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
from fctfg.evaluation.summary import Row, as_json, intervals, write_csv
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


def test_every_figure_is_defined() -> None:
    text = DOCS.read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    defined = " ".join(rows)
    spoken = {"pitch error": "pitch", "roll error": "roll", "yaw error": "yaw", "mouth in speech": "in speech"}
    spoken |= {"verification EER": "EER"}
    for name in FIGURES:
        assert spoken.get(name, name.split(" after")[0]) in defined, name
    assert figure("CSIM[dlib]") == FIGURES["CSIM"] and set(PAPER) <= set(FIGURES)
    assert all(len(values) == len(PAPER) for methods in PUBLISHED.values() for values in methods.values())


def test_a_table_counts_what_was_measured(tmp_path: Path) -> None:
    rows = [
        Row("a", "p", {"PSNR": 20.0, "CSIM[dlib]": math.nan}),
        Row("b", "q", {"PSNR": 22.0, "CSIM[dlib]": 0.5}),
        Row("c", "r", {}, failure="no frames"),
    ]
    found = intervals(rows)
    assert found["PSNR"].mean == 21 and found["PSNR"].n == 2 and found["CSIM[dlib]"].n == 1
    content = json.loads(json.dumps(as_json(rows, found, {"FID[x]": 1.0}, {})))
    assert content["figures"]["PSNR"]["unit"] == "dB" and content["clips"][2]["failure"] == "no frames"
    write_csv(tmp_path / "clips.csv", rows)
    assert (tmp_path / "clips.csv").read_text().splitlines() == [
        "clip,person,failure,PSNR,CSIM[dlib]",
        "a,p,,20.0,",
        "b,q,,22.0,0.5",
        "c,r,no frames,,",
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
    assert figures["verification AUC[dlib]"] == 0 and figures["verification EER[dlib]"] == 1
    assert figures["canonical pose variance"] == 0
    del done[0].measured.embeddings["canonical pose"]  # type: ignore[union-attr]
    assert "canonical pose variance" not in whole_figures(done, Judges())


# ---------------------------------------------------------------------------------------------------------- comparison


def evaluation(folder: Path, values: np.ndarray, **made_with: Any) -> Path:
    rows = [Row(f"c{number}", f"p{number}", {"PSNR": float(value)}) for number, value in enumerate(values)]
    write_json(folder / "results.json", as_json(rows, intervals(rows), {}, {"definitions": 1, **made_with}))
    return folder


def test_compare_is_wilcoxons_test_over_the_same_clips(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    first = draw.normal(20, 3, 30)
    other = first[:25] + draw.normal(0.5, 0.5, 25)  # five clips are missing
    for name, values in (("a", first), ("b", other)):
        (tmp_path / name).mkdir()
        evaluation(tmp_path / name, values)
    out = tmp_path / "compared.json"
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), f"--json={out}"]) == 0
    found = json.loads(out.read_text())[str(tmp_path / "b")]["PSNR"]
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
    for name, each in values.items():
        (tmp_path / name).mkdir()
        evaluation(tmp_path / name, each)
    assert main(["compare", *(str(tmp_path / name) for name in values)]) == 0
    line = [line for line in capsys.readouterr().out.splitlines() if "PSNR" in line][-1]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    means = [f"{values[name].mean():.2f}" for name in values]
    assert cells == ["PSNR", "up", means[0], f"{means[1]}**", f"{means[2]}*", means[3]]


def test_what_was_measured_otherwise_is_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, size in (("a", 64), ("b", 256)):
        (tmp_path / name).mkdir()
        evaluation(tmp_path / name, np.array([1.0, 2.0]), size=size)
    (tmp_path / "trained on").mkdir()  # the same path, another file
    evaluation(tmp_path / "trained on", np.array([1.0, 2.0]), size=64, identity={"sync-expert": "other"})
    (tmp_path / "none").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "results.json").write_text("{")
    cases = ("b", "size: 64 / 256"), ("trained on", "sync-expert: None / other")
    for other, words in (*cases, ("none", "holds no evaluation"), ("damaged", "is damaged")):
        assert main(["compare", str(tmp_path / "a"), str(tmp_path / other)]) == 1
        assert words in capsys.readouterr().err
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
