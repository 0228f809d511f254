"""Images inside tars and Parquet files."""

import io
import json
import tarfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from cuescope.core.alignment import align
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, UnreadableError
from cuescope.data.readers import read_stored, spool
from cuescope.runs.inputs import find_images, open_inputs, sources


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((2, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, "w") as file:
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            file.addfile(about, io.BytesIO(data))
    return path


def shard(first: int, labels: list[str], suffix: str = "cls") -> dict[str, bytes]:
    files = {}
    for i, label in enumerate(labels, first):
        files |= {f"{i:04}.png": png(i), f"{i:04}.{suffix}": label.encode()}
    return files


def parquet(path: Path, columns: Mapping[str, Any], features: Mapping[str, Any] | None = None) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    pl.DataFrame(columns).write_parquet(path, metadata=metadata, row_group_size=40)
    return path


def structs(count: int) -> list[dict[str, Any]]:
    return [{"bytes": png(i), "path": f"{i}.png"} for i in range(count)]


NAMED = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["emu", "cat", "dog"]}}


def values(images: ImageSet) -> list[int]:
    return [int(images.read(i).pixels[0, 0, 0]) for i in range(len(images))]


def labels(images: ImageSet) -> list[int | None]:
    return [images.label(i) for i in range(len(images))]


# --- tars


def test_labels_of_a_tar_are_beside_the_images(tmp_path: Path) -> None:
    images = find_images(tar(tmp_path / "a.tar", shard(0, ["2", "0", "1"])))
    assert [images.id(i) for i in range(3)] == ["0000.png", "0001.png", "0002.png"]
    assert values(images) == [0, 1, 2]
    assert labels(images) == [2, 0, 1]
    assert images.classes
    assert images.classes.name == "by index"
    assert "labels from the .cls and .json files beside the images" in images.notes


def test_several_tars_are_one_set(tmp_path: Path) -> None:
    tar(tmp_path / "b-001.tar", shard(0, ["1", "0"]))
    tar(tmp_path / "b-000.tar", shard(0, ["0", "1"]))
    images = find_images(tmp_path)
    assert [images.id(i) for i in range(4)] == [f"b-00{k}.tar/000{i}.png" for k in (0, 1) for i in (0, 1)]
    assert labels(images) == [0, 1, 1, 0]
    assert find_images(tmp_path, limit=2).id(1) == "b-001.tar/0000.png"


@pytest.mark.parametrize(
    ("suffix", "texts", "expected"),
    [
        ("json", ['{"label": 1}', '{"label": 0}'], [1, 0]),
        ("json", ['{"label": "dog", "width": 3}', '{"label": "cat"}'], [1, 0]),
        ("json", ['{"caption": "x"}', '{"cls": 3}'], [None, 3]),
        ("cls", ["dog\n", "cat\n"], [1, 0]),
        ("json", ["no json", "{}"], [None, None]),
        ("txt", ["a cat", "a dog"], [None, None]),
    ],
)
def test_forms_of_labels(tmp_path: Path, suffix: str, texts: list[str], expected: list[int | None]) -> None:
    assert labels(find_images(tar(tmp_path / "a.tar", shard(0, texts, suffix)))) == expected


def test_class_folders_in_tars(tmp_path: Path) -> None:
    tar(tmp_path / "1.tar", {"./cat/0.png": png(1), "./cat/._0.png": b"", "./dog/0.png": png(2)})
    assert labels(find_images(tmp_path / "1.tar")) == [0, 1]
    tar(tmp_path / "2.tar", {"train/emu/0.png": png(3), "train/cat/7.png": png(4), "readme.md": b""})
    images = find_images(tmp_path)
    assert images.classes
    assert images.classes.names == ("cat", "dog", "emu")
    assert labels(images) == [0, 1, 2, 0]
    assert "1 files that are no image passed over" in images.notes


def test_bad_tars(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(CueError, match="cannot be read as a tar"):
        read_stored(tmp_path / "a.tar")
    with pytest.raises(CueError, match="no image in"):
        read_stored(tar(tmp_path / "b.tar", {"a.txt": b"x"}))
    images = read_stored(tar(tmp_path / "c.tar", {"a.png": b"no image", "b.png": png(1), "./b.png": png(2)}))
    assert images is not None
    assert [(s.id, s.why) for s in images.skipped] == [("b.png", "a second file of this name in its tar")]
    with pytest.raises(UnreadableError, match="not an image"):
        images.read(0)
    (tmp_path / "c.tar").unlink()
    with pytest.raises(UnreadableError, match="its tar is not there"):
        images.read(1)


# --- Parquet


def test_a_dataset_of_hugging_face(tmp_path: Path) -> None:
    for k, split in enumerate(("train", "test")):
        rows = {"image": structs(100)[k:], "label": [i % 3 for i in range(100 - k)]}
        parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", rows, NAMED)
    images = find_images(tmp_path)
    assert len(images) == 199
    assert images.notes[0] == "test, train are read together; give one of them to audit it alone"
    assert images.id(0) == "test-00000-of-00001/0"
    assert values(images) == [*range(1, 100), *range(100)]
    assert images.classes
    assert images.classes.names == ("emu", "cat", "dog")
    assert labels(images)[:4] == [0, 1, 2, 0]
    assert align(images.classes, ClassSpace("mine", ("cat", "dog", "emu"))) == (2, 0, 1)
    assert align(images.classes, ClassSpace.numbered(3)) == (0, 1, 2)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"image": [png(0), png(1)], "label": [1, 0]}, [1, 0]),
        ({"img": structs(2), "fine_label": ["dog", "cat"]}, [1, 0]),
        ({"jpg": [png(0), png(1)], "caption": ["x", "y"]}, [None, None]),
        ({"id": [7, 8], "x": structs(2), "label": [None, 3]}, [None, 3]),
        ({"image": [png(0), png(1)], "label": [-1, 0]}, [None, 0]),
    ],
)
def test_other_tables(tmp_path: Path, columns: dict[str, Any], expected: list[int | None]) -> None:
    images = find_images(parquet(tmp_path / "a.parquet", columns))
    assert values(images) == [0, 1]
    assert labels(images) == expected


def test_bad_tables(tmp_path: Path) -> None:
    with pytest.raises(CueError, match="has no column of images; it has: text, label"):
        read_stored(parquet(tmp_path / "a.parquet", {"text": ["x"], "label": [1]}))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(CueError, match="cannot be read as Parquet"):
        read_stored(tmp_path / "b.parquet")
    rows = {"image": [{"bytes": None, "path": "x.png"}, {"bytes": png(1), "path": None}]}
    images = read_stored(parquet(tmp_path / "c.parquet", rows))
    assert images is not None
    with pytest.raises(UnreadableError, match="holds no bytes"):
        images.read(0)
    assert images.read(1).pixels.shape == (3, 2, 3)


def test_threads_read_the_same_pixels(tmp_path: Path) -> None:
    images = find_images(parquet(tmp_path / "a.parquet", {"image": structs(200)}))
    wanted, found = list(range(200)), dict[int, int]()

    def read(start: int) -> None:
        found.update({i: int(images.read(i).pixels[0, 0, 0]) for i in range(start, 200, 4)})

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(200)] == wanted


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_rows_that_are_read_at_random_are_kept_where_there_is_room(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SHARE", share)
    rows = {"image": [*structs(40), {"bytes": None, "path": "x"}, *structs(9)]}
    monkeypatch.setattr("cuescope.data.readers.parquet.BLOCK_BYTES", 1)
    images = read_stored(parquet(tmp_path / "a.parquet", rows))
    assert images is not None
    order, expected = [i for i in range(50) if i != 40], [*range(40), *range(9)]
    for _ in range(3):
        assert [int(images.read(i).pixels[0, 0, 0]) for i in order] == expected
    (tmp_path / "a.parquet").unlink()
    if share:
        assert [int(images.read(i).pixels[0, 0, 0]) for i in reversed(order)] == expected[::-1]
    for i in [40] if share else [40, 0]:
        with pytest.raises(UnreadableError, match="not there"):
            images.read(i)


# --- what is such a set


def test_a_folder_with_images_is_none(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "0.png").write_bytes(png(1))
    parquet(tmp_path / "labels.parquet", {"file": ["cat/0.png"]})
    assert read_stored(tmp_path) is None
    assert find_images(tmp_path).id(0) == "cat/0.png"


def saved(folder: Path, columns: Mapping[str, Any], rows: int = 7, file: str = "data-00000-of-00001.arrow") -> Path:
    """A dataset as save_to_disk writes it, so many rows a batch."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pl.DataFrame(columns)
    streams = []
    for at in range(0, table.height, rows):
        buffer = io.BytesIO()
        table[at : at + rows].rechunk().write_ipc_stream(buffer, compat_level=pl.CompatLevel.oldest())
        streams.append(buffer.getvalue())
    # The schema is the first message of each stream, and 8 bytes end it.
    start = 8 + int.from_bytes(streams[0][4:8], "little")
    rest = b"".join(stream[start:-8] for stream in streams)
    (folder / file).write_bytes(streams[0][:start] + rest + streams[0][-8:])
    (folder / "dataset_info.json").write_text(json.dumps({"features": NAMED}))
    return folder


def test_a_dataset_that_was_saved_to_disk(tmp_path: Path) -> None:
    saved(tmp_path / "set" / "train", {"image": structs(100), "label": [i % 3 for i in range(100)]})
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    images = find_images(tmp_path / "set")
    assert values(images) == [*range(100)]
    assert labels(images)[:4] == [0, 1, 2, 0]
    assert images.classes
    assert images.classes.names == ("emu", "cat", "dog")
    assert images.id(99) == "data-00000-of-00001/99"
    assert int(images.read(5).pixels[0, 0, 0]) == 5
    saved(tmp_path / "set" / "test", {"image": structs(9), "label": [2] * 9})
    both = find_images(tmp_path / "set")
    assert (len(both), both.id(0), both.id(9)) == (109, "test/data-00000-of-00001/0", "train/data-00000-of-00001/0")


def test_a_saved_dataset_that_cannot_be_read_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set", {"image": structs(20), "label": [0] * 20})
    whole = (folder / "data-00000-of-00001.arrow").read_bytes()
    for data in (b"\xff\xff\xff\xff", b"no arrow stream", whole[:-300], b"ARROW1\0\0" + whole):
        (folder / "data-00000-of-00001.arrow").write_bytes(data)
        with pytest.raises(CueError, match=r"cannot be read as an Arrow stream|has no row"):
            find_images(folder)


def test_digest_changes_with_the_file(tmp_path: Path) -> None:
    digests = set()
    make: list[Callable[[], Path]] = [
        lambda: tar(tmp_path / "a.tar", shard(0, ["0", "1"])),
        lambda: tar(tmp_path / "a.tar", shard(0, ["1", "0"])),
        lambda: tar(tmp_path / "a.tar", shard(1, ["1", "0"])),
    ]
    for one in make:
        digests.add(find_images(one()).digest)
    assert len(digests) == 3
    assert find_images(tmp_path / "a.tar").digest in digests


def test_it_is_an_input_of_an_audit(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", shard(0, ["0", "1"]))
    sources()["images"].check(path)
    assert len(open_inputs({"images": str(path)})["images"]) == 2
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(CueError, match="is a file"):
        sources()["images"].check(tmp_path / "a.txt")
    with pytest.raises(CueError, match=r"--labels with a\.tar, which is no folder"):
        find_images(path, labels=tmp_path / "a.txt")
