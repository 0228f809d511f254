"""Which folders are classes, and which image a table means: layouts and tables as people have them."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from cuescope.core.alignment import align, aligned
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.readers import read_folder
from cuescope.data.readers.class_folders import is_split
from cuescope.data.readers.files import FileSet

Make = Callable[..., Path]
CAFE = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a folder "set" with a one-pixel image under each name."""

    def folder(*names: str) -> Path:
        root = tmp_path / "set"
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"P6 1 1 255 abc")
        return root

    return folder


def named(images: FileSet) -> dict[str, str | None]:
    """The class of each image by name."""
    names = images.classes.names if images.classes else ()
    labels = ((images.id(i), images.label(i)) for i in range(len(images)))
    return {name: None if label is None else names[label] for name, label in labels}


SPLITS = [
    *("train", "training", "val", "valid", "validation", "test", "testing", "Train", "TEST", "trainval", "trainSet"),
    *("training_set", "test_set", "train2017", "val2017", "test-dev", "public_test", "test_images"),
    *("fold0", "fold_1", "fold-2", "split1", "images", "Images", "masks", "annotations", "labels"),
]


@pytest.mark.parametrize("word", SPLITS)
def test_a_folder_of_a_split_is_never_a_class(make: Make, word: str) -> None:
    assert is_split(word)
    flat = read_folder(make("cat/0.png", "dog/0.png", f"{word}/1.png"))
    assert named(flat) == {"cat/0.png": "cat", "dog/0.png": "dog", f"{word}/1.png": None}
    assert any(word in note for note in flat.notes)
    deep = read_folder(make(f"{word}/cat/2.png", f"{word}/emu/2.png"))
    assert named(deep)[f"{word}/emu/2.png"] == "emu"
    assert deep.classes
    assert deep.classes.names == ("cat", "dog", "emu")


@pytest.mark.parametrize(
    "word", ["cat", "trainer", "valve", "testudo", "image of a cat", "train station", "0", "folder"]
)
def test_other_words_are_classes(word: str) -> None:
    assert not is_split(word)


@pytest.mark.parametrize(
    "files",
    [
        {"train/cat/0.png": "cat", "train/dog/0.png": "dog", "test/0.png": None},
        {"training_set/cat/0.png": "cat", "training_set/dog/0.png": "dog", "test_set/dog/1.png": "dog"},
        {"seg_train/seg_train/sea/0.png": "sea", "seg_test/seg_test/ice/0.png": "ice", "seg_pred/seg_pred/1.png": None},
        {"fold0/train/cat/0.png": "cat", "fold0/val/dog/0.png": "dog", "fold1/train/dog/1.png": "dog"},
        {"data/train2017/0.png": None, "data/val2017/0.png": None},
        {"images/0.png": None},
        {"cat/train/0.png": "cat", "dog/test/0.png": "dog"},
        {"pets/train/0.png": None, "pets/test/0.png": None},
    ],
)  # fmt: skip
def test_layouts(make: Make, files: dict[str, str | None]) -> None:
    assert named(read_folder(make(*files))) == dict(sorted(files.items()))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            ["cat/0.png", "birds/emu/0.png", "birds/owl/0.png"],
            "'birds/emu' is read as a part of the class 'birds'",
        ),
        (["train/cat/0.png", "train/cat/old/0.png"], "'train/cat/old' is read as a part of the class 'cat', and 'cat'"),
        (["cat/0.png", "dog/train/1.png"], ""),
        (["cat/a/0.png", "dog/b/1.png"], ""),
    ],
)
def test_classes_at_two_depths_are_said(make: Make, files: list[str], said: str) -> None:
    notes = [note for note in read_folder(make(*files)).notes if "two depths" in note]
    assert len(notes) == bool(said)
    assert not said or said in notes[0]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            "file,name\ncat/0.png,dog\ncat/1.png,cat\ndog/0.png,dog",
            "'cat/0.png' is 'dog' there",
        ),
        ("file,name\ncat/0.png,cat\ncat/1.png,cat\ndog/0.png,dog", ""),
        ("file,name\ncat/0.png,red\ncat/1.png,blue\ndog/0.png,red", ""),
        ("file,index\ncat/0.png,1\ncat/1.png,0\ndog/0.png,0", ""),
    ],
)
def test_a_table_that_contradicts_the_folders_counts_and_is_said(make: Make, table: str, said: str) -> None:
    root = make("cat/0.png", "cat/1.png", "dog/0.png")
    (root / "labels.csv").write_text(table)
    images = read_folder(root)
    assert named(images)["cat/0.png"] == "dog" or not said
    notes = [note for note in images.notes if "contradicts" in note]
    assert len(notes) == bool(said)
    assert not said or ("1 of 3 images" in notes[0] and said in notes[0])


def test_masks_beside_images_are_passed_over_and_said(make: Make) -> None:
    images = read_folder(make("images/cat/0.png", "images/dog/0.png", "masks/cat/0.png", "masks/dog/0.png"))
    assert named(images) == {"images/cat/0.png": "cat", "images/dog/0.png": "dog"}
    assert "2 files in masks, beside images, passed over" in images.notes
    within = read_folder(make("a/images/0.png", "a/masks/0.png", "b/images/0.png"))
    assert "a/masks/0.png" not in named(within)


def test_folders_of_systems_are_passed_over_and_said(make: Make) -> None:
    root = make("cat/0.png", "cat/@eaDir/0.png/thumb.jpg", "__MACOSX/cat/._0.png", "dog/.ipynb_checkpoints/0.png")
    images = read_folder(make("dog/0.png", "@eaDir/1.png", "__MACOSX/cat/1.png"))
    assert named(images) == {"cat/0.png": "cat", "dog/0.png": "dog"}
    assert "folders of the system passed over: @eaDir, __MACOSX" in images.notes
    assert root == images.root


@pytest.mark.parametrize("width", [1, 3])
def test_folders_named_by_numbers_are_in_numeric_order(make: Make, width: int) -> None:
    images = read_folder(make(*(f"{i:0{width}}/0.png" for i in range(12))))
    assert [images.label(i) for i in range(12)] == [int(images.id(i).split("/")[0]) for i in range(12)]
    assert any("numeric order" in note for note in images.notes)


def test_wordnet_ids_before_names_are_keys(make: Make) -> None:
    images = read_folder(make("n02085620-Chihuahua/0.png", "n02085782-Japanese_spaniel/0.png"))
    assert images.classes
    assert images.classes.keys == ("n02085620", "n02085782")
    assert images.classes.names == ("Chihuahua", "Japanese_spaniel")


def test_numbers_before_names_order_them_and_are_no_part_of_them(make: Make) -> None:
    images = read_folder(make(*(f"{i}.kind_{chr(97 + i)}/0.png" for i in range(12))))
    assert images.classes
    assert images.classes.names[9:11] == ("kind_j", "kind_k")
    assert [images.label(i) for i in range(12)] == [int(images.id(i).split(".")[0]) for i in range(12)]
    assert align(images.classes, ClassSpace("mine", ("Kind K", "kind a"))) == (1, *[-1] * 9, 0, -1)
    assert align(images.classes, ClassSpace("mine", ("0.kind_a", "b"))) == (0, *[-1] * 11)
    assert "in numeric order" in aligned(images.classes, ClassSpace.numbered(12)).notes[0]


@pytest.mark.parametrize("names", [("2_of_clubs", "2_of_hearts"), ("1_euro", "5_euro"), ("3", "4_cats"), ("3d", "2d")])
def test_other_names_with_numbers_are_names(make: Make, names: tuple[str, str]) -> None:
    images = read_folder(make(*(f"{name}/0.png" for name in names)))
    assert images.classes
    assert images.classes.names == tuple(sorted(names))


# --- tables

TABLES = {
    "comma": "file,index\ncat/0.png,0\ndog/0.png,1\n",
    "semicolon": "file;index\ncat/0.png;0\ndog/0.png;1\n",
    "tab": "file\tindex\ncat/0.png\t0\ndog/0.png\t1\n",
    "bar": "file|index\ncat/0.png|0\ndog/0.png|1\n",
    "sep": "sep=;\r\nfile;index\r\ncat/0.png;0\r\ndog/0.png;1\r\n",
    "quotes": '"file", "index"\n"cat/0.png", "0"\n"dog/0.png", "1"\n',
    "float": "file,index\ncat/0.png,0.0\ndog/0.png,1.0\n",
    "decimal comma": "file;index\ncat/0.png;0,0\ndog/0.png;1,0\n",
    "twice": "file,index\ncat/0.png,0\ncat/0.png,0\ndog/0.png,1\n",
    "other columns": "image_path,class_id\ncat/0.png,0\ndog/0.png,1\n",
    "numbers as labels": "filename,label\ncat/0.png,0\ndog/0.png,1\n",
    "with names": "filename,label,class_name\ncat/0.png,0,cat\ndog/0.png,1,dog\n",
    "from windows": "file,index\ncat\\0.png,0\n.\\dog\\0.png,1\n",
    "windows, absolute": "file,index\nC:\\data\\set\\cat\\0.png,0\nC:\\data\\set\\dog\\0.png,1\n",
    "below its folder": "file,index\nset/cat/0.png,0\n./set/dog/0.png,1\n",
    "without suffix": "id,target\ncat/0,0\ndog/0,1\n",
    "absolute": "file,index\nROOT/cat/0.png,0\nROOT/dog/0.png,1\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_indices(make: Make, tmp_path: Path, kind: str, encoding: str) -> None:
    root = make("cat/0.png", "dog/0.png")
    (tmp_path / "a.csv").write_text(TABLES[kind].replace("ROOT", str(root)), encoding=encoding, newline="")
    images = read_folder(root, labels=tmp_path / "a.csv")
    assert [images.label(i) for i in range(2)] == [0, 1]
    assert images.classes
    assert images.classes.name == "by index"
    assert not images.skipped


def test_tables_of_names(make: Make, tmp_path: Path) -> None:
    root = make("0.png", "1.png", "2.png")
    (tmp_path / "a.csv").write_text("filename,label\n0.png,猫\n1.png,C++\n2.png,\n")
    images = read_folder(root, labels=tmp_path / "a.csv")
    assert named(images) == {"0.png": "猫", "1.png": "C++", "2.png": None}
    assert {"labels from a.csv: name of 2 classes", "1 rows of a.csv have no label"} <= set(images.notes)


@pytest.mark.parametrize(("on_disk", "in_table"), [CAFE, CAFE[::-1]])
def test_files_in_the_other_unicode_form_are_found_and_said(
    make: Make, tmp_path: Path, on_disk: str, in_table: str
) -> None:
    root = make(f"{on_disk}.png", "b.png")
    (tmp_path / "a.csv").write_text(f"file,index\n{in_table}.png,1\nb.png,0\n", encoding="utf-8")
    images = read_folder(root, labels=tmp_path / "a.csv")
    assert {images.id(i): images.label(i) for i in range(2)} == {f"{on_disk}.png": 1, "b.png": 0}
    assert any(note.startswith("1 files of a.csv are written otherwise") for note in images.notes)


def test_a_file_in_both_unicode_forms_is_found_in_its_own(make: Make, tmp_path: Path) -> None:
    root = make(*(f"{name}.png" for name in CAFE))
    (tmp_path / "a.csv").write_text("file,index\n" + "".join(f"{name}.png,{i}\n" for i, name in enumerate(CAFE)))
    images = read_folder(root, labels=tmp_path / "a.csv")
    assert {images.id(i): images.label(i) for i in range(2)} == {f"{name}.png": i for i, name in enumerate(CAFE)}


def test_two_rows_of_one_image_that_contradict_each_other(make: Make, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("file,index\n./set/0.png,0\n0.png,1\n")
    with pytest.raises(CueError, match=r"'set/0.png' and '0.png' in a.csv are both '0.png'"):
        read_folder(make("0.png"), labels=tmp_path / "a.csv")


def test_no_row_of_index_0_is_said(make: Make, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("file,index\n0.png,1\n1.png,2\n")
    images = read_folder(make("0.png", "1.png"), labels=tmp_path / "a.csv")
    assert "no row of a.csv has index 0, the least is 1: indices are taken to count from 0" in images.notes


def test_a_pipe_is_not_waited_for(make: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(CueError, match="no regular file"):
        read_folder(make("0.png"), labels=tmp_path / "pipe.csv")


def test_metadata_of_hugging_face(make: Make) -> None:
    root = make("train/0.png", "train/1.png", "test/0.png")
    (root / "train" / "metadata.csv").write_text("file_name,label\n0.png,cat\n1.png,dog\n")
    (root / "test" / "metadata.csv").write_text("file_name,label\n0.png,dog\n")
    assert named(read_folder(root)) == {"test/0.png": "dog", "train/0.png": "cat", "train/1.png": "dog"}
    for name in ("train", "test"):
        (root / name / "metadata.csv").unlink()
    (root / "metadata.jsonl").write_text(
        '{"file_name": "train/0.png", "label": 1}\n{"file_name": "test/0.png", "label": 0}'
    )
    images = read_folder(root)
    assert {images.id(i): images.label(i) for i in range(3)} == {"test/0.png": 0, "train/0.png": 1, "train/1.png": None}


def test_captions_are_no_labels_and_that_is_said(make: Make) -> None:
    root = make("cat/0.png", "dog/0.png")
    (root / "metadata.csv").write_text("file_name,text\ncat/0.png,a cat\n")
    images = read_folder(root)
    assert named(images) == {"cat/0.png": "cat", "dog/0.png": "dog"}
    assert any(note.startswith("metadata.csv says no labels: ") for note in images.notes)
