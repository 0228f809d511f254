"""Faults of disks, folders and files from elsewhere: nothing is lost, mixed or wrong in silence."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
import torch
from PIL import Image
from torch import nn

import cuescope
from commands import call
from cuescope import report
from cuescope.api.audit import perform
from cuescope.api.make import make
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.files import parsed
from cuescope.data.readers import files, read_folder, read_real
from cuescope.data.readers.voc import read_annotation
from cuescope.makers import label_maps
from cuescope.makers.output_folder import _write_labels
from cuescope.runs import task as sizes
from cuescope.runs.inputs import find_images
from cuescope.runs.options import AuditOptions
from cuescope.runs.store import UNSEALED, Run
from cuescope.world.images import WorldImages
from toys import COLORS, Images, MeanColor, colored, toy


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "CHUNK", 8)
    monkeypatch.setattr(sizes, "BATCH", 4)


def audited(out: Path, images: int = 24, name: str = "toy", seed: int = 0) -> Run:
    only = ["accuracy", "shift_stability"]
    return cuescope.audit(toy(MeanColor(), name=name), images=Images(colored(images, seed=seed)), only=only, out=out)


def swapped(rows: Path, other: Path) -> None:
    first, second = (rows / f"{k:06d}.parquet" for k in (0, 1))
    first.rename(rows / "kept")
    second.rename(first)
    (rows / "kept").rename(second)


def doubled(rows: Path, other: Path) -> None:
    shutil.copy(rows / "000000.parquet", rows / "000001.parquet")


def one_more(rows: Path, other: Path) -> None:
    shutil.copy(rows / "000000.parquet", rows / "000003.parquet")


def foreign(rows: Path, other: Path) -> None:
    shutil.copy(other / "000001.parquet", rows / "000001.parquet")


def lost(rows: Path, other: Path) -> None:
    (rows / "000001.parquet").unlink()


def cut(rows: Path, other: Path) -> None:
    path = rows / "000001.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def emptied(rows: Path, other: Path) -> None:
    (rows / "000001.parquet").write_bytes(b"")


def one_bit(rows: Path, other: Path) -> None:
    path = rows / "000001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def without_checksum(rows: Path, other: Path) -> None:
    path = rows / "000001.parquet"
    pl.read_parquet(path).with_columns(1 - pl.col("top1")).write_parquet(path)


def other_number(rows: Path, other: Path) -> None:
    path = rows.parent / "finding.json"
    data = json.loads(path.read_text())
    data["measures"][0]["value"] = 0.125
    path.write_text(json.dumps(data))


def other_finding(rows: Path, other: Path) -> None:
    shutil.copy(other.parent / "finding.json", rows.parent / "finding.json")


def half_a_finding(rows: Path, other: Path) -> None:
    path = rows.parent / "finding.json"
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "damage",
    [
        *(swapped, doubled, one_more, foreign, lost, cut, emptied, one_bit, without_checksum),
        *(other_number, other_finding, half_a_finding),
    ],
    ids=lambda f: f.__name__,
)
def test_damage_is_told_and_an_audit_mends_it(tmp_path: Path, damage: Callable[[Path, Path], None]) -> None:
    whole, other = audited(tmp_path / "run"), audited(tmp_path / "other", seed=1, name="other")
    rows, others = (run.cells[0].folder / "rows" for run in (whole, other))
    kept = {path: path.read_bytes() for path in rows.parent.rglob("*.parquet")}
    told = (rows.parent / "finding.json").read_bytes()
    damage(rows, others)
    cell = Run.open(tmp_path / "run").cells[0]
    with pytest.raises(CueError, match=r"checksum|another c|not those|cannot read"):
        _ = cell.finding, cell.rows()
    audited(tmp_path / "run")
    assert {path: path.read_bytes() for path in rows.parent.rglob("*.parquet")} == kept
    assert (rows.parent / "finding.json").read_bytes() == told
    assert Run.open(tmp_path / "run").cells[0].rows()["id"].to_list() == [f"{i:04d}.png" for i in range(24)]


@pytest.mark.usefixtures("small")
def test_what_was_begun_by_another_cell_is_seen_again(tmp_path: Path) -> None:
    cells = audited(tmp_path / "run").cells
    cells[0].chunks.keep(3, 4, pl.DataFrame({"id": ["a"]}))
    assert list(cells[0].chunks.begun()) == [3]
    shutil.copytree(cells[0].folder / "begun", cells[1].folder / "begun")
    assert cells[1].chunks.begun() == {}


@pytest.mark.usefixtures("small")
def test_a_run_without_checksums_is_read_and_done_again_by_an_audit(tmp_path: Path) -> None:
    run = audited(tmp_path / "run")
    for cell in run.cells:
        for path in cell.folder.glob("rows/*.parquet"):
            pl.read_parquet(path).write_parquet(path)
        path = cell.folder / "finding.json"
        data = json.loads(path.read_text())
        path.write_text(json.dumps({key: data[key] for key in data.keys() - {"cell", "chunks", "checksum"}}))
    run.manifest["schema"] = UNSEALED
    run.write_manifest()
    old = Run.open(tmp_path / "run")
    assert [cell.rows().height for cell in old.cells] == [24, 24]
    assert old.finding("accuracy")["top1"].n == 24
    audited(tmp_path / "run")
    assert all(cell.sealed and cell.rows().height == 24 for cell in Run.open(tmp_path / "run").cells)


def photographs(root: Path, count: int = 24, layout: str = "{label}/{i:02d}.png") -> Path:
    for i, sample in enumerate(colored(count)):
        path = root / layout.format(label=COLORS.names[i % 3], i=i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.pixels.permute(1, 2, 0).numpy()).save(path)
    return root


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("layout", ["{label}/{i:02d}.png", "{i:02d}.png"])
@pytest.mark.parametrize("gone", ["folder", "its files", "one file"])
def test_images_out_of_reach_for_a_moment_are_seen_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, gone: str
) -> None:
    root, away = photographs(tmp_path / "photos", layout=layout), tmp_path / "away"
    read, count = files.decode, [0]

    def leaving(path: Path) -> torch.Tensor:
        count[0] += 1
        if count[0] == 9 and gone == "one file":
            away.mkdir()
            path.rename(away / path.name)
        elif count[0] == 9:
            root.rename(away)
            if gone == "its files":
                root.mkdir()
        return read(path)

    def audit() -> Run:
        said: list[str] = []
        options = AuditOptions.of(images=root, only=["shift_stability"], out=tmp_path / "run", workers=1)
        found = perform([toy(MeanColor())], options, say=said.append).run
        assert bool([line for line in said if "out of reach" in line]) == (gone == "one file" and away.exists())
        return found

    monkeypatch.setattr(files, "decode", leaving)
    if gone == "one file":
        assert audit().cells[0].rows().height == 23
        (name,) = away.iterdir()

        lost = root / COLORS.names[int(name.stem) % 3] if "label" in layout else root
        name.rename(lost / name.name)
        away.rmdir()
    else:
        with pytest.raises(CueError, match="gone"):
            audit()
        shutil.rmtree(root, ignore_errors=True)
        away.rename(root)
    monkeypatch.setattr(files, "decode", read)
    run = audit()
    assert run.cells[0].rows().height == 24
    assert run.manifest["image_sets"][0]["skipped"] == 0
    assert run.skipped() == []


def small_parts(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    """Label maps by a small annotator, in parts of so many images."""
    net = toy(nn.Sequential(nn.Conv2d(3, 3, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    monkeypatch.setattr("cuescope.api.make.load", lambda *_, **__: net)
    monkeypatch.setattr(label_maps, "SHARD", images)


@pytest.mark.parametrize("gone", ["folder", "one file"])
def test_label_maps_lack_no_image_that_was_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    small_parts(monkeypatch, 8)
    root, away = photographs(tmp_path / "photos"), tmp_path / "away"
    read, count, moved = files.decode, [0], list[Path]()

    def leaving(path: Path) -> torch.Tensor:
        count[0] += 1
        if count[0] == 12:
            moved.append(path if gone == "one file" else root)
            moved[0].rename(away)
        return read(path)

    def maps() -> int:
        made = make("label-maps", root, tmp_path / "maps", model="toy", k=2, workers=1)
        assert not made.skipped
        return made.made + made.before

    monkeypatch.setattr(files, "decode", leaving)
    with pytest.raises(CueError, match=r"gone|out of reach"):
        maps()
    away.rename(moved[0])
    monkeypatch.setattr(files, "decode", read)
    assert maps() == 24


def test_a_pattern_for_a_name_is_one_file(tmp_path: Path) -> None:
    for name, values in (("a1.parquet", 10), ("a[1].parquet", 3)):
        photos = photographs(tmp_path / f"p{values}", values, "{i}.png")
        data = [{"bytes": path.read_bytes(), "path": None} for path in sorted(photos.iterdir())]
        pl.DataFrame({"image": data, "label": [0] * values}).write_parquet(tmp_path / name)
    images = find_images(tmp_path / "a[1].parquet")
    assert len(images) == 3
    assert images.read(2).pixels.equal(find_images(tmp_path / "p3").read(2).pixels)


def test_links_to_themselves_are_skipped_and_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = photographs(tmp_path / "photos", 6)
    (photos / "red" / "loop.png").symlink_to("loop.png")
    (tmp_path / "loop").symlink_to("loop")
    assert [one.why for one in find_images(photos).skipped] == ["a link to a file that is not there"]
    for command in (
        ("make", "patch-shuffle", str(photos), str(tmp_path / "loop")),
        audit_of(photos, tmp_path / "loop"),
    ):
        status, _, err = call(*command, capsys=capsys)
        assert status == 2
        assert "loop" in err


def audit_of(photos: Path, to: Path, /, **other: str) -> list[str]:
    options = {"images": str(photos), "only": "shift_stability", "out": str(to), **other}
    return ["audit", "cuescope/world-shape@random", *(word for k, v in options.items() for word in (f"--{k}", v))]


def test_names_that_are_no_utf8_are_kept_out_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = os.fsdecode(b"o\xffdd")
    photos = photographs(tmp_path / odd / "photos", 6)
    (photos / odd).mkdir()
    shutil.copy(photos / "red" / "00.png", photos / odd)
    images = find_images(photos)
    assert [(one.id, one.why) for one in images.skipped] == [(r"o\xffdd/00.png", "the path is not valid UTF-8")]
    assert find_images(tmp_path / odd).name == r"o\udcffdd"
    for command in (
        audit_of(photos, tmp_path / odd / "run"),
        ("report", str(tmp_path / odd / "run")),
        ("make", "patch-shuffle", str(photos), str(tmp_path / f"{odd}2")),
    ):
        status, _, err = call(*command, capsys=capsys)
        assert status == 0, err
    assert len(Run.open(tmp_path / odd / "run").skipped()) == 1


@pytest.mark.parametrize("option", ["images", "out", "labels", "classes", "boxes", "texturized"])
def test_a_name_that_is_too_long_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    photos = photographs(tmp_path / "photos", 3)
    status, _, err = call(*audit_of(photos, tmp_path / "run", **{option: "a" * 300}), capsys=capsys)
    assert status == 2
    # From 3.14 on pathlib says of a name that no file can have: there is none.
    assert "too long" in err or "cuescope: no f" in err
    assert "Traceback" not in err


def test_what_dead_writers_left_is_no_obstacle_to_a_maker(tmp_path: Path) -> None:
    photos = photographs(tmp_path / "photos", 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".probe-7").touch()
    (tmp_path / "out" / ".a.png.7-ab.part").touch()
    assert make("patch-shuffle", photos, tmp_path / "out").made == 3


def test_writers_of_equal_process_ids_meet_without_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 7)
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: Run.create(tmp_path / "run"), range(64)))) == 64


def test_json_nested_without_end_is_one_error(tmp_path: Path) -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000):
        with pytest.raises(ValueError, match="nested"):
            parsed(text)
        (tmp_path / "real.json").write_text(text)
        with pytest.raises(CueError, match="nested"):
            read_real(tmp_path / "real.json")


def test_an_unknown_encoding_of_xml_is_one_reason(tmp_path: Path) -> None:
    for encoding in ("x-nobody", "utf-32", "rot13"):
        (tmp_path / "a.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?><annotation/>')
        with pytest.raises(ValueError, match="encoding"):
            read_annotation(tmp_path / "a.xml", lambda: (4, 4))


def test_no_table_holds_a_formula(tmp_path: Path) -> None:
    photos = photographs(tmp_path / "photos", 3, "=1+1{label}/-{i}.png")
    (photos / "=1+1red" / "=HYPERLINK(1).png").write_text("no image")
    options = {"only": ["shift_stability"], "out": tmp_path / "run"}
    run = cuescope.audit(toy(MeanColor()), images=photos, **options)
    make("patch-shuffle", photos, tmp_path / "made")
    for path in (run.path / "skipped.csv", tmp_path / "made" / "skipped.csv"):
        cells = [cell for row in csv.reader(path.read_text().splitlines()) for cell in row]
        assert any("HYPERLINK" in cell for cell in cells)
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    assert run.skipped()[0]["id"] == "=1+1red/=HYPERLINK(1).png"


def test_labels_of_files_that_look_like_formulas_are_found(tmp_path: Path) -> None:
    made = make("patch-shuffle", WorldImages(count=3), tmp_path / "made").path
    rows = list(csv.DictReader((made / "labels.csv").read_text().splitlines()))
    _write_labels(
        made / "labels.csv",
        [{"file": f"=1+{r['file']}", "label": int(r["index"])} for r in rows],
        ClassSpace("c", tuple(map(str, range(16)))),
    )
    for row in rows:
        (made / f"=1+{row['file']}").parent.mkdir(exist_ok=True, parents=True)
        (made / row["file"]).rename(made / f"=1+{row['file']}")
    assert all(row["file"].startswith("./=") for row in csv.DictReader((made / "labels.csv").read_text().splitlines()))
    images = read_folder(made)
    assert [images.label(i) for i in range(3)] == [int(row["index"]) for row in rows]


def test_messages_do_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = photographs(tmp_path / "photos", 4, "\x1b[31m{label}/{i}.png")
    for command in (audit_of(photos, tmp_path / "run"), ("audit", "\x1b[2J", "--images", str(photos))):
        _, out, err = call(*command, capsys=capsys)
        assert "\x1b" not in out + err
    assert r"\x1b[2J" in err


@pytest.mark.parametrize("name", ["comparisons.json", "pairs.json"])
def test_comparisons_that_were_changed_are_told_and_made_again(tmp_path: Path, name: str) -> None:
    def audit() -> Run:
        both = [toy(MeanColor(), name=name) for name in ("a", "b")]
        return cuescope.audit(*both, images=Images(colored(9)), only=["accuracy"], out=tmp_path / "run")

    path = audit().path / name
    whole = path.read_text()
    for text in ("{}", whole.replace("[", "7", 1), whole + " "):
        path.write_text(text)
        with pytest.raises(CueError, match="changed"):
            report.write([path.parent], tmp_path / "page.html")
        audit()
        assert path.read_text() == whole
