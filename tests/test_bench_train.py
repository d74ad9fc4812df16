"""`fctfg bench train`: parts of an iteration, their work, and how a stage scales."""

import json
from pathlib import Path

import pytest

from fctfg.bench_networks import Sizes, Workload
from fctfg.bench_train import all_reduce_seconds, summary
from fctfg.cli import main
from fctfg.stages.dry_run import phases
from fctfg.stages.timing import PhaseTime

MICRO = ("--size", "32", "--channel-base", "512", "--channel-max", "16", "--threads", "1", "--rounds", "1")


def test_the_mean_iteration_is_its_parts_at_their_shares() -> None:
    order = phases({"r1": 16, "path_length": 4})
    cost = {(): 10.0, ("path_length",): 14.0, ("r1", "path_length"): 20.0}
    found = {phase: PhaseTime(cost[phase.terms], {"gradients": 9.0, "rest": 1.0}, cost[phase.terms]) for phase in order}
    result = summary(found, images=4, gradients=8, peak=2.0, float32_peak=1.0)
    mean = 10 + 4 / 4 + 6 / 16
    assert result.ms == pytest.approx(1e3 * mean)
    assert result.images_per_second == pytest.approx(4 / mean)
    assert result.gflop == pytest.approx(mean)
    assert result.share == pytest.approx((10 / 2 + (mean - 10) / 1) / mean)
    assert {part.what: part.ms for part in result.parts} == pytest.approx(
        {"gradients": 9e3, "rest": 1e3, "path_length, every 4": 4e3, "r1, every 16": 6e3}
    )
    assert sum(part.share for part in result.parts) == pytest.approx(1)


def test_gradients_go_round_a_ring() -> None:
    assert all_reduce_seconds(100.0, 1, 10.0) == 0
    assert all_reduce_seconds(100.0, 2, 10.0) == 10  # half of them there, half back
    assert all_reduce_seconds(100.0, 1000, 10.0) == pytest.approx(20, rel=2e-3)


def test_stage_1_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "train", "--stage", "1", *MICRO, "--batch", "2", "--json", str(tmp_path / "f.json")]) == 0
    found = json.loads((tmp_path / "f.json").read_text())
    parts = {part["what"]: part for part in found["parts"]}
    networks = [
        f"{what} of {network}" for network in ("discriminator", "generator") for what in ("gradients", "optimiser")
    ]
    rest = "average of the weights, and the rest"
    assert list(parts) == [*networks, rest, "path_length, every 4", "r1, every 16"]
    assert sum(part["share"] for part in parts.values()) == pytest.approx(1)
    assert found["images_per_second"] == pytest.approx(4 / found["ms"] * 1e3)
    assert all(parts[name]["ms"] > 0 for name in (*networks, rest))
    workload = Workload(Sizes(32, 4, 512, 16))
    work = workload.work()  # of four images, from the forward passes alone
    nominal = work["discriminator step"] + work["generator step"]  # whose forward pass serves both
    nominal += work["R1 step"] / 16 + work["path-length step"] / 4
    assert found["gflop"] == pytest.approx(nominal, rel=0.02)
    trained = sum(p.numel() for net in (workload.generator, workload.discriminator) for p in net.parameters())
    assert found["gradients"] == 4 * trained  # each once an iteration
    shown = capsys.readouterr().out
    assert "gradients of discriminator" in shown and "8 GPUs at 200 GB/s each: at least" in shown


def test_bad_settings(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, told in (
        (["--stage", "2"], "--stage must be 1 (generator) or 3 (talking_face), not 2"),
        (["--batch", "0"], "--batch, --rounds and --threads must be 1 or more"),
        (["--size", "48"], "--size 48: "),
    ):
        assert main(["bench", "train", *wrong]) == 2
        assert told in capsys.readouterr().err


@pytest.mark.slow
def test_stage_3_and_scaling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "f.json"
    assert main(["bench", "train", "--stage", "talking_face", *MICRO, "--batch", "1", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [part["what"] for part in found["parts"]][:3] == [
        "gradients of network",
        "optimiser of network",
        "gradients of discriminator",
    ]
    assert found["images_per_second"] == pytest.approx(5 / found["ms"] * 1e3)
    assert main(["bench", "train", *MICRO, "--scaling", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert 0.1 < found["scaling"] < 1.5
    assert "two processes, a thread each" in capsys.readouterr().out
