"""`fctfg.weights.fetch` against a server on the loopback that misbehaves in all the usual ways."""

import hashlib
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import published_files
import pytest
import torch

from fctfg.cli import main
from fctfg.errors import FctfgError, UsageError
from fctfg.weights import catalogue, fetch
from fctfg.weights.catalogue import Entry

PAGE = b"<!DOCTYPE html><html><body>Google Drive can't scan this file for viruses.</body></html>"


def archive(fill: int) -> bytes:
    """A state dict of 300 kB that looks like an IR-SE50."""
    stream = io.BytesIO()
    torch.save({"output_layer.3.weight": torch.full((75_000,), float(fill))}, stream)
    return stream.getvalue()


WHOLE = archive(7)


class Server(ThreadingHTTPServer):
    """Serves `content` under any name.

    Attributes:
        content: what it sends.
        tag: its ETag; empty: none.
        ranges: whether it understands Range.
        cuts: how many answers break off, after `cut` bytes each.
        status: an error to answer with, `failures` times.
        asked: the Range of each request, "" for none.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.kind, self.tag, self.ranges = WHOLE, "application/octet-stream", '"one"', True
        self.cuts, self.cut, self.status, self.failures, self.length = 0, 100_000, 0, 0, True
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/weights/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range", "")
        server.asked.append(wanted)
        if server.failures:
            server.failures -= 1
            self.send_error(server.status)
            return
        content, begin = server.content, 0
        same = self.headers.get("If-Range", server.tag) == server.tag
        if wanted and server.ranges and same:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[begin:]
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", server.kind)
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        if server.cuts:
            server.cuts -= 1
            body = body[: server.cut]
        self.wfile.write(body)
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def weights(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """An entry of the catalogue, alone, in an empty current folder; nothing waits."""
    entry = Entry(
        name="tiny",
        source="ir-se50",
        file="tiny.pth",
        title="A tiny file",
        url=f"{server.address}tiny.pth",
        page="https://example.org/tiny",
        size=len(WHOLE),
        sha256=hashlib.sha256(WHOLE).hexdigest(),
        licence="research only",
        commercial=False,
        citation="Nobody, Nowhere",
    )
    monkeypatch.setattr(catalogue, "_entries", lambda: (entry,))
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("FCTFG_WEIGHTS", raising=False)
    monkeypatch.chdir(tmp_path)
    return entry


def changed(monkeypatch: pytest.MonkeyPatch, entry: Entry, **fields: Any) -> Entry:
    entry = replace(entry, **fields)
    monkeypatch.setattr(catalogue, "_entries", lambda: (entry,))
    return entry


def left(folder: Path = Path("checkpoints")) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_a_file_comes_with_its_licence(server: Server, weights: Entry) -> None:
    steps: list[tuple[int, int | None]] = []
    path = fetch.fetch("tiny", progress=lambda done, total: steps.append((done, total)))
    assert path == Path("checkpoints/tiny.pth")
    assert path.read_bytes() == WHOLE
    assert steps[-1] == (len(WHOLE), len(WHOLE))
    assert left() == {"tiny.pth", "tiny.pth.licence.txt"}
    said = path.with_name("tiny.pth.licence.txt").read_text()
    for part in ("A tiny file", "https://example.org/tiny", "research only", "Commercial use: no", "Nobody, Nowhere"):
        assert part in said
    assert f"SHA-256: {weights.sha256}\nSize: {len(WHOLE)} bytes\n" in said


def test_a_file_that_is_there_is_not_downloaded(
    server: Server, weights: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    fetch.fetch("tiny", tmp_path / "there")
    monkeypatch.setenv("FCTFG_WEIGHTS", f"{tmp_path / 'nowhere'}:{tmp_path / 'there'}")
    assert fetch.fetch("tiny", say=said.append) == tmp_path / "there" / "tiny.pth"
    assert said == [f"{tmp_path / 'there' / 'tiny.pth'} is there already, and is the right file"]
    assert len(server.asked) == 1
    (tmp_path / "there" / "tiny.pth").write_bytes(archive(8))
    with pytest.raises(FctfgError, match=r"there/tiny\.pth is not the published .* \(move this one away first\)"):
        fetch.fetch("tiny")


def test_a_lost_connection_is_taken_up(server: Server, weights: Entry) -> None:
    server.cuts = 2
    assert fetch.fetch("tiny").read_bytes() == WHOLE
    assert server.asked == ["", "bytes=100000-", "bytes=200000-"]


def test_a_server_without_ranges_begins_again(server: Server, weights: Entry) -> None:
    server.cuts, server.ranges = 1, False
    assert fetch.fetch("tiny").read_bytes() == WHOLE
    assert server.asked == ["", "bytes=100000-"]


def test_a_connection_that_stays_lost_is_an_error_that_keeps_the_bytes(server: Server, weights: Entry) -> None:
    server.cuts, server.ranges = 99, False
    with pytest.raises(FctfgError, match=r"lost after 100,000 of [\d,]+ bytes, 5 times\); the 100,000 bytes so far"):
        fetch.fetch("tiny")
    assert left() == {"tiny.pth.part", "tiny.pth.part.origin"}
    server.cuts, server.ranges = 0, True
    assert fetch.fetch("tiny").read_bytes() == WHOLE  # the next command goes on
    assert server.asked[-1] == "bytes=100000-"
    assert left() == {"tiny.pth", "tiny.pth.licence.txt"}


def test_no_server_is_an_error(server: Server, weights: Entry) -> None:
    with pytest.raises(FctfgError, match=r"127\.0\.0\.1:1/tiny\.pth cannot be fetched \(.*refused.*another --mirror"):
        fetch.fetch("tiny", mirror="http://127.0.0.1:1")
    assert left() == set()


@pytest.mark.parametrize("sha256", [None, "known"])
def test_a_file_that_changed_in_between_begins_again(
    server: Server, weights: Entry, monkeypatch: pytest.MonkeyPatch, sha256: str | None
) -> None:
    if sha256 is None:
        changed(monkeypatch, weights, sha256=None)
    Path("checkpoints").mkdir()
    Path("checkpoints/tiny.pth.part").write_bytes(archive(8)[:100_000])
    Path("checkpoints/tiny.pth.part.origin").write_text(f'{weights.url}\n"another"\n')
    assert fetch.fetch("tiny").read_bytes() == WHOLE


def test_halves_are_joined_only_where_that_can_be_checked(
    server: Server, weights: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(monkeypatch, weights, sha256=None)
    server.cuts, server.tag = 1, ""
    assert fetch.fetch("tiny").read_bytes() == WHOLE
    assert server.asked == ["", ""]


@pytest.mark.parametrize(("there", "asked"), [(WHOLE, 1), (WHOLE + b"more", 2)])
def test_a_part_that_is_long_enough(server: Server, weights: Entry, there: bytes, asked: int) -> None:
    Path("checkpoints").mkdir()
    Path("checkpoints/tiny.pth.part").write_bytes(there)
    assert fetch.fetch("tiny").read_bytes() == WHOLE
    assert len(server.asked) == asked  # 416: it is complete, or it is of another file


def test_a_busy_server_is_asked_again(server: Server, weights: Entry) -> None:
    server.status, server.failures = 503, 3
    assert fetch.fetch("tiny").read_bytes() == WHOLE


def test_a_file_that_is_not_there_is_an_error_at_once(server: Server, weights: Entry) -> None:
    server.status, server.failures = 404, 9
    with pytest.raises(FctfgError, match=r"HTTP 404 .*another --mirror.*https://example\.org/tiny.*--file"):
        fetch.fetch("tiny")
    assert len(server.asked) == 1
    assert left() == set()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (PAGE, "text/html; charset=utf-8", "is a web page"),
        (WHOLE[:-30_000], "application/zip", "is truncated"),
        (archive(8), "application/zip", "SHA-256"),
    ],
    ids=["page", "truncated", "another"],
)
def test_what_is_not_the_file_is_named_and_not_kept(
    server: Server, weights: Entry, monkeypatch: pytest.MonkeyPatch, content: bytes, kind: str, said: str, known: bool
) -> None:
    if not known and content == archive(8):
        changed(monkeypatch, weights, sha256=weights.sha256 and weights.sha256[:8])
    elif not known:
        changed(monkeypatch, weights, sha256=None, size=None)
    server.content, server.kind = content, kind
    with pytest.raises(FctfgError, match=said) as caught:
        fetch.fetch("tiny")
    assert str(weights.url) in str(caught.value)
    assert ".part" not in str(caught.value)
    assert left() == set()


def test_another_network_is_not_filed_under_the_name(
    server: Server, weights: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(monkeypatch, weights, source="psp", sha256=None, size=None)
    with pytest.raises(FctfgError, match=r"/weights/tiny\.pth looks like ir-se50, but tiny\.pth is psp; get it again"):
        fetch.fetch("tiny")
    assert left() == set()


def test_a_change_after_fetching_is_noticed(weights: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = changed(monkeypatch, weights, sha256=None, size=None)
    path = fetch.fetch("tiny")
    path.write_bytes(archive(8))
    with pytest.raises(FctfgError, match=r"has changed since it was fetched .*tiny\.pth\.licence\.txt"):
        fetch.check_file(path, entry)


def test_a_given_file_is_not_replaced_by_one_elsewhere(
    server: Server, weights: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch.fetch("tiny", tmp_path / "there")
    monkeypatch.setenv("FCTFG_WEIGHTS", str(tmp_path / "there"))
    (tmp_path / "mine.pth").write_bytes(WHOLE)
    assert fetch.fetch("tiny", tmp_path / "here", file=tmp_path / "mine.pth") == tmp_path / "here" / "tiny.pth"


def test_a_page_without_its_length(server: Server, weights: Entry) -> None:
    server.content, server.length = PAGE, False
    with pytest.raises(FctfgError, match="is a web page"):
        fetch.fetch("tiny")


def test_a_mirror_has_the_file_under_its_name(server: Server, weights: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, weights, url=None)
    assert fetch.fetch("tiny", Path("to"), mirror=server.address.rstrip("/")).read_bytes() == WHOLE
    with pytest.raises(UsageError, match="begins with http"):
        fetch.fetch("tiny", mirror="/mnt/weights")
    with pytest.raises(UsageError, match="exclude each other"):
        fetch.fetch("tiny", mirror=server.address, file=Path("tiny.pth"))


def test_what_a_person_must_download(
    server: Server, weights: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(monkeypatch, weights, url=None)
    with pytest.raises(FctfgError, match=r"by hand, from https://example\.org/tiny, .*fetch tiny --file FILE"):
        fetch.fetch("tiny")
    given = tmp_path / "tiny (1).pth"
    given.write_bytes(PAGE)
    with pytest.raises(FctfgError, match=r"tiny \(1\)\.pth is a web page"):
        fetch.fetch("tiny", file=given)
    given.write_bytes(WHOLE[:-1000])
    with pytest.raises(FctfgError, match="is truncated"):
        fetch.fetch("tiny", file=given)
    given.write_bytes(archive(8))
    with pytest.raises(FctfgError, match="is not the published"):
        fetch.fetch("tiny", file=given)
    assert left() == set()
    given.write_bytes(WHOLE)
    assert fetch.fetch("tiny", file=given).read_bytes() == WHOLE
    assert left() == {"tiny.pth", "tiny.pth.licence.txt"}
    assert server.asked == []


def test_two_processes_do_not_fetch_the_same_file(server: Server, weights: Entry) -> None:
    Path("checkpoints").mkdir()
    program = (
        "import fcntl, sys; lock = open('checkpoints/.tiny.pth.lock', 'w'); fcntl.lockf(lock, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(FctfgError, match=r"another process is fetching checkpoints/tiny\.pth"):
            fetch.fetch("tiny")
        other.communicate()
    assert fetch.fetch("tiny").read_bytes() == WHOLE


def test_a_folder_that_cannot_be_written(server: Server, weights: Entry) -> None:
    Path("file").touch()
    with pytest.raises(FctfgError, match="not a folder"):
        fetch.fetch("tiny", Path("file"))
    assert server.asked == []


# ------------------------------------------------------------------------------------------- on the command line


def test_the_command_fetches_once_and_says_what_the_licence_is(
    server: Server, weights: Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "fetch", "tiny", "--to", "here"]) == 0
    assert "tiny.pth: research only; commercial use: no" in capsys.readouterr().out.replace("here/", "")
    assert left(Path("here")) == {"tiny.pth", "tiny.pth.licence.txt"}
    assert main(["weights", "fetch", "tiny", "--to", "here"]) == 0
    assert "is there already" in capsys.readouterr().out
    assert len(server.asked) == 1


def test_the_command_works_offline(
    server: Server, weights: Entry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = tmp_path / "given" / "copy.bin"
    given.parent.mkdir()
    given.write_bytes(WHOLE)
    assert main(["weights", "fetch", "tiny", "--file", str(given)]) == 0
    assert Path("checkpoints/tiny.pth").read_bytes() == WHOLE
    Path("checkpoints").rename(tmp_path / "shared")
    monkeypatch.setenv("FCTFG_WEIGHTS", str(tmp_path / "shared"))
    capsys.readouterr()
    assert main(["weights", "fetch", "tiny"]) == 0
    assert "shared/tiny.pth is there already" in " ".join(capsys.readouterr().out.split())
    assert server.asked == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(PAGE, "is a web page"), (archive(7)[:-40_000], "is truncated"), (archive(8), "its SHA-256 is")],
    ids=["page", "truncated", "wrong hash"],
)
@pytest.mark.parametrize("way", ["url", "mirror", "file"])
def test_the_command_refuses_other_files(
    server: Server, weights: Entry, capsys: pytest.CaptureFixture[str], content: bytes, said: str, way: str
) -> None:
    server.content = content
    Path("given.pth").write_bytes(content)
    options = {"url": [], "mirror": ["--mirror", server.address], "file": ["--file", "given.pth"]}[way]
    assert main(["weights", "fetch", "tiny", *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("fctfg: error: ") and said in error and "https://example.org/tiny" in error
    assert left() == set()


def test_the_command_verifies_the_hash_of_what_is_there(
    server: Server, weights: Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "fetch", "tiny"]) == 0
    Path("checkpoints/tiny.pth").write_bytes(archive(8))
    assert main(["weights", "verify"]) == 1
    assert "is not the published tiny.pth: its SHA-256 is" in capsys.readouterr().out


def test_the_command_names_the_nearest_entry(weights: Entry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "fetch", "tinny"]) == 1
    assert "did you mean tiny?" in capsys.readouterr().err


def test_a_larger_file_is_not_downloaded(server: Server, weights: Entry) -> None:
    server.content = WHOLE + b"more"
    with pytest.raises(FctfgError, match=r"is another file than tiny\.pth"):
        fetch.fetch("tiny")
    assert left() == set()


def test_a_published_file_of_several_networks_is_filed_under_its_name(tmp_path: Path) -> None:
    """A HyperStyle file holds a generator too; no hash is known of it, so its layout is compared."""
    given = published_files.save(published_files.hyperstyle(), tmp_path / "hyperstyle.pt")
    assert main(["weights", "fetch", "hyperstyle-ffhq", "--file", str(given), "--to", str(tmp_path / "here")]) == 0
    assert main(["weights", "fetch", "psp-ffhq", "--file", str(given), "--to", str(tmp_path / "here")]) == 1
