"""Folders of images, their labels and cues."""

import json
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from cuescope.core.alignment import align
from cuescope.core.classes import IMAGENET, ClassSpace
from cuescope.core.errors import CueError
from cuescope.data import images as data_images
from cuescope.data.images import Sample, each
from cuescope.data.readers import imagenet, read_cue_conflict, read_folder, read_real, real_labels
from cuescope.data.readers.cue_conflict import cues_of, instances_of
from cuescope.data.readers.files import FileSet, Names

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a folder with a one-pixel image under each name, and other files with the text given."""

    def folder(*names: str, **texts: str) -> Path:
        root = tmp_path / "set"
        root.mkdir(exist_ok=True)
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"P6 1 1 255 " + bytes([len(name), 0, 0]))
        for name, text in texts.items():
            (root / f"{name}.csv").write_text(text)
        return root

    return folder


def labels(images: FileSet) -> dict[str, int | None]:
    return {images.id(i): images.label(i) for i in range(len(images))}


def names(images: FileSet) -> tuple[str, ...]:
    return images.classes.names if images.classes else ()


# --- labels from folder names


@pytest.mark.parametrize(
    ("files", "classes", "expected"),
    [
        (["b/1.png", "a/2.png", "a/1.png"], ["a", "b"], {"a/1.png": 0, "a/2.png": 0, "b/1.png": 1}),
        (["a/x/1.png", "a/y/1.png", "b/1.png"], ["a", "b"], {"a/x/1.png": 0, "a/y/1.png": 0, "b/1.png": 1}),
        (["val/a/1.png", "val/b/1.png"], ["a", "b"], {"val/a/1.png": 0, "val/b/1.png": 1}),
        (["d/val/a/1.png", "d/val/b/c/1.png"], ["a", "b"], {"d/val/a/1.png": 0, "d/val/b/c/1.png": 1}),
        (["test/a/1.png", "train/a/1.png", "train/b/1.png"], ["a", "b"],
         {"test/a/1.png": 0, "train/a/1.png": 0, "train/b/1.png": 1}),
        (["train/1.png", "test/1.png"], [], {"test/1.png": None, "train/1.png": None}),
        (["only/1.png"], ["only"], {"only/1.png": 0}),
        (["val/only/1.png"], ["only"], {"val/only/1.png": 0}),
        (["a/1.png", "a/b/1.png"], ["a"], {"a/1.png": 0, "a/b/1.png": 0}),
        (["0.png", "b/1.png", "a/1.png"], ["a", "b"], {"0.png": None, "a/1.png": 0, "b/1.png": 1}),
        (["2.png", "1.png"], [], {"1.png": None, "2.png": None}),
    ],
)  # fmt: skip
def test_class_is_the_folder_level_at_which_images_part(
    make: Make, files: list[str], classes: list[str], expected: dict[str, int | None]
) -> None:
    images = read_folder(make(*files))
    assert labels(images) == expected
    assert list(labels(images)) == list(expected)
    assert list(names(images)) == classes
    assert images.knows == ({"label"} if classes else frozenset())


def test_what_was_read_together_or_without_label_is_said(make: Make) -> None:
    root = make("0.png", "train/a/1.png", "test/a/1.png", "readme.md")
    assert read_folder(root).notes == (
        "test, train are read together; give one of them to audit it alone",
        "labels from folder names: 1 class",
        "without a label: 1 of 3 images",
        "1 file that is no image passed over",
    )


def test_sample_holds_pixels_and_label(make: Make) -> None:
    sample = read_folder(make("a/1.png", "bb/1.png")).read(1)
    assert (sample.id, sample.label, sample.framing) == ("bb/1.png", 1, "photograph")
    assert sample.pixels.tolist() == [[[8]], [[0]], [[0]]]


def test_folder_name_is_the_name(make: Make) -> None:
    root = make("1.png")
    assert (read_folder(root).name, read_folder(root, name="mine").name) == ("set", "mine")


# --- labels from a CSV


def test_labels_csv_in_the_folder_is_used_and_said(make: Make) -> None:
    root = make("x/1.png", "2.png", labels="file,index\nx/1.png,7\n2.png,0\n")
    images = read_folder(root)
    assert labels(images) == {"2.png": 0, "x/1.png": 7}
    assert images.notes == ("labels from labels.csv, found in the folder: index of 2 classes",)


@pytest.mark.parametrize(
    "text",
    [
        "index,file\n7,./x/1.png\n3,2.png\n",
        "\ufeffFile, Index \r\nx\\1.png, 7\r\n\r\n2.png ,3\r\n",
        'file,extra,index\n"x/1.png","a,b",7\n2.png,,3\n',
    ],
)
def test_csv_dialects(make: Make, text: str) -> None:
    root = make("x/1.png", "2.png", mine=text)
    assert labels(read_folder(root, labels=root / "mine.csv")) == {"2.png": 3, "x/1.png": 7}


def test_index_is_the_classifiers_own(make: Make) -> None:
    images = read_folder(make("1.png", "2.png", labels="file,index,name\n1.png,0,tench\n2.png,3,jay\n"))
    assert names(images) == ("tench", "class 1", "class 2", "jay")
    assert images.classes
    for classifier in (
        ClassSpace.numbered(4),
        ClassSpace("mine", ("Tench", "b", "c", "jay", "e")),
        ClassSpace("keyed", ("tench", *"bc", "jay"), tuple("abcd")),
    ):
        assert align(images.classes, classifier) == (0, 1, 2, 3)
    with pytest.raises(CueError, match="the labels CSV has index 3, the classifier has 2 classes"):
        align(images.classes, ClassSpace.numbered(2))


def test_wnid_is_the_key_where_the_classifier_has_it(make: Make) -> None:
    table = "file,index,wnid\n1.png,0,n01\n2.png,2,n03\n"
    images = read_folder(make("1.png", "2.png", labels=table))
    assert images.classes
    assert align(images.classes, ClassSpace("other order", ("c", "b", "a"), ("n03", "n02", "n01"))) == (2, -1, 0)
    assert align(images.classes, ClassSpace.numbered(3)) == (0, 1, 2)


def test_a_column_twice_is_refused(make: Make) -> None:
    with pytest.raises(CueError, match="has the column label twice"):
        read_folder(make("1.png", labels="file,label,label\n1.png,cat,dog\n"))


def test_a_column_that_might_be_the_label_too_is_told(make: Make) -> None:
    images = read_folder(make("1.png", "2.png", labels="file,label,breed\n1.png,cat,tabby\n2.png,dog,pug\n"))
    assert names(images) == ("pug", "tabby")
    assert "labels.csv: a label is such as 'tabby'; its column label is not read" in images.notes
    assert not any("not read" in note for note in read_folder(make("3.png", labels="file,label\n3.png,cat\n")).notes)


@pytest.mark.parametrize("second", ["1.png,0,n01\n2.png,0,n02", "1.png,0,n01\n2.png,1,n01"])
def test_wnid_that_contradicts_index_is_not_used_and_said(make: Make, second: str) -> None:
    images = read_folder(make("1.png", "2.png", labels=f"file,index,wnid\n{second}\n"))
    assert images.classes
    assert images.classes.keys == ()
    assert "the wnid column of labels.csv is not one to one with its index column and is not used" in images.notes


def test_rows_without_image_are_skipped_and_images_without_row_counted(make: Make) -> None:
    table = "file,index\n1.png,0\ngone.png,1\n../away.png,1\nnotes.csv,0\nlost.png,1\n"
    root = make("1.png", "2.png", labels=table, notes="x")
    (root / "lost.png").symlink_to(root / "nothing.png")
    images = read_folder(root)
    assert len(images.skipped) == 4
    assert labels(images) == {"1.png": 0, "2.png": None}
    assert {skipped.id: skipped.why for skipped in images.skipped} == {
        "gone.png": "listed in labels.csv, but not there",
        "../away.png": "listed in labels.csv, but it lies outside the folder",
        "notes.csv": "listed in labels.csv, but it is no image",
        "lost.png": "a link to a file that is not there",
    }
    assert "without a label: 1 of 2 images" in images.notes


@pytest.mark.parametrize(("absent", "told"), [(20, 20), (21, 0)])
def test_the_table_of_a_larger_set_is_told_in_one_note(make: Make, absent: int, told: int) -> None:
    rows = "".join(f"gone{i}.png,1\n" for i in range(absent))
    images = read_folder(make("1.png", "2.png", labels=f"file,index\n1.png,0\n2.png,1\n{rows}"))
    assert len(images.skipped) == told
    note = "21 rows of labels.csv name no image in the folder, such as 'gone0.png'"
    assert (note in images.notes) == (not told)


BAD_TABLES = {
    "": "lacks the columns file and index or name; it has: none",
    "1.png,0\n": "lacks the columns file and index or name; it has: 1.png, 0",
    "file,caption\n1.png,0\n": "lacks the column index or name; it has: file, caption",
    "file,index\n": "has no row",
    "file,index\n1.png,tench\n": "line 2: index 'tench'",
    "file,index\n1.png,1.5\n": "line 2: index '1.5'",
    "file,index\n1.png,nan\n": "line 2: index 'nan'",
    "file,index,name\n1.png,1,a\n2.png,1,b\n": "line 3: index 1 is 'b' here and 'a' above",
    "file,name\n1.png,a\n1.png,b\n": "line 3: '1.png' has label b here and a above",
    "file,name\n1.png,\n": "has no label",
    "file,index\n1.png,-1\n": "line 2: index '-1'",
    "file,index\n1.png,1000000\n": "line 2: index '1000000'",
    "file,index\n1.png,\n": "line 2: index ''",
    "file,index\n1.png\n": "line 2: 1 values for 2 columns",
    "file,index\n1.png,0\n1.png,1\n": "line 3: '1.png' has index 1 here and 0 above",
    "file,index\nother/1.png,0\n": r"none of the 1 files in .* \(such as 'other/1.png'\)",
}


@pytest.mark.parametrize("text", BAD_TABLES, ids=BAD_TABLES.values())
def test_malformed_csv_is_one_clear_error(make: Make, text: str) -> None:
    with pytest.raises(CueError, match=BAD_TABLES[text]):
        read_folder(make("1.png", labels=text))


def test_csv_that_is_none(make: Make) -> None:
    root = make("1.png")
    with pytest.raises(CueError, match=r"'.*none.csv' cannot be read: No such file"):
        read_folder(root, labels=root / "none.csv")
    (root / "labels.csv").write_bytes(b"file,index\n\xff\xfe,0\n")
    with pytest.raises(CueError, match="is no CSV in UTF-8"):
        read_folder(root)


# --- what is found


def test_hidden_files_are_passed_over_and_unknown_names_looked_into(make: Make) -> None:
    root = make("a/1.png", "a/.2.png", ".b/3.png", "a/4", "a/5.data", "a/6.txt", "a/7.JPEG")
    (root / "a" / "8.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    (root / "a" / "9.JPG").write_text("damaged")
    images = read_folder(root)
    assert list(labels(images)) == ["a/1.png", "a/4", "a/5.data", "a/7.JPEG", "a/9.JPG"]
    assert images.notes[-1] == "2 files that are no image passed over"


def test_links_are_followed_without_end_or_doubles(make: Make, tmp_path: Path) -> None:
    root = make("a/1.png")
    away = tmp_path / "away"
    away.mkdir()
    (away / "2.png").write_bytes(b"P6 1 1 255 abc")
    (root / "b").symlink_to(away)
    (root / "c").symlink_to(away)
    (away / "back").symlink_to(root)
    (root / "a" / "here").symlink_to(root / "a")
    (root / "a" / "lost.png").symlink_to(tmp_path / "nothing.png")
    (root / "up").symlink_to(tmp_path)
    (root / ".store").mkdir()
    (root / ".store" / "3.png").write_bytes(b"P6 1 1 255 abc")
    (root / "d").symlink_to(root / ".store")
    images = read_folder(root)
    assert list(labels(images)) == ["a/1.png", "b/2.png", "d/3.png"]
    assert {skipped.id: skipped.why for skipped in images.skipped} == {
        "a/lost.png": "a link to a file that is not there",
        **dict.fromkeys(["a/here/", "b/back/", "c/", "up/"], "a link to a folder that is read already"),
    }


def test_name_that_no_table_could_hold_is_skipped(make: Make) -> None:
    root = make("1.png")
    Path(os.fsdecode(bytes(root) + b"/\xff.png")).write_bytes(b"P6 1 1 255 abc")
    images = read_folder(root)
    assert [(skipped.id, skipped.why) for skipped in images.skipped] == [
        (r"\xff.png", "the file name is not valid UTF-8")
    ]


def deny(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    allowed = os.scandir

    def scandir(path: Path) -> Iterable[os.DirEntry[str]]:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied")
        return allowed(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_folder_that_may_not_be_read(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make("a/1.png", "b/1.png")
    deny(monkeypatch, root / "b")
    images = read_folder(root)
    assert list(labels(images)) == ["a/1.png"]
    assert [(s.id, s.why) for s in images.skipped] == [("b/", "the folder cannot be read: Permission denied")]
    deny(monkeypatch, root)
    with pytest.raises(CueError, match="cannot be read: Permission denied"):
        read_folder(root)


@pytest.mark.parametrize("read", [read_folder, read_cue_conflict])
def test_wrong_paths(make: Make, read: Callable[[Path], FileSet]) -> None:
    root = make(notes="no image here")
    with pytest.raises(CueError, match=r"no folder '.*nowhere'"):
        read(root / "nowhere")
    with pytest.raises(CueError, match=r"'.*notes.csv' is a file\n"):
        read(root / "notes.csv")
    with pytest.raises(CueError, match=r"no image in '.*'; it has 1 other file\n"):
        read(root)
    (root / "notes.csv").unlink()
    with pytest.raises(CueError, match=r"no image in '.*': it is empty"):
        read(root)
    (root / "1.png").symlink_to(root / "gone.png")
    with pytest.raises(CueError, match=r"no image in '.*': '1.png' is a link to a file that is not there"):
        read(root)


# --- limit, digest, memory


def test_limit_is_spread_over_the_classes(make: Make) -> None:
    root = make(*(f"{kind}/{i}.png" for kind in "abcd" for i in range(5)))
    images = read_folder(root, limit=4)
    assert labels(images) == {"a/0.png": 0, "b/0.png": 1, "c/0.png": 2, "d/0.png": 3}
    assert images.notes[-1] == "4 of 20 images, evenly spread"
    assert len(read_folder(root, limit=99)) == 20
    assert read_folder(root, limit=20).notes == read_folder(root).notes
    for limit in (0, -1):
        with pytest.raises(CueError, match=f"limit {limit}"):
            read_folder(root, limit=limit)


def test_digest_changes_with_files_and_labels(make: Make, tmp_path: Path) -> None:
    root = make("a/1.png", "b/1.png")
    digests = [read_folder(root).digest]
    assert read_folder(root).digest == digests[0]
    os.utime(root / "a/1.png", ns=(1, 1))
    digests.append(read_folder(root).digest)
    (root / "a/1.png").write_bytes(b"P6 1 1 255 abc more")
    os.utime(root / "a/1.png", ns=(1, 1))
    digests.append(read_folder(root).digest)
    digests.append(read_folder(root, limit=1).digest)
    for i, table in enumerate(("a/1.png,0,x", "a/1.png,0,y", "a/1.png,1,x", "b/1.png,1,x")):
        (tmp_path / f"{i}.csv").write_text(f"file,index,name\n{table}\n")
        digests.append(read_folder(root, labels=tmp_path / f"{i}.csv").digest)
    (root / "b").rename(root / "c")
    digests.append(read_folder(root).digest)
    assert len(set(digests)) == len(digests)


def test_digest_does_not_stop_at_a_file_that_went(make: Make) -> None:
    root = make("a.png", "b.png")
    images = read_folder(root)
    (root / "b.png").unlink()
    assert images.digest


def test_names_are_a_sequence() -> None:
    texts = ["a/ä.png", "", "b"]
    assert list(Names(texts)) == texts
    assert list(Names(texts).take(np.array([2, 0]))) == ["b", "a/ä.png"]
    with pytest.raises(IndexError):
        Names(texts)[-1]


def test_stream_goes_on_after_bad_files(make: Make) -> None:
    root = make("a/1.png", "a/2.png", "b/3.png")
    (root / "a/2.png").write_text("no image")
    images = read_folder(root)
    groups = list(images.stream([[0, 1], [2]]))
    assert [[index for index, _ in samples] for samples, _ in groups] == [[0], [2]]
    assert [(s.id, s.why) for _, skipped in groups for s in skipped] == [
        ("a/2.png", "not an image: the file holds text")
    ]


def test_stream_holds_no_more_decoded_bytes_than_it_may(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    images = read_folder(make("a/1.png", "a/2.png", "b/3.png", "b/4.png"))
    wanted = [images.read(i).pixels for i in range(4)]
    reads: list[int] = []
    read = FileSet.read
    monkeypatch.setattr(FileSet, "read", lambda self, i: reads.append(i) or read(self, i))
    two = wanted[0].numel() + wanted[1].numel()
    groups = list(images.stream([[0, 1, 2, 3]], workers=1, held_bytes=two))
    (samples, _), found = groups[0], []
    assert reads == [0, 1, 2, 3]
    found = [sample.pixels for _, sample in samples]
    assert reads == [0, 1, 2, 3, 2, 3], "what is beyond the budget is decoded again"
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert [sample.label for _, sample in samples] == [0, 0, 1, 1]
    reads.clear()
    for samples, _ in images.stream([[0], [1], [2], [3]], workers=1, held_bytes=two):
        assert samples[0][1].pixels.numel()
    assert reads == [0, 1, 2, 3], "what the reader is done with counts no more"


def test_large_images_are_let_go_once_their_group_was_used(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = read_folder(make("a/1.png", "a/2.png", "b/3.png", "b/4.png"))
    wanted = [images.read(i).pixels for i in range(4)]
    for most, held in ((0, [0, 0, 0, 0]), (2**20, [one.nbytes for one in wanted])):
        monkeypatch.setattr(data_images, "LARGE_BYTES", most)
        kept: list[Sample] = []
        for samples, _ in images.stream([[0], [1], [2], [3]], workers=1):
            # Whoever has a copy that knows more of it holds the same pixels.
            kept.append(samples[0][1].but(cues={"shape": "cat"}))
            assert kept[-1].held_bytes
        assert [sample.held_bytes for sample in kept] == held
        assert all(torch.equal(a.pixels, b) for a, b in zip(kept, wanted, strict=True))


def test_one_pool_serves_all_batches() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        names: set[str] = set()
        for _ in range(3):
            each(lambda _: names.add(threading.current_thread().name), 8)
    finally:
        torch.set_num_threads(before)
    assert len(names) <= 2
    assert all(name.startswith("images") for name in names)


# --- cue conflict


@pytest.mark.parametrize(
    ("name", "cues"),
    [
        ("airplane1-bicycle2", ("airplane", "bicycle")),
        ("airplane10-airplane1", ("airplane", "airplane")),
        ("airplane1-bicycle2-108", ("airplane", "bicycle")),
        ("Cat-Dog", ("cat", "dog")),
        ("polar_bear3-t34tank2", ("polar_bear", "t34tank")),
        ("airplane1", None),
        ("1-2", None),
        ("airplane1-", None),
        ("-bicycle1", None),
        ("a-b-c-d", None),
    ],
)
def test_cues_are_in_the_name(name: str, cues: tuple[str, str] | None) -> None:
    assert cues_of(f"folder-x/{name}.png") == (dict(zip(("shape", "texture"), cues, strict=True)) if cues else None)


def test_cue_conflict_folder(make: Make) -> None:
    images = read_cue_conflict(make("cat/cat1-dog2.png", "cat/cat1-cat2.png", "cat/cat.png"))
    assert images.knows == {"shape", "texture"}
    assert images.classes is None
    sample = images.read(1)
    assert isinstance(sample, Sample)
    cues = {"shape": "cat", "texture": "dog", "object": "cat1", "texture_image": "dog2"}
    assert (sample.cues, sample.label, sample.framing) == (cues, None, "stimulus")
    assert [skipped.id for skipped in images.skipped] == ["cat/cat.png"]
    assert images.notes == ("1 of 2 images show the same category as shape and as texture",)


@pytest.mark.parametrize("name", ["cat-dog", "cat1-dog", "cat-dog1", "photo"])
def test_without_both_numbers_nobody_knows_what_an_image_was_made_of(name: str) -> None:
    assert instances_of(f"{name}.png") == {}


def test_cue_conflict_folder_without_cues_is_an_error(make: Make) -> None:
    with pytest.raises(CueError, match=r"no image in '.*' is named by its cues \(such as 'photo.png'\)"):
        read_cue_conflict(make("photo.png"))


# --- ReaL


def real_file(tmp_path: Path, first: object = (5,), count: int = 50_000) -> Path:
    path = tmp_path / "real.json"
    path.write_text(json.dumps([first, [], [1, 2], *([[0]] * (count - 3))]))
    return path


def test_real_labels_count_images_from_one(tmp_path: Path) -> None:
    real = read_real(real_file(tmp_path))
    ids = ["v/ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000003_n01.png", "ILSVRC2012_val_00000002.JPEG", "x.png"]
    assert real_labels(ids, real) == {ids[0]: (5,), ids[1]: (1, 2)}
    with pytest.raises(CueError, match="not the ILSVRC 2012 validation images"):
        real_labels(["ILSVRC2012_val_00000000.JPEG", "ILSVRC2012_val_00050001.JPEG"], real)


def test_folder_with_real_labels_has_imagenets_classes(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = ClassSpace(IMAGENET, ("tench", "goldfish", "shark"), ("n01440764", "n01443537", "n01484850"))
    monkeypatch.setattr(imagenet, "imagenet_1k", lambda: space)
    root = make(
        "n01443537/ILSVRC2012_val_00000001.JPEG",
        "n01484850/ILSVRC2012_val_00000002.JPEG",
        "unheard-of/ILSVRC2012_val_00000003.JPEG",
        "ILSVRC2012_val_00000004.JPEG",
    )
    images = read_folder(root, real=real_file(tmp_path))
    assert images.classes == space
    samples = [images.read(i) for i in range(4)]
    expected = [(None, (0,)), (1, (5,)), (2, ()), (None, (1, 2))]
    assert [(sample.label, sample.labels) for sample in samples] == expected
    assert images.notes[-1].startswith("ReaL labels for 3 images")
    assert images.digest != read_folder(root, real=real_file(tmp_path, [6])).digest


def test_real_labels_alone(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = ClassSpace(IMAGENET, ("tench",), ("n01440764",))
    monkeypatch.setattr(imagenet, "imagenet_1k", lambda: space)
    images = read_folder(make("ILSVRC2012_val_00000001.JPEG"), real=real_file(tmp_path))
    assert (images.classes, images.knows, images.read(0).labels) == (space, frozenset({"label", "labels"}), (5,))


@pytest.mark.parametrize(
    ("first", "count", "found"),
    [
        ([0], 49_999, "holds 49,999 entries"),
        ("0", 50_000, "has 0 as entry 0"),
        ([1000], 50_000, r"has \[1000\] as entry 0"),
        ([True], 50_000, r"has \[True\] as entry 0"),
    ],
)
def test_file_that_is_not_reals(tmp_path: Path, first: object, count: int, found: str) -> None:
    with pytest.raises(CueError, match=found):
        read_real(real_file(tmp_path, first, count))


def test_real_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CueError, match="cannot be read"):
        read_real(tmp_path / "none.json")
    (tmp_path / "real.json").write_text("{}")
    with pytest.raises(CueError, match="holds a JSON dict"):
        read_real(tmp_path / "real.json")
    (tmp_path / "real.json").write_text("[")
    with pytest.raises(CueError, match="is not JSON"):
        read_real(tmp_path / "real.json")


# --- the real data


@pytest.mark.real
def test_imagenet_sample(data: Path) -> None:
    images = read_folder(data / "imagenet-sample")
    assert (len(images), images.skipped) == (500, ())
    assert images.notes == ("labels from labels.csv, found in the folder: index and WordNet id of 500 classes",)
    assert [images.label(i) for i in range(500)] == list(range(0, 1000, 2))
    listed = json.loads((data / "imagenet_classes.json").read_text())
    space = ClassSpace(IMAGENET, tuple(c["name"] for c in listed), tuple(c["wnid"] for c in listed))
    assert images.classes
    assert align(images.classes, space)[::2] == tuple(range(0, 1000, 2))


@pytest.mark.real
def test_cue_conflict_stimuli(data: Path) -> None:
    images = read_cue_conflict(data / "cue-conflict")
    cues = [cues_of(images.id(i)) or {} for i in range(len(images))]
    assert (len(images), images.skipped) == (640, ())
    assert sum(c["shape"] != c["texture"] for c in cues) == 601
    assert all(images.id(i).split("/")[0] == c["shape"] for i, c in enumerate(cues))


@pytest.mark.real
def test_cifar_splits_are_read_as_ten_classes(data: Path) -> None:
    images = read_folder(data / "cifar10-sample")
    assert len(names(images)) == 10
    assert np.bincount([images.label(i) or 0 for i in range(len(images))]).tolist() == [250] * 10


@pytest.mark.real
def test_real_json(data: Path) -> None:
    sizes = np.bincount(list(map(len, read_real(data / "real" / "real.json"))))
    assert (sizes[0], sizes[1], sizes[2], sizes[3], len(sizes) - 1) == (3_163, 39_394, 5_408, 1_319, 9)
