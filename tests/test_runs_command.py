"""`fctfg runs`: what each run does and how it goes on."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from trained_runs import Place

from fctfg.cli import main
from fctfg.run_state import RunState, lock_holder, read_state, write_state
from fctfg.runs import ago, find_runs, read_run

HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); input()"
)


def told(run: Path, **changes: Any) -> RunState:
    """A run's file, as of a run that trains."""
    usual: dict[str, Any] = {
        "stage": "generator",
        "state": "running",
        "iterations": 250,
        "total": 1000,
        "updated": time.time() - 90,
        "host": socket.gethostname(),
        "process": 4321,
        "folder": os.getcwd(),
        "command": ["fctfg", "train", "--run", f"{run.name} with a space"],
        "metrics": {"val/psnr": 21.5, "val/sync": None},
    }
    run.mkdir(parents=True)
    (run / ".lock").touch()
    write_state(run, RunState(**usual | changes))
    return RunState(**usual | changes)


def listed(root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["runs", str(root)]) == 0
    return capsys.readouterr().out


def test_states(tmp_path: Path) -> None:
    for state in ("complete", "stopped", "failed", "crashed"):
        told(tmp_path / state, state=state)
        assert read_run(tmp_path / state).state == state
    told(tmp_path / "killed")
    assert read_run(tmp_path / "killed").state == "killed"
    told(tmp_path / "elsewhere", host="another")
    assert read_run(tmp_path / "elsewhere").state == "running"
    for name, hours in (("gone", -1), ("gone_before_the_clock_was_set_back", 1)):
        told(tmp_path / name, host="another", updated=time.time() + 3600 * hours)
        assert read_run(tmp_path / name).state == "killed"


def test_the_lock_tells_who_trains_and_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "r"
    told(run, state="stopped", seconds_left=7300.0)
    assert lock_holder(run) is None
    holder = subprocess.Popen([sys.executable, "-c", HOLD, run / ".lock"], stdin=-1, stdout=-1, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert lock_holder(run) == holder.pid
        shown = " ".join(listed(tmp_path, capsys).split())
        assert "running" in shown and socket.gethostname() in shown and "4321" in shown
        assert "250 of 1000 (25%), 2 h left" in shown and "goes on with" not in shown
    finally:
        holder.communicate("\n", timeout=30)
    assert read_run(run).state == "stopped"
    assert lock_holder(tmp_path / "missing") is None


def test_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    told(tmp_path / "done", state="complete", iterations=1000)
    told(tmp_path / "group" / "broken", state="crashed", reason="crash-20260101-000000.txt")
    told(tmp_path / "full", state="failed", reason="[the] disk is full")
    told(tmp_path / "done" / "export")  # inside of a run nothing is looked for
    (tmp_path / "old" / "checkpoints").mkdir(parents=True)
    (tmp_path / "old" / "config.yaml").touch()
    shown = listed(tmp_path, capsys)
    lines = shown.splitlines()
    assert "export" not in shown
    (done,) = (line for line in lines if "│ done" in line)
    assert "complete" in done and "1000 of 1000 (100%)" in done and "psnr 21.5, sync not finite" in done
    assert "1 min ago" in done
    assert any("│ old" in line and "unknown" in line for line in lines)
    assert "group/broken crashed: crash-20260101-000000.txt" in lines
    assert "group/broken goes on with: fctfg train --run 'broken with a space'" in lines
    assert "full failed: [the] disk is full" in lines
    assert not any(line.startswith("done") for line in lines)
    monkeypatch.chdir(tmp_path)
    assert "goes on with: cd /" in listed(tmp_path, capsys)


def test_a_real_run_and_its_command(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    said = read_state(place[1] / "talking_face")
    assert said is not None and (said.state, said.iterations, said.total) == ("complete", 8, 8)
    assert said.command[:2] == ["fctfg", "train"] and "--run=talking_face" in said.command
    assert (said.process, said.host) == (os.getpid(), socket.gethostname())
    assert set(said.metrics) >= {"val/psnr", "val/sync"} and said.images_per_second
    assert "talking_face" in listed(place[1] / "talking_face", capsys)  # a run itself


def test_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (("torn", '{"stage": "gen'), ("other", "[]"), ("partial", '{"stage": "generator"}')):
        told(tmp_path / name)
        (tmp_path / name / "run.json").write_text(content)
        assert read_run(tmp_path / name).state == "unknown"
    assert len(list(find_runs(tmp_path))) == 3
    assert main(["runs", str(tmp_path / "nowhere")]) == 1
    assert "nowhere is not a folder; name the folder of runs" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["runs", str(tmp_path / "empty")]) == 1
    assert "there is no run below" in capsys.readouterr().err


def test_hundreds_of_runs_are_listed_in_a_moment_and_without_torch(tmp_path: Path) -> None:
    for number in range(300):
        told(tmp_path / f"r{number:03d}", state="stopped")
        for part in ("wandb/a/b", "checkpoints", "samples"):
            (tmp_path / f"r{number:03d}" / part).mkdir(parents=True)
    program = (
        "import sys, time, json\nfrom fctfg.cli import main\nbegin = time.process_time()\n"
        f"status = main(['runs', {str(tmp_path)!r}])\nspent = time.process_time() - begin\n"
        "print(json.dumps([status, spent, 'torch' in sys.modules, 'yaml' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    status, spent, *heavy = json.loads(done.stdout.splitlines()[-1])
    assert (status, heavy) == (0, [False, False])
    assert spent < 2
    assert done.stdout.count("goes on with") == 300


def test_how_long_ago() -> None:
    given = (-5, 0, 59, 60, 3599, 3600, 47 * 3600, 48 * 3600, 1e6)
    assert [ago(s) for s in given] == ["0 s", "0 s", "59 s", "1 min", "59 min", "1 h", "47 h", "2 d", "11 d"]
