"""Images and runs on a real object-store server, and what becomes of them as it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import cuescope
from cuescope.core import remote as remotes
from cuescope.core.errors import CueError
from cuescope.core.remote import Remote
from cuescope.data.images import OutOfReachError
from cuescope.runs.inputs import find_images
from cuescope.runs.lease import Lease
from cuescope.runs.store import Run
from object_store import Door, object_store
from test_remote import solid
from test_stored import NAMED, labels, parquet, png, shard, structs, tar, values
from toys import MeanColor, toy

pytestmark = [pytest.mark.extra, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with object_store() as found:
        yield found


@pytest.fixture
def store(door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    keys |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": door.url, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for key, value in keys.items():
        monkeypatch.setenv(key, value)
    found = Remote("s3://bucket")
    for entry in found.walk():
        found.remove(entry.name)
    return found


def photos(store: Remote, count: int = 6) -> None:
    for i in range(count):
        store.write(f"photos/{('cat', 'dog')[i % 2]}/{i:03}.png", png(i))


@pytest.mark.parametrize("name", ["a b.txt", "ä#?.txt", "a%20b.txt", "a+b&=.txt", "~1.txt", "d/e.txt"])
def test_names_of_all_kinds(store: Remote, name: str) -> None:
    store.write(f"names/{name}", b"12345")
    assert [entry.name for entry in store.walk("names/")] == [f"names/{name}"]
    assert store.read(f"names/{name}", 1, 3) == b"234"


def test_images_of_each_kind(store: Remote, tmp_path: Path) -> None:
    photos(store)
    store.write("tars/a.tar", tar(tmp_path / "a.tar", shard(0, ["dog", "cat"])).read_bytes())
    table = parquet(tmp_path / "a.parquet", {"image": structs(90), "label": [i % 3 for i in range(90)]}, NAMED)
    store.write("tables/a.parquet", table.read_bytes())
    assert values(find_images("s3://bucket/photos")) == [0, 2, 4, 1, 3, 5]
    assert labels(find_images("s3://bucket/tars")) == [1, 0]
    assert values(find_images("s3://bucket/tables/a.parquet")) == list(range(90))


def test_an_image_is_put_only_where_there_is_none(store: Remote) -> None:
    store.write("one", b"1", new=True)
    with pytest.raises(FileExistsError):
        store.write("one", b"2", new=True)
    assert store.read("one") == b"1"


def test_a_lock_is_as_old_as_the_server_says(store: Remote) -> None:
    Lease(store).take()
    assert 0 <= store.age_s(".lock") < 30
    assert [entry.name for entry in store.walk()] == [".lock"]
    with pytest.raises(CueError, match="is in use by process"):
        Lease(store).take()


@pytest.mark.parametrize(
    ("fault", "why"),
    [(403, "no permission"), (404, "not there"), ("cut", "cannot be read"), ("gone", "cannot be read"), (500, "read")],
)
def test_an_image_that_fails_is_out_of_reach(store: Remote, door: Door, fault: int | str, why: str) -> None:
    photos(store)
    images = find_images("s3://bucket/photos")
    start = time.monotonic()
    with door.failing(fault, "cat/002.png"):
        ((samples, skipped),) = images.stream([list(range(6))])
    assert time.monotonic() - start < remotes.TIMEOUT_S + 10
    assert len(samples) == 5
    assert [(one.id, one.again) for one in skipped] == [("cat/002.png", True)]
    assert why in skipped[0].why
    assert len(next(images.stream([list(range(6))]))[0]) == 6, "and is read when it is back"


@pytest.mark.parametrize("fault", [403, 404, "gone"])
def test_a_listing_that_fails_is_one_error(store: Remote, door: Door, fault: int | str) -> None:
    photos(store)
    start = time.monotonic()
    with door.failing(fault, "list-type=2"), pytest.raises(CueError, match=r"s3://bucket/photos"):
        find_images("s3://bucket/photos")
    assert time.monotonic() - start < remotes.TIMEOUT_S + 10


def test_no_such_bucket(store: Remote) -> None:
    for make in (lambda: find_images("s3://nowhere/photos"), lambda: Run.open("s3://nowhere/run")):
        with pytest.raises(CueError, match="there is no such bucket"):
            make()


def test_a_slow_answer_is_given_up(store: Remote, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(store)
    images = find_images("s3://bucket/photos")
    monkeypatch.setattr(remotes, "TIMEOUT_S", 0.5)
    with door.failing("slow", "photos/"), pytest.raises(OutOfReachError, match="no answer within"):
        images.read(0)


def test_decoding_does_not_wait_for_each_image(store: Remote, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(store, 64)
    images = find_images("s3://bucket/photos")
    monkeypatch.setattr(door, "slow_s", 0.25)
    groups = [list(range(at, at + 16)) for at in range(0, 64, 16)]
    with door.failing("slow", "photos/"):
        start = time.monotonic()
        assert sum(len(samples) for samples, _ in images.stream(groups, 2)) == 64
    assert time.monotonic() - start < 6, "two threads alone would take 8 s"


def test_a_run_lies_on_the_server(store: Remote) -> None:
    for i in range(5):
        store.write(f"set/{i}.png", solid(i))
    asked = {"images": "s3://bucket/set", "only": ["shift_stability"], "out": "s3://bucket/runs/one"}
    run = cuescope.audit(toy(MeanColor()), **asked)
    assert Run.open("s3://bucket/runs/one").frame().equals(run.frame())
    assert json.loads(store.read("runs/one/manifest.json"))["finished"]
    assert not [entry.name for entry in store.walk("runs/one/") if "/." in entry.name]


def test_a_run_of_a_server_that_is_gone_is_kept_here(store: Remote, door: Door) -> None:
    for i in range(5):
        store.write(f"set/{i}.png", solid(i))
    asked = {"images": "s3://bucket/set", "only": ["shift_stability"], "out": "s3://bucket/runs/one"}
    door.fault = lambda method, path: 503 if method == "PUT" and "/cells/" in path else None
    try:
        with pytest.raises(CueError, match="cannot write to 's3://bucket/runs/one'") as error:
            cuescope.audit(toy(MeanColor()), **asked)
    finally:
        door.fault = lambda method, path: None
    kept = Path(error.value.do.split("'")[1])
    assert Run.open(kept).finding("shift_stability").measures
    with pytest.raises(CueError, match="no run in"):
        Run.open("s3://bucket/runs/one")
    again = cuescope.audit(toy(MeanColor()), **asked)
    assert again.finding("shift_stability").measures == Run.open(kept).finding("shift_stability").measures


def observed(store: Remote) -> bool:
    """Whether any rows are on the server."""
    return any("/begun/" in entry.name or "/rows/" in entry.name for entry in store.walk("runs/killed/"))


def test_a_killed_run_goes_on(store: Remote, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import time, torch\n"
        "class Slow(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        time.sleep(float(__import__('os').environ['SLOW']))\n"
        "        return x.mean((2, 3))\n"
        "def make():\n"
        "    return Slow().eval()\n"
    )
    (tmp_path / "classes.txt").write_text("red\ngreen\nblue\n")
    for i in range(300):
        store.write(f"set/{i:03}.png", solid(i))
    command = [sys.executable, "-m", "cuescope", "audit", f"{tmp_path / 'own.py'}:make", "--images", "s3://bucket/set"]
    command += ["--classes", str(tmp_path / "classes.txt"), "--only", "shift_stability", "--size", "16,16"]
    where = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "SLOW": "0.3"}
    killed = subprocess.Popen([*command, "--out", "s3://bucket/runs/killed"], env=where, stderr=subprocess.DEVNULL)
    for _ in range(1200):
        if (
            any("/begun/" in e.name or "/rows/" in e.name for e in store.walk("runs/killed/"))
            or killed.poll() is not None
        ):
            break
        time.sleep(0.1)
    assert killed.poll() is None, "it was to be killed at work"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    kept = {e.name for e in store.walk("runs/killed/") if "/begun/" in e.name or "/rows/" in e.name}
    assert kept
    fast = where | {"SLOW": "0"}
    for out in ("s3://bucket/runs/killed", str(tmp_path / "whole")):
        done = subprocess.run([*command, "--out", out], env=fast, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    killed_run, whole = Run.open("s3://bucket/runs/killed"), Run.open(tmp_path / "whole")
    assert killed_run.frame("shift_stability").equals(whole.frame("shift_stability"))
    assert killed_run.finding("shift_stability").measures == whole.finding("shift_stability").measures


def test_several_processes_read_and_write_there(store: Remote) -> None:
    photos(store)
    asked = {"images": "s3://bucket/photos", "only": ["shift_stability"], "device": "cpu"}
    spec = "cuescope/world-congruent"
    one = cuescope.audit(spec, **asked, out="s3://bucket/runs/one", engine="local", processes=1)
    two = cuescope.audit(spec, **asked, out="s3://bucket/runs/two", engine="local", processes=2)
    there = [Run.open(run.place) for run in (one, two)]
    assert all(run.manifest["finished"] for run in there)
    rows = [run.frame("shift_stability") for run in there]
    assert rows[0].height > 0
    assert rows[0].equals(rows[1])
