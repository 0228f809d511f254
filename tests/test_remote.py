"""Addresses: what is read and listed there, and a run folder that lies there. In memory, without a server."""

from __future__ import annotations

import errno
import io
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from PIL import Image

import cuescope
from cuescope.core import remote as remotes
from cuescope.core.errors import CueError
from cuescope.core.remote import Remote, address
from cuescope.data.images import OutOfReachError, UnreadableError
from cuescope.data.readers import far
from cuescope.data.readers.far import FarFile, Fetcher
from cuescope.data.readers.far_parquet import FarParquet
from cuescope.data.readers.parquet import _Tables
from cuescope.data.readers.stored import StoredSet
from cuescope.runs import lease as leases
from cuescope.runs.inputs import find_images
from cuescope.runs.lease import Lease
from cuescope.runs.mirror import Mirror
from cuescope.runs.options import AuditOptions
from cuescope.runs.store import Run
from test_stored import NAMED, labels, parquet, png, shard, structs, tar, values
from toys import MeanColor, toy


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield Remote("memory://bucket")
    fsspec.filesystem("memory").store.clear()


def put(store: Remote, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        store.write(name, data)


def broken(monkeypatch: pytest.MonkeyPatch, method: str, error: Exception | None = None, of: str = "") -> list[str]:
    """Have a method of the file system raise for paths that hold `of`; the paths that it was asked for."""
    asked: list[str] = []
    kind = type(fsspec.filesystem("memory"))
    real = getattr(kind, method)

    def fake(self: object, path: str, *args: object, **kwargs: object) -> object:
        asked.append(path)
        if error and of in path:
            raise error
        return real(self, path, *args, **kwargs)

    monkeypatch.setattr(kind, method, fake)
    return asked


# --- addresses


@pytest.mark.parametrize(
    "text", ["photos", "/photos", "C:/photos", "C:\\photos", "world:shape:8", "a.py:make", "s3:", "x://"]
)
def test_a_path_is_no_address(text: str) -> None:
    assert address(text) == ""


def test_what_a_path_made_of_an_address_is_mended() -> None:
    assert address(Path("hf://datasets/a/b/")) == "hf://datasets/a/b"


def test_nothing_reads_such_an_address() -> None:
    with pytest.raises(CueError, match="nothing reads zz://"):
        Remote("zz://bucket").entries()


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(protocol: str) -> None:
        raise ImportError(protocol)

    monkeypatch.setattr(fsspec, "get_filesystem_class", lacks)
    with pytest.raises(CueError, match="no driver for oss://") as error:
        Remote("oss://bucket").entries()
    assert "pip install" in error.value.do


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("An error occurred (AccessDenied) when calling GetObject"), PermissionError),
        (RuntimeError("Unable to locate credentials"), PermissionError),
        (PermissionError("Forbidden"), PermissionError),
        (FileNotFoundError("bucket/x"), FileNotFoundError),
        (RuntimeError("404 NoSuchKey"), FileNotFoundError),
        (TimeoutError(), TimeoutError),
        (RuntimeError("the read timed out"), TimeoutError),
        (FileExistsError("a"), FileExistsError),
        (RuntimeError("what else"), OSError),
    ],
)
def test_each_failure_is_an_os_error(
    store: Remote, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[OSError]
) -> None:
    broken(monkeypatch, "cat_file", error)
    with pytest.raises(OSError) as raised:  # noqa: PT011 - the kind is compared
        store.read("x")
    assert type(raised.value) is kind
    assert raised.value.strerror


def test_half_an_object_is_an_error(store: Remote) -> None:
    put(store, {"a": b"12345"})
    assert store.read("a", 1, 3) == b"234"
    with pytest.raises(OSError, match="only 5 of 9 bytes"):
        store.read("a", 0, 9)


def test_what_lies_there_is_listed_folder_by_folder(store: Remote) -> None:
    put(store, {"b/2": b"", "b/c/3": b"12", "a": b"1"})
    assert [(e.name, e.size) for e in store.walk()] == [("a", 1), ("b/2", 0), ("b/c/3", 2)]
    assert [(e.name, e.size) for e in store.walk("b/")] == [("b/2", 0), ("b/c/3", 2)]
    assert list(store.walk("no/")) == []


# --- images


def photos() -> dict[str, bytes]:
    return {f"photos/{('cat', 'dog')[i % 2]}/{i}.png": png(i) for i in range(6)}


def test_a_folder_of_classes(store: Remote) -> None:
    put(store, photos() | {"photos/readme.txt": b"", "photos/cat/.hidden.png": b"", "photos/@eaDir/x.png": b""})
    images = find_images(f"{store.url}/photos/")
    assert [images.id(i) for i in range(6)] == [f"cat/{i}.png" for i in (0, 2, 4)] + [f"dog/{i}.png" for i in (1, 3, 5)]
    assert values(images) == [0, 2, 4, 1, 3, 5]
    assert labels(images) == [0, 0, 0, 1, 1, 1]
    assert images.name == "photos"
    assert "1 file that is no image passed over" in images.notes
    assert "folders of the system passed over: @eaDir" in images.notes


def test_the_digest_changes_with_an_image(store: Remote) -> None:
    put(store, photos())
    before = find_images(f"{store.url}/photos").digest
    assert find_images(f"{store.url}/photos").digest == before
    put(store, {"photos/cat/0.png": png(9)})
    assert find_images(f"{store.url}/photos").digest != before


def test_labels_of_a_table_there_or_here(store: Remote, tmp_path: Path) -> None:
    table = b"file,index\ncat/0.png,3\ndog/1.png,1\n"
    put(store, photos() | {"photos/labels.csv": table, "elsewhere/other.csv": table.replace(b"3", b"2")})
    there = find_images(f"{store.url}/photos")
    assert labels(there) == [3, None, None, 1, None, None]
    assert [note for note in there.notes if note.startswith("without")] == ["without a label: 4 of 6 images"]
    assert labels(find_images(f"{store.url}/photos", labels=f"{store.url}/elsewhere/other.csv"))[0] == 2
    (tmp_path / "own.csv").write_bytes(table.replace(b"3", b"0"))
    assert labels(find_images(f"{store.url}/photos", labels=tmp_path / "own.csv"))[0] == 0


def test_labels_of_hugging_faces_image_folder(store: Remote) -> None:
    put(store, {"set/train/0.png": png(0), "set/train/metadata.csv": b"file_name,label\n0.png,cat\n"})
    images = find_images(f"{store.url}/set")
    assert images.classes
    assert images.classes.names == ("cat",)


def test_tars_are_read_through_once(store: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(2):
        put(store, {f"set/{k}.tar": tar(tmp_path / "a.tar", shard(3 * k, ["dog", "cat", "dog"])).read_bytes()})
    images = find_images(f"{store.url}/set")
    assert images.id(3) == "1.tar/0003.png"
    assert values(images) == list(range(6))
    assert labels(images) == [1, 0, 1, 1, 0, 1]
    asked = broken(monkeypatch, "cat_file")
    again = find_images(f"{store.url}/set")
    assert (again.digest, labels(again)) == (images.digest, labels(images))
    assert len(asked) == 6, "the six images, for notes on them"


def test_a_tar_that_changed_is_read_anew(store: Remote, tmp_path: Path) -> None:
    put(store, {"a.tar": tar(tmp_path / "a.tar", shard(0, ["dog", "cat"])).read_bytes()})
    assert labels(find_images(f"{store.url}/a.tar")) == [1, 0]
    put(store, {"a.tar": tar(tmp_path / "a.tar", shard(0, ["cat", "dog"])).read_bytes()})
    assert labels(find_images(f"{store.url}/a.tar")) == [0, 1]


def test_a_large_tar_is_read_block_by_block(store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "BLOCK", 10)
    data = bytes(range(256)) * 4
    put(store, {"x.bin": data})
    file = FarFile(store, next(store.walk()))
    asked = broken(monkeypatch, "cat_file")
    with file.open() as raw:
        assert raw.read() == data
    assert len(asked) == 103, "no block twice"
    with file.open() as raw:
        raw.seek(500)
        assert raw.read(7) == data[500:507]


def test_a_group_of_rows_of_a_table_is_fetched_once(
    store: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": structs(90), "label": [i % 3 for i in range(90)]}, NAMED)
    put(store, {"set/train-0.parquet": path.read_bytes()})
    images = find_images(f"{store.url}/set")
    assert labels(images) == [i % 3 for i in range(90)]
    asked = broken(monkeypatch, "cat_file")
    groups = [list(range(at, min(at + 16, 90))) for at in range(0, 90, 16)]
    read = {i: s for samples, _ in images.stream(groups) for i, s in samples}
    assert [int(read[i].pixels[0, 0, 0]) for i in range(90)] == list(range(90))
    # Three groups of 40 rows, of which the notes have read the first images of two; two parts of the column each.
    assert len(asked) <= 6
    assert images.classes
    assert images.classes.names == ("emu", "cat", "dog")


def test_of_many_tables_little_is_kept_here(store: Remote, tmp_path: Path) -> None:
    for k in range(5):
        path = parquet(tmp_path / "a.parquet", {"image": structs(4)})
        put(store, {f"set/{k}.parquet": path.read_bytes()})
    images = find_images(f"{store.url}/set")
    images.ahead(())
    assert isinstance(images, StoredSet)
    assert values(images) == [0, 1, 2, 3] * 5
    assert isinstance(images.store, _Tables)
    kept = [list(table._folder.glob("group-*")) for table in images.store.tables if isinstance(table, FarParquet)]
    assert [len(files) for files in kept] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("compression", ["uncompressed", "snappy", "zstd"])
def test_a_table_there_gives_what_it_gives_here(store: Remote, tmp_path: Path, compression: str) -> None:
    import polars as pl

    frame = pl.DataFrame({"jpg": [png(i) for i in range(50)], "cls": [f"c{i % 4}" for i in range(50)]})
    frame.write_parquet(tmp_path / "a.parquet", compression=compression, row_group_size=7)
    put(store, {"a.parquet": (tmp_path / "a.parquet").read_bytes()})
    there, here = find_images(f"{store.url}/a.parquet"), find_images(tmp_path / "a.parquet")
    assert (values(there), labels(there)) == (values(here), labels(here))
    assert there.notes == here.notes


@pytest.mark.parametrize("damage", ["zeros", "no footer", "not one", "long"])
def test_a_damaged_table_is_one_error(store: Remote, tmp_path: Path, damage: str) -> None:
    data = parquet(tmp_path / "a.parquet", {"image": structs(5)}).read_bytes()
    data = {
        "zeros": data[:-300] + bytes(292) + data[-8:],
        "no footer": data[:-8],
        "not one": b"0123",
        "long": data[:-8] + b"\xff\xff\xff\x7fPAR1",
    }[damage]
    put(store, {"a.parquet": data})
    with pytest.raises(CueError, match="cannot be read as Parquet"):
        find_images(f"{store.url}/a.parquet")


def test_what_cannot_be_read_there_is_said(store: Remote, tmp_path: Path) -> None:
    put(store, {"text/a.txt": b"", "set/a.arrow": b""})
    for url, why in (("nothing", "empty|not there"), ("text", "no image"), ("set", "is an Arrow file at an address")):
        with pytest.raises(CueError, match=why):
            find_images(f"{store.url}/{url}")
    put(store, photos())
    with pytest.raises(CueError, match="--boxes with photos, which is no folder on this machine"):
        find_images(f"{store.url}/photos", boxes=tmp_path)
    with pytest.raises(CueError, match="cannot be listed"):
        find_images("https://localhost/photos")
    with pytest.raises(CueError, match="on this machine"):
        AuditOptions.of(images="world:congruent", cue_conflict="s3://bucket/conflict").check(["timm/resnet18"])


def test_a_listing_says_where_images_lie(store: Remote, tmp_path: Path) -> None:
    put(store, photos())
    put(store, {"set/a.tar": tar(tmp_path / "a.tar", shard(0, ["x", "y"])).read_bytes()})
    at = (tmp_path / "a.tar").read_bytes().index(png(1))
    listed = {
        "path": ["cat/2.png", f"{store.url}/photos/dog/3.png", "../set/a.tar"],
        "label": ["cat", None, "dog"],
        "start": [None, None, at],
        "size": [None, None, len(png(1))],
    }
    put(store, {"photos/list.parquet": parquet(tmp_path / "list.parquet", listed).read_bytes()})
    images = find_images(f"{store.url}/photos/list.parquet")
    assert [images.id(i) for i in range(3)] == ["cat/2.png", f"{store.url}/photos/dog/3.png", f"../set/a.tar:{at}"]
    assert labels(images) == [0, None, 1]
    assert values(images) == [2, 3, 1]


def test_a_listing_here(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for i in range(3):
        (tmp_path / f"cat/{i}.png").write_bytes(png(i))
    data = tar(tmp_path / "a.tar", shard(7, ["x"])).read_bytes()
    listed = {
        "path": ["cat/2.png", str(tmp_path / "cat/0.png"), "a.tar", "cat/9.png", None],
        "label": [4, 0, 1, 2, None],
        "start": [None, None, data.index(png(7)), None, None],
        "size": [None, None, len(png(7)), None, None],
    }
    images = find_images(parquet(tmp_path / "list.parquet", listed))
    assert [int(images.read(i).pixels[0, 0, 0]) for i in range(3)] == [2, 0, 7]
    assert labels(images) == [4, 0, 1, 2, None]
    assert "by the paths of 1 listing" in images.notes
    with pytest.raises(OutOfReachError, match="is not there"):
        images.read(3)
    with pytest.raises(UnreadableError, match="has no path"):
        images.read(4)
    before = images.digest
    parquet(tmp_path / "list.parquet", listed | {"label": [4, 0, 1, 3, None]})
    assert find_images(tmp_path / "list.parquet").digest != before


def test_an_image_out_of_reach_is_to_be_read_again(store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, photos())
    images = find_images(f"{store.url}/photos")
    broken(monkeypatch, "cat_file", PermissionError("Forbidden"), "cat/2")
    ((samples, skipped),) = images.stream([[0, 1, 2]])
    assert [index for index, _ in samples] == [0, 2]
    assert [(one.id, one.again) for one in skipped] == [("cat/2.png", True)]
    assert "no permission" in skipped[0].why


def test_an_image_of_another_size_is_out_of_reach(store: Remote) -> None:
    put(store, photos())
    images = find_images(f"{store.url}/photos")
    put(store, {"photos/cat/2.png": png(2)[:20]})
    with pytest.raises(OutOfReachError, match="only 20 of"):
        images.read(1)


def test_images_are_fetched_ahead_of_their_use() -> None:
    gate, loaded = threading.Event(), []

    def load(index: int) -> bytes:
        gate.wait(5)
        loaded.append(index)
        return bytes([index])

    fetcher = Fetcher(load, lambda index: 1)
    fetcher.ahead([1, 2])
    gate.set()
    assert fetcher.get(2) == b"\2"
    assert fetcher.get(1) == b"\1"
    assert sorted(loaded) == [1, 2]
    fetcher.ahead([3])
    fetcher.ahead(())
    assert fetcher.get(3) == b"\3", "let go, and read all the same"


def test_no_more_is_fetched_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "HELD_BYTES", 25)
    loaded = []

    def load(index: int) -> bytes:
        loaded.append(index)
        return bytes(10)

    fetcher = Fetcher(load, lambda index: 10)
    fetcher.ahead(range(9))
    time.sleep(0.05)
    assert sorted(loaded) == [0, 1]
    assert len(fetcher.get(8)) == 10


def test_listing_says_how_far_it_is(store: Remote) -> None:
    put(store, photos())
    said: list[str] = []
    find_images(f"{store.url}/photos", progress=lambda done, total, what, *_: said.append(what))
    assert said[0] == f"listing {store.url}/photos"
    assert said[-1] == f"listing {store.url}/photos: 6 images"


# --- runs


def audited(store: Remote, **options: object) -> Run:
    if not list(store.walk("set/")):
        put(store, {f"set/{i}.png": solid(i) for i in range(5)})
    asked = {"images": f"{store.url}/set", "only": ["shift_stability"], "out": f"{store.url}/runs/one"}
    return cuescope.audit(toy(MeanColor()), **asked | options)


def solid(i: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (16, 16), [(200, 0, 0), (0, 200, 0), (0, 0, 200)][i % 3]).save(data, "PNG")
    return data.getvalue()


def names(store: Remote) -> set[str]:
    return {entry.name.removeprefix("runs/one/") for entry in store.walk("runs/one/")}


def test_a_run_lies_at_an_address_as_here(store: Remote, tmp_path: Path) -> None:
    there = audited(store)
    here = audited(store, out=tmp_path / "one")
    files = {path.relative_to(here.path).as_posix() for path in here.path.rglob("*") if path.is_file()}
    assert names(store) == {name for name in files if not name.startswith(".")}
    assert there.place == f"{store.url}/runs/one"
    opened = Run.open(there.place)
    assert opened.frame().equals(here.frame())
    assert opened.finding("shift_stability").measures == here.finding("shift_stability").measures


def test_the_manifest_that_commits_is_written_last(store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = broken(monkeypatch, "pipe_file")
    audited(store)
    written = [path.partition("runs/one/")[2] for path in asked if "runs/one/" in path]
    kept = [name for name in written if not name.startswith(".")]
    assert kept[-1] == "manifest.json"
    assert kept.index(next(n for n in kept if "/rows/" in n)) < kept.index(next(n for n in kept if "finding" in n))


def test_what_was_skipped_is_copied_before_rows(store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process goes on there: it does not decode again what is in the rows."""
    asked = broken(monkeypatch, "pipe_file")
    mirror = Mirror(f"{store.url}/runs/one")
    with mirror.held():
        for name in ("cells/a/rows/000000.parquet", "skipped/b/000000.json"):
            (mirror.folder / name).parent.mkdir(parents=True)
            (mirror.folder / name).write_bytes(b"1")
    written = [path.partition("runs/one/")[2] for path in asked]
    assert written.index("skipped/b/000000.json") < written.index("cells/a/rows/000000.parquet")


def test_a_finished_run_at_an_address_is_only_read(store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    audited(store)
    asked = broken(monkeypatch, "pipe_file")
    audited(store)
    changed = {path.partition("runs/one/")[2] for path in asked if "runs/one/" in path}
    assert {name for name in changed if not name.startswith(".")} == set()


def test_a_chunk_that_is_there_is_not_done_again(store: Remote) -> None:
    run = audited(store)
    cell = next(iter(run.cells)).folder.name
    for name in ("manifest.json", "report.html", f"cells/{cell}/finding.json"):
        store.remove(f"runs/one/{name}")
    rows = store.read(f"runs/one/cells/{cell}/rows/000000.parquet")
    time.sleep(0.01)
    before = fsspec.filesystem("memory").modified(f"/bucket/runs/one/cells/{cell}/rows/000000.parquet")
    again = audited(store)
    assert again.finding("shift_stability").measures == run.finding("shift_stability").measures
    assert store.read(f"runs/one/cells/{cell}/rows/000000.parquet") == rows
    assert fsspec.filesystem("memory").modified(f"/bucket/runs/one/cells/{cell}/rows/000000.parquet") == before


def test_what_is_removed_here_is_removed_there(store: Remote) -> None:
    mirror = Mirror(f"{store.url}/runs/one")
    put(store, {"runs/one/manifest.json": b"{}", "runs/one/cells/a/rows/000000.parquet": b"1", "runs/one/x": b"2"})
    with mirror.held():
        (mirror.folder / "x").unlink()
        (mirror.folder / "cells/a/finding.json").write_bytes(b"3")
    assert names(store) == {"manifest.json", "cells/a/rows/000000.parquet", "cells/a/finding.json"}


def test_a_report_of_a_run_there_is_written_there(store: Remote, capsys: pytest.CaptureFixture[str]) -> None:
    from cuescope.cli.report import report

    run = audited(store)
    store.remove("runs/one/report.html")
    report(Path(run.place))
    assert capsys.readouterr().out.strip() == f"{run.place}/report.html"
    assert b"<html" in store.read("runs/one/report.html")


def test_what_is_no_run_is_left_alone(store: Remote) -> None:
    put(store, {"runs/one/holiday.png": b""})
    with pytest.raises(CueError, match="files that are not a run"):
        audited(store)
    with pytest.raises(CueError, match="no run in 'memory://bucket/none'"):
        Run.open(f"{store.url}/none")
    with pytest.raises(CueError, match="lies in --images"):
        AuditOptions.of(images=store.url, out=f"{store.url}/runs/two").check(["timm/resnet18"])


def test_a_name_that_leaves_the_folder_is_not_followed(store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(f"{store.url}/runs/one")
    monkeypatch.setattr(Remote, "read", lambda *_: b"x")
    monkeypatch.setattr(Remote, "walk", lambda self: iter([remotes.Entry("../../evil.json", 1, "")]))
    mirror.pull()
    assert not list(mirror.folder.parent.parent.glob("evil.json"))
    monkeypatch.setattr(Remote, "walk", lambda self: iter([remotes.Entry("/tmp/evil.json", 1, "")]))
    with pytest.raises(CueError, match="leaves the folder"):
        mirror.pull()


def write(mirror: Mirror, name: str) -> None:
    with mirror.held():
        (mirror.folder / name).write_bytes(b"{}")


def test_a_run_that_cannot_be_copied_is_kept_here(store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(f"{store.url}/runs/one")
    broken(monkeypatch, "pipe_file", OSError(errno.ENOSPC, "No space"), "manifest")
    with pytest.raises(CueError, match=r"cannot write to 'memory://bucket/runs/one': .*No space") as error:
        write(mirror, "manifest.json")
    kept = mirror.folder
    del mirror
    assert (kept / "manifest.json").is_file()
    assert str(kept) in error.value.do
    assert names(store) == set(), "the lock is given back"


# --- the lock


def test_one_process_at_a_time(store: Remote) -> None:
    first, second = Lease(store), Lease(store)
    first.take()
    assert first.beat()
    with pytest.raises(CueError, match=r"in use by process \d+ on"):
        second.take()
    assert not second.beat()
    second.leave()
    assert first.beat(), "what is not one's own is left"
    first.leave()
    second.take()


def test_a_lock_of_a_dead_process_is_taken(store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Lease(store), Lease(store)
    first.take()
    monkeypatch.setattr(leases, "STALE_S", -1.0)
    second.take()
    assert second.beat()
    assert not first.beat(), "the first sees that it is no longer its own"


def test_a_process_that_lost_its_lock_writes_no_more(store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(f"{store.url}/runs/one")
    monkeypatch.setattr(Lease, "beat", lambda self: False)
    with pytest.raises(CueError, match="another process has taken it over"):
        write(mirror, "manifest.json")
    assert names(store) == set()
    assert (mirror.folder / "manifest.json").is_file()


# --- other processes


@pytest.mark.parametrize("kind", ["folder", "tar", "table", "listing", "listing of far images here"])
def test_a_set_at_an_address_goes_to_another_process(kind: str, store: Remote, tmp_path: Path) -> None:
    """As it is sent there: while something of it is on its way."""
    put(store, {f"set/{name}/{i}.png": png(i) for i, name in enumerate(("cat", "dog"))})
    url = f"{store.url}/set"
    if kind == "tar":
        put(store, {"a.tar": tar(tmp_path / "a.tar", shard(0, ["cat", "dog"])).read_bytes()})
        url = f"{store.url}/a.tar"
    elif kind == "table":
        path = parquet(tmp_path / "a.parquet", {"image": structs(9), "label": [i % 3 for i in range(9)]}, NAMED)
        put(store, {"a.parquet": path.read_bytes()})
        url = f"{store.url}/a.parquet"
    elif kind != "folder":
        far = kind == "listing"
        paths = [f"{'' if far else url + '/'}{name}" for name in ("cat/0.png", "dog/1.png")]
        path = parquet(tmp_path / "listing.parquet", {"path": paths, "label": ["cat", "dog"]})
        put(store, {"set/listing.parquet": path.read_bytes()})
        url = f"{url}/listing.parquet" if far else str(path)
    images = find_images(url)
    images.ahead(range(len(images)))
    images.read(0)
    sent = pickle.loads(pickle.dumps(images))
    sent.ahead(range(len(images)))
    assert (values(sent), labels(sent), sent.digest) == (values(images), labels(images), images.digest)


@pytest.mark.parametrize("option", [{"shard": "1/2"}, {"engine": "ray"}])
def test_several_machines_do_not_write_to_an_address(option: dict[str, str], store: Remote) -> None:
    with pytest.raises(CueError, match="--out memory"):
        AuditOptions.of(images="world:congruent:8", out=f"{store.url}/runs/one", **option).check(["timm/resnet50"])
