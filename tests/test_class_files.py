"""Files of class names in the forms that people have: read in the order of the outputs, or refused with the reason."""

import json
import os
from pathlib import Path

import pytest

from cuescope.core.classes import imagenet_1k, read_classes
from cuescope.core.errors import CueError

WANTED = ("cat", "polar bear", "emu")
PLAIN = "cat\npolar bear\nemu\n"
FORMS = {
    "plain.txt": PLAIN,
    "crlf.txt": PLAIN.replace("\n", "\r\n"),
    "tab.txt": "0\tcat\n2\temu\n1\tpolar bear",
    "comma.csv": "0,cat\n1,polar bear\n2,emu",
    "quoted.csv": '0,"cat"\n1,"polar bear"\n2,"emu"',
    "semicolon.csv": "0;cat\n1;polar bear\n2;emu",
    "colon.txt": "0: cat\n1: polar bear\n2: emu",
    "space.txt": "0 cat\n1 polar bear\n2 emu",
    "after.txt": "cat 0\npolar bear 1\nemu 2",
    "after.csv": "cat,0\npolar bear,1\nemu,2",
    "header.csv": "class_id,name\n2,emu\n0,cat\n1,polar bear",
    "header.tsv": "name\tindex\tcount\ncat\t0\t7\npolar bear\t1\t7\nemu\t2\t7",
    "column.csv": "name\n" + PLAIN,
    "quotes.txt": "'cat',\n'polar bear',\n'emu',",
    "list.json": json.dumps(WANTED),
    "rows.json": json.dumps([{"id": 2, "name": "emu"}, {"id": 0, "name": "cat"}, {"id": 1, "name": "polar bear"}]),
    "index.json": json.dumps({"2": "emu", "0": "cat", "1": "polar bear"}),
    "to_index.json": json.dumps({"emu": "2", "cat": "0", "polar bear": "1"}),
    "config.json": json.dumps({"model_type": "vit", "id2label": {"1": "polar bear", "0": "cat", "2": "emu"}}),
    "label2id.json": json.dumps({"label2id": {"polar bear": 1, "cat": 0, "emu": 2}}),
    "timm.json": json.dumps({"architecture": "x", "num_classes": 3, "label_names": WANTED}),
    "coco.json": json.dumps({"images": [], "categories": [{"id": i, "name": n} for i, n in enumerate(WANTED)]}),
    "dict.txt": "{0: 'cat',\n 1: 'polar bear',\n 2: 'emu'}",
    "assigned.py": "classes = ['cat', 'polar bear', 'emu']\n",
    "ultralytics.yaml": "# a set\npath: x\nnc: 3\nnames:\n  0: cat\n  1: polar bear\n  2: emu\n",
    "list.yml": "- cat\n- polar bear\n- emu\n",
    "dashes.txt": "- cat\n- polar bear\n- emu\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", FORMS)
def test_names_in_the_order_of_the_outputs(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_text(FORMS[name], encoding=encoding, newline="")
    space = read_classes(tmp_path / name)
    assert space.names == WANTED
    assert space.keys == ()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Boeing 707\nAirbus 380\nConcorde 1\n", ("Boeing 707", "Airbus 380", "Concorde 1")),
        ("class 0\nclass 1\n", ("class 0", "class 1")),
        ("polar bear\ngreat owl\n", ("polar bear", "great owl")),
        ("C\nC++\nC#\n", ("C", "C++", "C#")),
        ("7\n3\n", ("7", "3")),
        ("猫\n狗\n", ("猫", "狗")),
        ("- no\n- yes\n- 1.0\n", ("no", "yes", "1.0")),
        ("cat, tabby\ndog, poodle\n", ("cat, tabby", "dog, poodle")),
    ],
)
def test_names_that_hold_numbers_or_separators_are_names(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert read_classes(tmp_path / "a.txt").names == names


@pytest.mark.parametrize(
    "text",
    [
        "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n",
        "n01440764\ttench\nn01443537\tgoldfish\n",
        "n01440764 0 tench\nn01443537 1 goldfish\n",
        '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}',
        '[{"wnid": "n01440764", "name": "tench"}, {"wnid": "n01443537", "name": "goldfish"}]',
        '{"label_names": ["n01440764", "n01443537"], "label_descriptions": {"n01440764": "tench, Tinca", '
        '"n01443537": "goldfish"}}',
    ],
)
def test_synsets_have_their_ids_as_keys(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    space = read_classes(tmp_path / "a.txt")
    assert (space.names, space.keys) == (("tench", "goldfish"), ("n01440764", "n01443537"))


def test_a_mapping_in_python_is_one_of_indices_and_names() -> None:
    for mapping in ({1: "polar bear", 0: "cat", 2: "emu"}, {"emu": 2, "cat": 0, "polar bear": 1}):
        assert read_classes(mapping).names == WANTED
    with pytest.raises(CueError, match=r"the mapping of classes names no classes: .* there is no class 1"):
        read_classes({0: "cat", 2: "emu"})


def test_all_synsets_of_imagenet_are_imagenet(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(imagenet_1k().keys))
    assert read_classes(tmp_path / "a.txt") == imagenet_1k()
    assert read_classes(Path("imagenet-1k")) == imagenet_1k()


BAD = {
    "0\tcat\n2\temu\n": "indices go from 0 to 2, but there is no class 1",
    "1 cat\n2 dog\n3 emu\n": "it counts from 1",
    "0,cat\n0,dog\n": "index 0 stands there twice",
    '{"id2label": {"0": "cat", "2": "emu"}}': "there is no class 1",
    '{"id2label": {"0": "cat", "1": "emu"}, "label2id": {"cat": 1, "emu": 0}}': "id2label has 'cat' as class 0",
    '{"cat": 0, "dog": 0}': "index 0 stands there twice",
    '{"0": "cat", "0": "dog"}': "'0' stands there twice",
    '{"cat": "tabby", "dog": "poodle"}': "none of indices to names",
    '[{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}]': "there is no class 0",
    "{0: 'cat',\n 1: 'dog'": "neither JSON nor Python",
    "item {\n  id: 1\n  name: 'cat'\n}\n": "'item {' is no name",
    "<html>\n<body>": "'<html>' is no name",
    "cat\n\nemu\n": "line 2 is empty",
    '["cat", "", "emu"]': "class 1 has an empty name",
    "": "it is empty",
    "[]": "it is empty",
}


@pytest.mark.parametrize("text", BAD, ids=BAD.values())
def test_what_is_no_list_of_classes_is_refused_with_the_reason(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(CueError, match=BAD[text]):
        read_classes(tmp_path / "a.txt")


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04\xff\xfe\x80")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.yaml").write_text("names: [cat, dog\n")
    (tmp_path / "a.json").write_text("cat\ndog\n")
    for name, why in (("a.pt", "no text"), ("pipe", "no regular file"), ("a.yaml", "no YAML"), ("a.json", "no JSON")):
        with pytest.raises(CueError, match=why):
            read_classes(tmp_path / name)
    with pytest.raises(CueError, match="no such file"):
        read_classes(tmp_path / "none.txt")
