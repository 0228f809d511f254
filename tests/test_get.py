"""Fetching other people's data: from a local server, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuescope.api import get
from cuescope.api.get import get_human_data
from cuescope.cli import main
from cuescope.core.errors import CueError
from cuescope.data.readers import read_human_data
from served import Server, serving

HEAD = b"subj,session,trial,rt,object_response,category,condition,imagename\n"
TRIALS = HEAD + b"subject-01,1,1,.8,cat,cat,0,0001_s5n_s01_0_cat_00_cat7-clock1.png\n"
NAME = "edge-experiment/edge-experiment_subject-01_session_1.csv"


def zipped(**more: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in {f"repo-1/raw-data/{NAME}": TRIALS, "repo-1/README.md": b"#", **more}.items():
            file.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    known = {NAME: hashlib.sha256(TRIALS).hexdigest()}
    monkeypatch.setattr(get, "known_digests", lambda: known)
    with serving(zipped()) as server:
        yield server


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_only_the_raw_data_is_kept_and_fetched_once(server: Server, tmp_path: Path) -> None:
    got = get_human_data(tmp_path / "human", url=server.url)
    assert (got.files, got.checked, got.fresh) == (1, 1, True)
    assert files(tmp_path / "human") == [NAME, "source.json"]
    assert read_human_data(tmp_path / "human").trials["image"].to_list() == ["cat7-clock1.png"]
    again = get_human_data(tmp_path / "human", url="http://127.0.0.1:9/nothing")
    assert not again.fresh
    assert len(server.asked) == 1


def test_a_file_that_was_changed_since_is_fetched_again(server: Server, tmp_path: Path) -> None:
    get_human_data(tmp_path, url=server.url)
    (tmp_path / NAME).write_bytes(HEAD)
    assert get_human_data(tmp_path, url=server.url).fresh
    assert (tmp_path / NAME).read_bytes() == TRIALS


@pytest.mark.parametrize(("tag", "ranges"), [('"one"', True), ('"two"', True), ('"one"', False)])
def test_a_download_that_stopped_goes_on_where_it_can(server: Server, tmp_path: Path, tag: str, ranges: bool) -> None:
    server.stop_after = 100
    with pytest.raises(CueError, match="100 of"):
        get_human_data(tmp_path, url=server.url)
    assert files(tmp_path) == [".download.tag", ".download.zip"], "no file of it is used yet"
    server.stop_after, server.tag, server.ranges = None, tag, ranges
    if tag != '"one"':
        server.data = zipped(**{"repo-1/more.txt": b"another archive than before"})
    assert get_human_data(tmp_path, url=server.url).fresh
    assert server.asked == [None, "bytes=100-"]
    assert server.starts == [0, 100 if tag == '"one"' and ranges else 0]
    assert files(tmp_path) == [NAME, "source.json"]


def test_a_server_that_cannot_go_on_starts_anew(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    for stop in (100, 50):
        server.stop_after = stop
        with pytest.raises(CueError, match=f"at {stop} of {len(server.data):,} bytes"):
            get_human_data(tmp_path, url=server.url)
    assert (tmp_path / ".download.zip").read_bytes() == server.data[:50]


def test_an_archive_that_is_whole_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".download.zip").write_bytes(server.data)
    (tmp_path / ".download.tag").write_text(server.tag)
    assert get_human_data(tmp_path, url=server.url).fresh


def test_other_bytes_than_are_known_are_not_written(server: Server, tmp_path: Path) -> None:
    server.data = zipped(**{f"repo-1/raw-data/{NAME}": TRIALS + b"\n"})
    with pytest.raises(CueError, match="another SHA-256"):
        get_human_data(tmp_path, url=server.url)
    server.data = zipped().replace(b"raw-data", b"own-data")
    with pytest.raises(CueError, match="lacks 1 of 1 files"):
        get_human_data(tmp_path / "b", url=server.url)
    assert not [name for folder in (tmp_path, tmp_path / "b") for name in files(folder) if name.endswith(".csv")]


@pytest.mark.parametrize(
    "name",
    [
        "repo-1/raw-data/../../../evil.csv",
        "/raw-data/evil.csv",
        "repo\\raw-data\\..\\..\\evil.csv",
        "a/raw-data/c:/e.csv",
    ],
)
def test_no_path_leads_out_of_the_folder(server: Server, tmp_path: Path, name: str) -> None:
    server.data = zipped(**{name: TRIALS})
    with pytest.raises(CueError, match="paths within it"):
        get_human_data(tmp_path / "human", url=server.url)
    assert not list(tmp_path.rglob("*.csv"))


def test_a_link_is_not_unpacked(server: Server, tmp_path: Path) -> None:
    buffer = io.BytesIO(server.data)
    with zipfile.ZipFile(buffer, "a") as file:
        link = zipfile.ZipInfo("repo-1/raw-data/link.csv")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
    server.data = buffer.getvalue()
    assert get_human_data(tmp_path, url=server.url).files == 1


@pytest.mark.parametrize("what", ["LARGEST_DATA", "LARGEST_ARCHIVE"])
def test_more_than_there_can_be_is_not_taken(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(get, what, 100)
    with pytest.raises(CueError, match="too large"):
        get_human_data(tmp_path, url=server.url)
    assert not list(tmp_path.rglob("*.csv"))


def test_what_is_no_archive_is_thrown_away(server: Server, tmp_path: Path) -> None:
    server.data = b"<html>sign in to this network</html>"
    with pytest.raises(CueError, match="no ZIP archive"):
        get_human_data(tmp_path, url=server.url)
    server.data = zipped()
    assert get_human_data(tmp_path, url=server.url).fresh


def test_no_network_is_told_with_a_way_by_hand(tmp_path: Path) -> None:
    with pytest.raises(CueError, match="raw-data to --human-data"):
        get_human_data(tmp_path, url="http://127.0.0.1:9/a.zip")
    with pytest.raises(CueError, match="https://"):
        get_human_data(tmp_path, url="file:///etc/passwd")


def test_the_command(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["get", "human-data", str(tmp_path), "--url", server.url])
    assert end.value.code == 0
    assert "got 1 files, 1 of them checked" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["get", "human-data", str(tmp_path / "b"), "--url", server.url + "x"])
    assert end.value.code == 2
    assert "404" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as end:
        main(["get", "human-data", str(tmp_path / "file"), "--url", server.url])
    assert end.value.code == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.real
def test_the_known_digests_are_those_of_the_data(data: Path) -> None:
    found = {p.relative_to(data / "human").as_posix(): p for p in (data / "human").rglob("*.csv")}
    assert {name: hashlib.sha256(p.read_bytes()).hexdigest() for name, p in found.items()} == get.known_digests()
