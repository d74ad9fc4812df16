"""A program that tracks with W&B while its server or its service fails; prints what came of it as JSON.

`python wandb_in_trouble.py FOLDER`
"""

import gzip
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fctfg.stages.wandb_log import Mode, WandbLog, end_service
from fctfg.troubles import Troubles

PATIENCE = 2.0
BUCKET = {
    "id": "x",
    "name": "id",
    "displayName": "run",
    "config": "{}",
    "historyLineCount": 0,
    "project": {"id": "p", "name": "project", "entity": {"id": "e", "name": "e"}},
}
ANSWER = {
    "viewer": {"id": "u", "entity": "e", "username": "u", "flags": "{}", "teams": {"edges": []}},
    "serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None, "features": []},
    "model": {"bucket": None, "id": "p"},
    "upsertBucket": {"bucket": BUCKET, "inserted": True},
}
silent = threading.Event()
asked = []


class Server(BaseHTTPRequestHandler):
    """Answers as W&B does at the start of a run, until it falls silent."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        query = json.loads(body)["query"] if self.path == "/graphql" else ""
        if silent.is_set() or "createRunFiles" in query:
            time.sleep(1000)
        asked.append(self.path)
        content = json.dumps({"data": ANSWER} if query else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def services() -> list[int]:
    """Processes that this one has started."""
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def track(folder: Path, mode: Mode, middle: Callable[[WandbLog], None] = lambda log: None) -> dict[str, Any]:
    folder.mkdir()
    troubles = Troubles()
    log = WandbLog(folder, "project", "run", "id", mode, troubles, PATIENCE)
    log.start({"setting": 1})
    longest = 0.0
    for number in range(200):
        begin = time.monotonic()
        log.log_metrics({"x": float(number)}, number)
        longest = max(longest, time.monotonic() - begin)
        time.sleep(0.005)
        if number == 100:
            middle(log)
    begin = time.monotonic()
    log.finish()
    end_service()  # the next one has another server
    return {
        "longest": longest,
        "finish": time.monotonic() - begin,
        "troubles": troubles.counts,
        "records": {path.parent.name.split("-")[0]: path.stat().st_size for path in folder.glob("wandb/*/*.wandb")},
    }


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.01)


def lost_network(log: WandbLog) -> None:
    wait_until(lambda: any("file_stream" in path for path in asked))
    silent.set()


def killed_service(log: WandbLog) -> None:
    wait_until(lambda: log._calls.empty() and bool(services()))
    for pid in services():
        os.kill(pid, signal.SIGKILL)


def lost_file(log: WandbLog) -> None:
    log.log_files({"samples/x": Path("/nowhere/x.png")}, 3)


def main(folder: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}"}
    results = {"later": track(folder / "later", "online", lost_network)}
    results["silent"] = track(folder / "silent", "online")
    os.environ["WANDB_BASE_URL"] = "http://127.0.0.1:9"
    results["refused"] = track(folder / "refused", "online")
    results["killed"] = track(folder / "killed", "online", killed_service)
    results["file"] = track(folder / "file", "offline", lost_file)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))  # as a disk that is full by then
    results["full"] = track(folder / "full", "offline")
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
