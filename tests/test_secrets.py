"""No key, token or password gets into what a run writes or says."""

import gzip
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import faces_data
from trained_runs import arguments

SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "hf_SecretSecretSecretSecretSecretSecr",
    "HUGGING_FACE_HUB_TOKEN": "hf_OtherOtherOtherOtherOtherOtherOthe",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdzEXAMPLESESSIONTOKEN",
    "GITHUB_TOKEN": "ghp_SecretSecretSecretSecretSecretSecret",
    "OPENAI_API_KEY": "sk-SecretSecretSecretSecretSecret",
    "SLURM_JWT": "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.c2VjcmV0",
    "MYSQL_PASSWORD": "correct-horse-battery-staple",
}
REMOTE = "ghp_InTheRemoteInTheRemoteInTheRemote"


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and of what is compressed in it."""
    content = path.read_bytes()
    yield content
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    for unpack in (gzip.decompress, zlib.decompress):
        with suppress(OSError, EOFError, zlib.error):
            yield unpack(content)


def test_what_a_run_writes_and_says_holds_no_secret(tmp_path: Path) -> None:
    """Tracked offline, in a git repository whose remote has a token in its address, and with an error at the end."""
    code = tmp_path / "code"
    (tmp_path / "data").mkdir()
    code.mkdir()
    place = faces_data.make(tmp_path / "data"), tmp_path / "runs"
    for line in (["init", "-q"], ["remote", "add", "origin", f"https://user:{REMOTE}@example.org/project.git"]):
        subprocess.run(["git", *line], cwd=code, check=True)
    environment = {**os.environ, **SECRETS, "WANDB_MODE": "offline", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "fctfg", *arguments(place, "sync_expert")]
    done = subprocess.run(command, cwd=code, env=environment, capture_output=True, timeout=200)
    assert done.returncode == 0, done.stderr
    wrong = [*command, "--data.root=/nowhere", "--run=other"]
    failed = subprocess.run(wrong, cwd=code, env=environment, capture_output=True, timeout=200)
    assert failed.returncode == 1
    files = [path for path in place[1].rglob("*") if path.is_file()]
    assert {".ckpt", ".csv", ".yaml", ".json", ".safetensors", ".wandb", ".log"} <= {path.suffix for path in files}
    said = (done.stdout, done.stderr, failed.stdout, failed.stderr)
    places = {str(path): list(contents(path)) for path in files} | {"the output": list(said)}
    assert sum(len(found) for found in places.values()) > 2 * len(files)  # checkpoints were looked into
    for name, secret in [*SECRETS.items(), ("the remote", REMOTE)]:
        found = [where for where, parts in places.items() if any(secret.encode() in part for part in parts)]
        assert not found, f"{name} is in {found}"
