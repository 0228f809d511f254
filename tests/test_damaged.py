"""Files that are damaged or lie: one error each. A small member of each kind that bench/fuzz.py found."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import signal
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import nn

import cuescope
from commands import call
from cuescope import cli, report
from cuescope.api import get
from cuescope.api.get import _unpacked
from cuescope.api.make import make
from cuescope.classifier.sources import preprocessings, weights
from cuescope.core import parquet_file, zips
from cuescope.core.classes import ClassSpace, read_classes
from cuescope.core.errors import CueError
from cuescope.core.files import checksum, read_summed
from cuescope.core.findings import UNSAID, Finding, Panel
from cuescope.data.images import UnreadableError
from cuescope.data.label_maps import corrected
from cuescope.data.label_maps.file import _digest, label_map_bytes, open_label_maps
from cuescope.data.label_maps.layout import Header
from cuescope.data.readers import parquet, read_folder, read_human_data
from cuescope.data.readers.arrow import read_arrow
from cuescope.data.readers.decode import decode, size_of
from cuescope.data.readers.listing import read_tables
from cuescope.data.readers.parquet import read_parquet
from cuescope.data.readers.stored import labels_of
from cuescope.data.readers.tars import read_tars
from cuescope.instruments import registry
from cuescope.makers.output_folder import OutputFolder
from cuescope.report import remedies
from cuescope.runs import answers, seals
from cuescope.runs.store import Run
from cuescope.training import checkpoint
from test_faults import audited, photographs, small_parts
from toys import Images, MeanColor, colored, toy

PICKLES = {
    "IndexError": b"\x80\x02.",
    "AssertionError": b"\x80\x02K\x01Q.",
    "TypeError": b"\x80\x02}}K\x01s.",
    "struct.error": b"\x80\x02J\x01",
}


@pytest.mark.parametrize("pickle", PICKLES.values(), ids=PICKLES)
@pytest.mark.parametrize("form", ["zip", "plain"])
def test_pickles_that_torch_stumbles_over(tmp_path: Path, pickle: bytes, form: str) -> None:
    path, buffer = tmp_path / "a.pth", io.BytesIO()
    torch.save({"a": torch.zeros(1)}, buffer)
    path.write_bytes(pickle)
    if form == "zip":
        with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(name, pickle if name.endswith("data.pkl") else old.read(name))
    with pytest.raises(CueError, match=r"read as weights|more than tensors"):
        weights.read(path)


def test_weights_that_unpack_or_repeat_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SPREAD", 1000)
    torch.save({"a": torch.zeros(1).expand(100, 100), "b": torch.zeros(9)}, tmp_path / "a.pth")
    with pytest.raises(CueError, match="more numbers than are stored"):
        weights.read(tmp_path / "a.pth")
    torch.save({"a": torch.zeros(100, 100)[:, :50]}, tmp_path / "b.pth")
    assert weights.read(tmp_path / "b.pth")["a"].shape == (100, 50)
    with (
        zipfile.ZipFile(tmp_path / "b.pth") as old,
        zipfile.ZipFile(tmp_path / "c.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with zipfile.ZipFile(tmp_path / "c.pth") as archive:
        zips.check_packed(archive.infolist())
        with pytest.raises(ValueError, match="too large"):
            zips.check_packed(archive.infolist(), 1000)


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_an_archive_whose_packed_data_are_damaged(tmp_path: Path, how: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("raw-data/a.csv", "a,b\n" * 99)
    data = bytearray(path.read_bytes())
    at = data.index(b"a.csv") + 5
    data[at : at + 20] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(CueError, match="no ZIP archive"):
        _unpacked(path)


def test_a_large_file_that_states_no_size_is_not_searched(tmp_path: Path) -> None:
    path = tmp_path / "photos" / "a.jpg"
    path.parent.mkdir()
    path.write_bytes(b"\xff\xd8\xff\xe0")
    os.truncate(path, 1 << 27)
    images = read_folder(path.parent)
    with pytest.raises(UnreadableError, match="states no size"):
        images.read(0)
    with pytest.raises(UnreadableError, match="states no size"):
        size_of(path)


def test_labels_that_no_classifier_has(tmp_path: Path) -> None:
    assert labels_of(pl.Series([3, None, -5]))[0].tolist() == [3, -1, -1]
    for label in (10**12, 10**7, 2**64 - 1):
        with pytest.raises(CueError, match="label"):
            labels_of(pl.Series([0, label]))


def test_tables_whose_pages_are_damaged(tmp_path: Path) -> None:
    table = pl.DataFrame({"image": [b"x" * 50] * 9, "label": ["cat", "dog", "bird"] * 3})
    table.write_parquet(tmp_path / "a.parquet", compression="uncompressed")
    table.write_ipc_stream(tmp_path / "a.arrow", compat_level=pl.CompatLevel.oldest())
    for name, read in (("a.parquet", read_parquet), ("a.arrow", read_arrow)):
        whole = (tmp_path / name).read_bytes()
        for at in range(40, len(whole) - 8, len(whole) // 24):
            (tmp_path / name).write_bytes(whole[:at] + b"\xff" * 8 + whole[at + 8 :])
            try:
                read([tmp_path / name], "a")
            except CueError:
                continue


@pytest.mark.parametrize(
    "facts",
    [
        {"image_processor_type": "ViTImageProcessor", "size": 1e999},
        {"image_processor_type": "ViTImageProcessor", "rescale_factor": float("inf"), "image_mean": [1, 2]},
        {"architecture": "resnet18", "pretrained_cfg": {"input_size": "abc", "crop_pct": None}},
        {"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 9, 9], "crop_pct": [1]}},
        {"preprocess_cfg": {"size": [[]]}},
        {"preprocess_cfg": {"mean": 5}},
        {"size": ["a"]},
        {"size": [8, 8], "channels": 2**63},
        {"mean": None},
    ],
)
def test_preprocessings_that_cannot_be(tmp_path: Path, facts: dict[str, object]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(facts))
    with pytest.raises(CueError):
        preprocessings.read(tmp_path / "a.json")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "1" + "0" * 400, "9" * 5000])
def test_numbers_to_which_nothing_can_be_set(value: str) -> None:
    for name, key in (("occlusion", "images"), ("invariance", "rotation_step"), ("stickers", "sizes")):
        kind = registry.find(name)
        if key in kind.__dataclass_fields__:
            with pytest.raises(CueError):
                registry.build(name, {key: value})
    with pytest.raises(CueError):
        registry.build("occlusion", {"images": float("inf")})


def test_names_that_are_too_long_in_tables(tmp_path: Path) -> None:
    photos = photographs(tmp_path / "photos", 3)
    (tmp_path / "labels.csv").write_text(f"file,index\nred/00.png,0\n{'a' * 5000},1\n")
    assert len(read_folder(photos, labels=tmp_path / "labels.csv").skipped) == 1
    (tmp_path / "trials").mkdir()
    head = "subj,session,trial,rt,object_response,category,condition,imagename\n"
    (tmp_path / "trials" / "a.csv").write_text(f"{head}subject-01,1,1,1,cat,cat,0,{'a' * 60_000}_\n")
    with pytest.raises(CueError, match="no image name"):
        read_human_data(tmp_path / "trials")


def test_label_maps_whose_index_has_gaps(tmp_path: Path) -> None:
    header = Header(ClassSpace("mine", ("a", "b")), k=1)
    data = label_map_bytes(header, [("a.png", np.ones((1, 2, 2)), np.zeros((1, 2, 2), int))])
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    split = head["index"]["data_offsets"][0]
    maps, index = data[8 + size :][:split], io.BytesIO()
    pl.read_parquet(data[8 + size + split :]).with_columns(at=pl.lit(None, pl.UInt64)).write_parquet(index)
    text = head["__metadata__"]["header"]
    whole = {"__metadata__": {"header": text, "digest": _digest(text, index.getvalue())}}
    whole |= {"maps": head["maps"]}
    end = split + len(index.getvalue())
    whole["index"] = {"dtype": "U8", "shape": [end - split], "data_offsets": [split, end]}
    packed = json.dumps(whole).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(packed).to_bytes(8, "little") + packed + maps + index.getvalue())
    with pytest.raises(CueError, match="gaps"):
        open_label_maps(path)


def test_a_checkpoint_of_other_parameters(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    data = checkpoint.packed(network, None, optimizer, {})
    for other in (b"optimizer/0/weighs/", b"optimizer/0/weight_"):
        (tmp_path / "a.safetensors").write_bytes(data.replace(b"optimizer/0/weight/", other))
        with pytest.raises(CueError, match="no checkpoint"):
            checkpoint.restore(tmp_path / "a.safetensors", network, None, optimizer)


def test_answers_whose_header_is_damaged_are_not_known(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 2), np.float32))
    (tmp_path / "answers.npy").write_bytes(buffer.getvalue().replace(b"}", b"("))
    assert not answers._same(tmp_path / "answers.npy", np.zeros((2, 2), np.float32))


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.pop("recipe"),
        lambda made: made.update(recipe=[1]),
        lambda made: made.update(images=3),
        lambda made: made["images"].append({"source": "a"}),
        lambda made: made["images"].append({"file": 5}),
        lambda made: made["images"].append({"file": "../a.png"}),
        lambda made: made.update(seconds="x"),
        lambda made: made.update({"\ud800": made.pop("seconds")}),
    ],
)
def test_a_makers_manifest_that_was_changed(
    tmp_path: Path, change: Callable[[dict[str, list[object]]], object]
) -> None:
    made = OutputFolder(tmp_path / "made", {"maker": "x"})
    made.begin({})
    made.add([({"file": "a.png"}, b"a")])
    made.finish({"seconds": 1.0}, [], None)
    data = read_summed(tmp_path / "made" / "manifest.json")
    assert list(OutputFolder(tmp_path / "made", {"maker": "x"}).entries) == ["a.png"]
    change(data)
    (tmp_path / "made" / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(CueError):
        OutputFolder(tmp_path / "made", {"maker": "x"})


def one_digit(path: Path, key: str) -> None:
    """Another number behind a key: it reads as well as the right one."""
    head, found, rest = path.read_text().partition(f'"{key}": ')
    assert found
    path.write_text(f"{head}{found}{(int(rest[0]) + 1) % 10}{rest[1:]}")


def test_a_digit_of_a_makers_manifest_or_journal_that_was_changed(tmp_path: Path) -> None:
    made = OutputFolder(tmp_path / "made", {"maker": "x"})
    made.begin({"notes": []})
    made.add([({"file": "a.png", "label": 3}, b"a")])
    (journal,) = (tmp_path / "made" / ".cuescope").iterdir()
    whole = journal.read_bytes()
    one_digit(journal, "label")
    with pytest.raises(CueError, match="checksum"):
        OutputFolder(tmp_path / "made", {"maker": "x"})
    journal.write_bytes(whole)
    made.finish({}, [], None)
    one_digit(tmp_path / "made" / "manifest.json", "label")
    with pytest.raises(CueError, match="checksum"):
        OutputFolder(tmp_path / "made", {"maker": "x"})


def test_a_digit_of_a_manifest_that_was_changed(tmp_path: Path) -> None:
    path = audited(tmp_path / "run").path / "manifest.json"
    whole = path.read_text()
    one_digit(path, "count")
    with pytest.raises(CueError, match="checksum"):
        Run.open(path.parent)
    path.write_text(json.dumps({key: value for key, value in json.loads(whole).items() if key != "checksum"}))
    assert Run.open(path.parent).manifest["finished"], "as it was written before there were checksums"


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet", "skipped.csv"])
def test_tables_of_a_maker_that_were_changed_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    small_parts(monkeypatch, 3)
    photos = photographs(tmp_path / "photos", 6)
    # The last one, alone in its part, of which there is no file.
    (photos / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    def maps() -> int:
        return make("label-maps", photos, tmp_path / "maps", model="toy", k=2, workers=1).made

    maps()
    whole = {path: path.read_bytes() for path in (tmp_path / "maps").iterdir() if path.name != "manifest.json"}
    path = tmp_path / "maps" / name
    path.write_bytes(whole[path][:-3] + b"x" + whole[path][-2:])
    assert maps() == 0
    assert {path: path.read_bytes() for path in whole} == whole


def test_a_command_of_a_stranger_is_text(tmp_path: Path) -> None:
    content = SimpleNamespace(
        runs=[SimpleNamespace(manifest={"command": "cuescope audit 'no end"})], image_sets=(), subjects=()
    )
    subject = SimpleNamespace(name="toy")
    found = remedies.filled("cuescope look {model} {0.__class__} {x}", content, [subject])  # type: ignore[arg-type]
    assert found == "cuescope look MODEL {0.__class__} {x}"


def test_a_finding_with_a_command_shows_itself(tmp_path: Path) -> None:
    run = audited(tmp_path / "run")
    finding = next(finding for finding in run.findings if finding.instrument == "shift_stability")
    from dataclasses import replace

    command = "cuescope cure {model} --images {images}"
    weak = replace(finding, verdict=replace(finding.verdict, remedy="Cure it", command=command))
    assert "cuescope cure MODEL" in (weak._repr_html_() or "").replace("<wbr>", "")


def test_labels_of_classes_that_look_like_formulas(tmp_path: Path) -> None:
    photos = photographs(tmp_path / "photos", 6, "=1+1{label}/{i}.png")
    rows = [f"{path.relative_to(photos)},{k % 3},=1+1{k % 3}" for k, path in enumerate(sorted(photos.rglob("*.png")))]
    (tmp_path / "labels.csv").write_text("file,index,name\n" + "\n".join(rows) + "\n")
    made = make("patch-shuffle", photos, tmp_path / "made", labels=tmp_path / "labels.csv").path
    row = {"file": "=1.png", "index": 0, "wnid": "=1", "name": "@a", "labels": [0], "weights": [1.0]}
    row |= {"old_index": 0, "old_name": "+a", "old_weight": 0.5}
    (tmp_path / "maps").mkdir()
    corrected.write_relabeled(tmp_path / "maps", pl.DataFrame([row], corrected.SCHEMA))
    for path in (made / "labels.csv", tmp_path / "maps" / "labels.csv"):
        cells = [cell for one in csv.reader(path.read_text().splitlines()) for cell in one]
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells), path
    images = read_folder(made)
    assert images.classes is not None
    assert images.classes.names == ("=1+10", "=1+11", "=1+12")


def test_no_text_of_a_command_steers_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = audited(tmp_path / "run\x1b[2J").path
    calls = [("report", str(run)), ("make", "\x1b[2J"), ("list", "\x1b[2J"), ("\x1b[2J",)]
    calls += [("check", str(run), "--require", "top1>=.1"), ("compare", str(run), str(run))]
    opened = Run.open(run)
    manifest = opened.manifest
    for entry in (*manifest["classifiers"], *manifest["image_sets"], *manifest["cells"]):
        entry |= {key: f"{entry[key]}\x1b[31m" for key in ("name", "classifier", "images") if key in entry}
    opened.write_manifest()
    for arguments in calls:
        _, out, err = call(*arguments, capsys=capsys)
        assert "\x1b" not in out + err, arguments


@pytest.mark.usefixtures("capsys")
def test_ctrl_c_again_while_it_stops_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(cli, "app", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(cli.os, "_exit", ended.append)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as end:
            cli.main([])
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (end.value.code, ended) == (130, [130])


@pytest.mark.parametrize("name", ["classes.json", "skipped.csv"])
def test_what_was_made_of_the_cells_is_made_again(tmp_path: Path, name: str) -> None:
    run = audited(tmp_path / "run")
    whole = (run.path / name).read_bytes()
    (run.path / name).write_bytes(whole.replace(b"e", b"o", 1))
    with pytest.raises(CueError, match="changed"):
        _ = run.skipped() if name == "skipped.csv" else run.about(run.cells[0])
    audited(tmp_path / "run")
    assert (run.path / name).read_bytes() == whole


@pytest.mark.parametrize("place", [".lock", "cells", "rows", "made"])
def test_nothing_is_written_through_a_link(tmp_path: Path, place: str) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    run = audited(tmp_path / "run")
    photos = photographs(tmp_path / "photos", 3)
    make("patch-shuffle", photos, tmp_path / "made")
    link = {"rows": run.cells[0].folder / "rows", "made": tmp_path / "made" / "red"}.get(place, run.path / place)
    if link.is_dir():
        link.rename(tmp_path / "aside")
    link.unlink(missing_ok=True)
    link.symlink_to(outside / "kept" if place == ".lock" else outside)
    with pytest.raises(CueError, match="link"):
        _ = make("patch-shuffle", photos, tmp_path / "made") if place == "made" else audited(tmp_path / "run")
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"kept": "kept"}


def test_facts_are_checked_and_found_again(tmp_path: Path) -> None:
    def audit() -> Run:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            net = toy(nn.Sequential(nn.Conv2d(3, 3, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
            return cuescope.audit(net, images=Images(colored(9)), only=["shiftability"], out=tmp_path / "run")

    (cell,) = audit().cells
    path = cell.folder / "facts.json"
    whole, known = path.read_bytes(), cell.facts
    assert known
    path.write_bytes(whole.replace(b'"blocks"', b'"blokcs"').replace(b'"layers"', b'"leyers"').replace(b"0", b"1", 1))
    assert path.read_bytes() != whole
    with pytest.raises(CueError, match="facts"):
        _ = cell.facts
    audit()
    assert path.read_bytes() == whole
    path.write_text(json.dumps(known))  # as it was written before it had a checksum
    assert cell.facts == known


@pytest.mark.parametrize("created", ["<script>", "2026-13-40", ""])
def test_a_run_whose_date_is_none(tmp_path: Path, created: str) -> None:
    run = audited(tmp_path / "run")
    (run.path / "manifest.json").write_text(json.dumps({**run.manifest, "created": created}))
    with pytest.raises(CueError, match="no manifest"):
        Run.open(run.path)


def planted(tmp_path: Path, start: bytes, size: int) -> Path:
    """A file that begins so; the rest takes no room on the disk."""
    path = tmp_path / "photos" / "a.jpg"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(start)
    os.truncate(path, size)
    return path


def test_a_large_file_that_is_no_image_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg = io.BytesIO()
    Image.new("RGB", (8, 8)).save(jpeg, "JPEG")
    read: list[int] = []

    class Counted(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            read.append(len(data))
            return data

    known = [(b"", "not an image"), (b"text", "not an image"), (jpeg.getvalue(), "8 x 8 pixels in a file")]
    for start, why in (*known, (b"RIFF\0\0\0\0WEBP", "the limit is 256 MiB")):
        path = planted(tmp_path, start, 1 << 27 if start[:4] != b"RIFF" else (1 << 28) + 1)
        for look in (decode, size_of):
            with monkeypatch.context() as patch:
                patch.setattr(Path, "open", lambda path, _: Counted(path))
                with pytest.raises(UnreadableError, match=why):
                    look(path)
    assert sum(read) == 8 << 24
    # As much as metadata and a film behind the image may be.
    assert decode(planted(tmp_path, jpeg.getvalue(), 1 << 25)).shape == (3, 8, 8)


def test_an_archive_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zip"
    for how, match in ((zipfile.ZIP_DEFLATED, "too large: 1,001 bytes"), (zipfile.ZIP_LZMA, "other than deflate")):
        monkeypatch.setattr(get, "LARGEST_FILE", 1000 if how == zipfile.ZIP_DEFLATED else 10**6)
        with zipfile.ZipFile(path, "w", how) as archive:
            archive.writestr("x/raw-data/a.csv", bytes(1001))
        monkeypatch.setattr(zipfile.ZipFile, "read", None)
        with pytest.raises(CueError, match=match):
            get._unpacked(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a", "a")
        with pytest.raises(ValueError, match="other than deflate"):
            zips.check_packed(archive.infolist())


def written(tmp_path: Path, table: pl.DataFrame) -> Path:
    table.write_parquet(tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


def test_a_table_with_more_rows_than_bytes(tmp_path: Path) -> None:
    for more in ({}, {"label": pl.repeat(1, 10**6, eager=True)}):
        path = written(tmp_path, pl.DataFrame({"image": pl.repeat(b"x", 10**6, eager=True), **more}))
        with pytest.raises(CueError, match=r"1,000,000 rows of images in [\d,]+ bytes"):
            read_parquet([path], "a")
    path = written(tmp_path, pl.DataFrame({"path": pl.repeat("a.png", 10**6, eager=True)}))
    with pytest.raises(CueError, match=r"1,000,000 rows of images in [\d,]+ bytes"):
        read_tables([path], "a")


def test_a_table_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_file, "MOST_UNPACKED", 10**6)
    rows = [bytes(10**5) + bytes([k]) for k in range(20)]
    images = read_parquet([written(tmp_path, pl.DataFrame({"image": rows}))], "a")
    with pytest.raises(UnreadableError, match=r"decompression bomb: [\d,]+ bytes unpack to 2,000,"):
        images.read(0)
    names = ["x" * 10**5 + str(k) for k in range(20)]
    with pytest.raises(CueError, match="decompression bomb"):
        read_parquet([written(tmp_path, pl.DataFrame({"image": [b"x"] * 20, "label": names}))], "a")


def test_a_footer_that_says_less_than_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [bytes(10**5) + bytes([k]) for k in range(20)]
    path = written(tmp_path, pl.DataFrame({"image": rows}))
    ((_, columns),) = parquet_file.read_groups(path)
    (part,) = columns["image"]
    with path.open("rb") as file:
        parquet_file.check_pages(file, [part])
        monkeypatch.setattr(parquet_file, "MOST_UNPACKED", 10**6)
        with pytest.raises(ValueError, match="decompression bomb"):
            parquet_file.check_pages(file, [part._replace(unpacked=9)])


def test_a_page_of_labels_that_holds_less_than_none(tmp_path: Path) -> None:
    """Polars asks for the memory of 2**64 labels, and ends the process."""
    path = written(tmp_path, pl.DataFrame({"image": [b"x", b"y"], "label": [0, 1]}))
    ((_, columns),) = parquet_file.read_groups(path)
    data = bytearray(path.read_bytes())
    head = data.index(b"\x2c\x15\x04", columns["label"][0].start)  # of a page of values: there are two of them
    data[head + 2] = 1  # and now, in zigzag, -1
    path.write_bytes(data)
    with pytest.raises(CueError, match="less than nothing"):
        read_parquet([path], "a")


def test_equal_rows_of_a_table_are_held_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "BMP")
    monkeypatch.setattr(parquet, "HELD_BYTES", 1000)
    images = read_parquet([written(tmp_path, pl.DataFrame({"image": [buffer.getvalue()] * 1000}))], "a")
    assert images.read(999).pixels.shape == (3, 8, 8)
    assert isinstance(images.store, parquet._Tables)
    assert all(isinstance(rows, pl.Series) for rows in images.store._held.values())


def test_packed_arrow_is_not_read(tmp_path: Path) -> None:
    table, path = pl.DataFrame({"image": [bytes(1000)] * 9}), tmp_path / "a.arrow"
    table.write_ipc_stream(path, compression="zstd", compat_level=pl.CompatLevel.oldest())
    with pytest.raises(CueError, match="batches are packed"):
        read_arrow([path], "a")
    table.write_ipc_stream(path, compat_level=pl.CompatLevel.oldest())
    assert len(read_arrow([path], "a")) == 9
    data = path.read_bytes()
    at = data.rindex((9).to_bytes(8, "little"), 0, data.index(bytes(1000)))
    for place in range(0, at + 1, 8):  # The first nine of these is the count of rows.
        if data[place : place + 8] == (9).to_bytes(8, "little"):
            path.write_bytes(data[:place] + (2**60).to_bytes(8, "little") + data[place + 8 :])
            break
    with pytest.raises(CueError, match=r"hold 1,152,921,504,606,846,976 rows"):
        read_arrow([path], "a")


def test_rows_of_a_run_that_unpack_without_end(tmp_path: Path) -> None:
    cell = audited(tmp_path / "run").cells[0]
    path, name = cell.folder / "rows" / "000000.parquet", f"{cell.folder.name}/000000"
    rows = pl.read_parquet(path)
    many = pl.select(pl.lit([0] * 10**7).alias("lists"))
    for bomb in (pl.concat([rows.head(1)] * 1).select(pl.all().repeat_by(10**7).explode()), many):
        path.write_bytes(seals.sealed_rows(bomb, name))
        with pytest.raises(CueError, match="decompression bomb"):
            cell.rows()


@pytest.mark.parametrize(
    "footer", [b"", b"\x19", b"\x19\xff" * 9, b"\x1c" * 10**4, b"\x16" + b"\xff" * 10**6, b"\x15\x02\x00"]
)
def test_footers_that_are_none(footer: bytes) -> None:
    with pytest.raises(parquet_file.UNREADABLE):
        parquet_file.groups(footer)


def test_cells_that_are_longer_than_a_csv_may_have(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("9" * 200_000)
    with pytest.raises(CueError, match="names no classes: field larger"):
        read_classes(tmp_path / "a.txt")
    run = audited(tmp_path / "run")
    (run.path / "skipped.csv").write_text("set,id,why\na,b," + "c" * 200_000)
    run.manifest["made"]["skipped.csv"] = run.digest("skipped.csv")
    with pytest.raises(CueError, match=r"skipped\.csv': field larger"):
        run.skipped()


def test_a_tar_that_ends_within_a_header(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "whole.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    head = bytearray((tmp_path / "whole.tar").read_bytes()[:300])
    # Its checksum fits: that of the first 300 bytes.
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + 8 * 32 + sum(head[156:]))
    (tmp_path / "a.tar").write_bytes(head)
    with pytest.raises(CueError, match=r"a\.tar"):
        read_tars([tmp_path / "a.tar"], "a")


@pytest.mark.parametrize("count", [2**31 - 1, -1, -(2**31)])
def test_an_arrow_stream_whose_message_has_no_such_length(tmp_path: Path, count: int) -> None:
    (tmp_path / "a.arrow").write_bytes(b"\xff" * 4 + struct.pack("<i", count) + bytes(100))
    with pytest.raises(CueError, match="cut off"):
        read_arrow([tmp_path / "a.arrow"], "a")


@pytest.mark.parametrize("size", [2**40, -1])
def test_an_arrow_stream_whose_buffers_lie(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.arrow"
    pl.DataFrame({"image": [b"x" * 777]}).write_ipc_stream(path, compat_level=pl.CompatLevel.oldest())
    data = path.read_bytes()
    # The first is in the message, the second an offset in the column itself.
    path.write_bytes(data.replace(struct.pack("<q", 777), struct.pack("<q", size), 1))
    with pytest.raises(CueError, match="buffers are larger"):
        read_arrow([path], "a")


def test_a_tar_of_which_a_part_is_lost_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "whole.tar", "w") as tar:
        for k in range(4):
            member = tarfile.TarInfo(f"{k}.png")
            member.size = 600
            tar.addfile(member, io.BytesIO(bytes([k]) * 600))
    whole = (tmp_path / "whole.tar").read_bytes()
    second = 512 + 1024  # where the second member begins
    assert whole[second : second + 5] == b"1.png"
    damaged = whole[: second + 100] + b"\xff" * 60 + whole[second + 160 :]
    for data, found in (
        (damaged, "byte 1,536 is no header"),
        (whole[: second + 900], r"cut off within '1\.png'"),
        (whole[:second], "the mark of its end"),
    ):
        (tmp_path / "a.tar").write_bytes(data)
        with pytest.raises(CueError, match=found):
            read_tars([tmp_path / "a.tar"], "a")
    # One block of zeros is the end, as some programs write it.
    (tmp_path / "a.tar").write_bytes(whole[: 4 * second] + bytes(512))
    assert len(read_tars([tmp_path / "a.tar"], "a")) == 4


@pytest.mark.parametrize("size", [2**50, 2**70])
def test_a_tar_whose_extended_header_is_larger_than_memory(tmp_path: Path, size: int) -> None:
    member = tarfile.TarInfo("a.png")
    member.type, member.size = tarfile.XHDTYPE, size
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(CueError, match=r"a\.tar"):
        read_tars([tmp_path / "a.tar"], "a")


def test_what_fuzzing_found_in_models_and_label_maps(tmp_path: Path) -> None:
    from cuescope.classifier.sources.from_torchscript import _check_pickle

    _check_pickle("a.pt", pickle.dumps({"a": [1, "b"]}, 2))
    for code in (b"X", b"T"):  # a text of a gigabyte, of which a byte is there
        with pytest.raises(CueError, match="only 1 remain"):
            _check_pickle("a.pt", b"\x80\x02" + code + (1 << 30).to_bytes(4, "little") + b"a")
    with pytest.raises(CueError, match="a place 1073741824 of 8 bytes"):
        _check_pickle("a.pt", b"N" + b"r" + (1 << 30).to_bytes(4, "little") + b"0.")
    # Whatever tensors are named in a state_dict, names are texts.
    torch.save({None: torch.zeros(2), "a": torch.ones(3)}, tmp_path / "a.pth")
    assert list(weights.read(tmp_path / "a.pth")) == ["a"]
    with pytest.raises(ValueError, match="whole numbers"):
        Header(ClassSpace.numbered(3), k=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "data", "found"),
    [
        ("lines", {"series": [{"y": [1]}]}, "series without x or y"),
        ("dots", {"rows": [3]}, "rows without label or value"),
        ("points", {}, "no points"),
        ("bars", {"edges": [0, 1]}, "no values"),
    ],
)
def test_a_panel_that_cannot_be_drawn_is_no_finding(kind: Any, data: dict[str, Any], found: str) -> None:
    made = Finding("accuracy", 1, {}, "a", "b", panels=(Panel("p", kind, "title", "", data),), verdict=UNSAID)
    with pytest.raises(ValueError, match=found):
        Finding.from_json(json.loads(json.dumps(made.to_json())))


def test_numbers_that_are_none_are_one_error_of_the_report(tmp_path: Path) -> None:
    run = cuescope.audit(toy(MeanColor()), images=Images(colored(9)), only=["accuracy"], out=tmp_path / "run")
    path = run.cells[0].folder / "finding.json"
    data = json.loads(path.read_text())
    curve = next(panel for panel in data["panels"] if panel["kind"] == "lines")
    curve["data"]["series"][0]["x"] = ["a", {}, None]
    data.pop("checksum")
    path.write_text(json.dumps({**data, "checksum": checksum(data)}))
    with pytest.raises(CueError, match="cannot be drawn"):
        report.write([run.path], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
    with pytest.raises(ValueError, match="of which chunks"):
        seals.unsealed({"cell": "a", "checksum": checksum({"cell": "a"})}, "a")
