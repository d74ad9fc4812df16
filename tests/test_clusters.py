"""Runs on clusters: the recipe under SLURM's commands, several nodes, and processes that die."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import faces_data
import pytest
from trained_runs import HERE, STAGES, Place, arguments, checkpoint, equal, numbers

from fctfg.weights.artifact import load_artifact

ROOT = HERE.parent
SRUN = """#!/bin/bash
# SLURM's srun of one task, which sends the signal of the time limit once: to the second stage, in its second epoch
[ "$1 $2 $3" = "--kill-on-bad-exit=0 --wait=180 fctfg" ] || exit 9
shift 3
export SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NODELIST=localhost SLURM_JOB_NAME=fctfg-train
"$PYTHON" -m fctfg "$@" & task=$!
if [[ " $* " == *" --run identity_expert "* ]] && [ ! -e "$STATE/signalled" ]; then
    until grep -qs '^5,' "$RUNS/identity_expert/metrics.csv"; do sleep 0.02; done
    touch "$STATE/signalled"
    kill -USR1 $task
fi
wait $task
"""


def command(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.slow
def test_the_recipe_goes_through_a_time_limit(place: Place, tmp_path: Path) -> None:
    """SLURM's own commands are stood in for; the script is run as SLURM runs it, and once more after the requeue."""
    tools, runs = tmp_path / "bin", tmp_path / "runs"
    tools.mkdir()
    command(tools / "srun", SRUN)
    command(tools / "scontrol", '#!/bin/bash\necho "$@" >> "$STATE/scontrol"\n')
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "STATE": str(tmp_path),
        "RUNS": str(runs),
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NTASKS_PER_NODE": "1",
        "WANDB_MODE": "disabled",
    }
    more = ["--config", "tests/micro.yaml", "--data.batch_size=2", "--data.batches_per_epoch=4"]
    line = ["bash", "scripts/train.sbatch", str(place[0]), str(runs), *more]
    first = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert first.returncode == 0, first.stderr
    assert "identity_expert is saved; job 77 goes back into the queue" in first.stdout
    assert (tmp_path / "scontrol").read_text() == "requeue 77\n"
    assert not (runs / "generator").exists()
    again = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert again.returncode == 0, again.stderr
    assert f"All stages are complete: {runs}/talking_face/export" in again.stdout
    assert (tmp_path / "scontrol").read_text() == "requeue 77\n"
    for stage in STAGES:
        assert load_artifact(runs / stage).stage == stage
        straight, cut = checkpoint(place, stage), checkpoint((place[0], runs), stage)
        assert equal(straight["state_dict"], cut["state_dict"]), stage


def test_the_script_says_how_it_is_used(tmp_path: Path) -> None:
    done = subprocess.run(["bash", ROOT / "scripts/train.sbatch", tmp_path], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "usage: sbatch" in done.stderr


@pytest.fixture
def own(tmp_path: Path) -> Place:
    (tmp_path / "data").mkdir()
    return faces_data.make(tmp_path / "data"), tmp_path / "runs"


@pytest.mark.slow
@pytest.mark.usefixtures("untracked")
def test_two_nodes_under_torchrun_are_two_processes(own: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes of one process each, which meet on the loopback, end in the bytes of one node with two."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # otherwise a node takes all cores, and sums in another order
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # the two dashes: torchrun takes --run for a short form of an option of its own
    program = ["-m", "--", "fctfg", *arguments(own, "sync_expert", "nodes", "--trainer.num_nodes=2")]
    meeting = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}"]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *meeting, f"--node-rank={node}", *program],
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in range(2)
    ]
    said = [node.communicate(timeout=200)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "epoch 1 | val/" in said[0] and "epoch" not in said[1]
    machine = [sys.executable, "-m", "fctfg", *arguments(own, "sync_expert", "machine", "--trainer.devices=2")]
    subprocess.run(machine, check=True, timeout=200)
    assert equal(checkpoint(own, "nodes")["state_dict"], checkpoint(own, "machine")["state_dict"])
    assert numbers(own, "nodes") == numbers(own, "machine")


@pytest.mark.slow
@pytest.mark.usefixtures("untracked")
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_dies_is_named_and_the_other_ends(own: Place, killed: int) -> None:
    long = ("--trainer.devices=2", "--trainer.max_epochs=1000", "--data.batches_per_epoch=20")
    first = subprocess.Popen(
        [sys.executable, "-m", "fctfg", *arguments(own, "sync_expert", "dying", *long)],
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = own[1] / "dying" / "metrics.csv"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (metrics.exists() and "\n5," in metrics.read_text()):
        time.sleep(0.05)
    (second,) = map(int, Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split())
    victim = (first.pid, second)[killed]
    begin = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    assert first.stderr is not None
    errors = first.stderr.read()  # the other one's too: it ends when both have ended
    assert time.monotonic() - begin < 60
    assert f"fctfg: error: process {killed} (" in errors and f"pid {victim}) " in errors
    assert f"the same command continues {own[1] / 'dying'}" in errors
    assert first.wait(10) == (-9 if killed == 0 else 1)
    if killed == 1:
        assert "was ended by SIGKILL" in errors


def started_by(process: int) -> int:
    """The second process of a run, by the number of its first; 0 while there is none."""
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        with suppress(OSError):  # it was another program's, and has ended
            if b"LOCAL_RANK=1" in Path(f"/proc/{child}/environ").read_bytes():
                return int(child)
    return 0


@pytest.mark.slow
@pytest.mark.usefixtures("untracked")
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_dies_before_training_takes_the_other_down(own: Place, killed: int) -> None:
    """Killed as soon as it is there, while the other one waits to meet it."""
    first = subprocess.Popen(
        [sys.executable, "-m", "fctfg", *arguments(own, "sync_expert", f"early_{killed}", "--trainer.devices=2")],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 100
    while not (second := started_by(first.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    begin = time.monotonic()
    os.kill((first.pid, second)[killed], signal.SIGKILL)
    assert first.stderr is not None
    errors = first.stderr.read()  # until both have ended
    assert time.monotonic() - begin < 40
    how = "is gone" if killed == 0 else "was ended by SIGKILL"
    assert f"fctfg: error: process {killed} {how} before training began; process {1 - killed} stops too" in errors
    assert first.wait(10) == (-9 if killed == 0 else 1)
