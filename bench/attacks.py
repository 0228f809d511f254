"""Does anything that a stranger can hand over get something done? A table of attempts and of those that succeeded.

    python bench/attacks.py [--only KIND,...] [--work DIR] [--write docs/security.md]

Each attempt is one small function, or one payload of it, in a process and a folder of its own. It succeeds where what
it plants is done: a script stands in the page, a formula in a table, an escape on the terminal, a file outside is read,
written or removed, code runs, memory or time run out (more than MEGABYTES or SECONDS). A CueError is a failed attempt,
and so is a file that is read for what it is. Any other exception is told apart: nothing was done, but it is a crash.
Kinds that were tried before with the same --work keep their line.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import io
import json
import os
import pickle
import re
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image, PngImagePlugin
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from fuzz import MEGABYTES, forget_peak, forked, peak_kb, write_between

import cuescope.api.audit
import cuescope.cli.report
from cuescope import report
from cuescope.api import get
from cuescope.api.make import make
from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load, weights
from cuescope.cli import main as command
from cuescope.core.classes import ClassSpace, read_classes
from cuescope.core.errors import CueError
from cuescope.core.files import checksum, temporary
from cuescope.data.images import UnreadableError
from cuescope.data.label_maps import corrected, open_label_maps
from cuescope.data.label_maps.published import read_published
from cuescope.data.preprocessing import Preprocessing
from cuescope.data.readers import listing, read_folder, tars
from cuescope.data.readers.decode import decode
from cuescope.data.readers.labels import read_labels
from cuescope.data.readers.peek import peek
from cuescope.data.readers.voc import read_annotation
from cuescope.runs import seals
from cuescope.runs.store import Run
from cuescope.training import checkpoint

SECONDS = 60
OF_IMAGES = 1024
"""Megabytes for one image, of up to 89 million pixels: large ones are decoded one at a time."""
BEGIN, END = "<!-- measured by bench/attacks.py -->", "<!-- end of bench/attacks.py -->"
ATTEMPTS: dict[str, list[tuple[str, Callable[[Path], bool | None]]]] = defaultdict(list)
"""By kind: what is tried, and the attempt in an empty folder, which says whether it succeeded."""
SECRET = "the-secret-of-another-folder"


def attempts(kind: str, *payloads: Any) -> Callable[[Callable[..., bool | None]], Callable[..., bool | None]]:
    """Each payload is an attempt; without any the function is one."""

    def decorate(function: Callable[..., bool | None]) -> Callable[..., bool | None]:
        name = function.__name__.replace("_", " ")
        for number, payload in enumerate(payloads):
            ATTEMPTS[kind].append((f"{name} {number}", lambda folder, p=payload: function(folder, p)))
        if not payloads:
            ATTEMPTS[kind].append((name, function))
        return function

    return decorate


class MeanColor(nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return 10 * pixels.mean((2, 3))


def network(name: str = "toy", classes: Sequence[str] = ("red", "green", "blue")) -> Classifier:
    how = Preprocessing((16, 16), 16, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "toy")
    return Classifier(
        MeanColor(), classes=ClassSpace("mine", tuple(classes), tuple(classes)), preprocessing=how, name=name
    )


def photographs(folder: Path, classes: Sequence[str] = ("red", "green", "blue"), name: str = "{}.png") -> Path:
    for i, label in enumerate(classes):
        for k in range(2):
            path = folder / "photos" / label / name.replace("{}", str(k))
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((20, 20, 3), 40, np.uint8)
            pixels[..., i % 3] += np.uint8(100 + 50 * k)
            with path.open("wb") as file:
                Image.fromarray(pixels).save(file, "PNG")
    return folder / "photos"


ONLY = ["accuracy", "shift_stability", "occlusion"]


def audited(folder: Path, images: Path | None = None, **toy: Any) -> Run:
    """A run of the toy. Where nothing is planted in it, it is a copy of one that was made before: that takes long."""
    if images or toy:
        return cuescope.audit(network(**toy), images=images or photographs(folder), only=ONLY, out=folder / "run")
    shutil.copytree(_template(), folder, dirs_exist_ok=True)
    return Run.open(folder / "run")


@functools.cache
def _template() -> Path:
    folder, _ = temporary(_template)
    # In a process of its own: one that has worked with threads cannot be forked any more.
    os.waitpid(forked(lambda: cuescope.audit(network(), images=photographs(folder), only=ONLY, out=folder / "run")), 0)
    return folder


def secret(folder: Path) -> Path:
    path = folder / "elsewhere" / "secret.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(SECRET)
    return path


def resealed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a finding or a manifest, under a checksum that fits."""
    data = json.loads(path.read_text())
    change(data)
    data.pop("checksum", None)
    path.write_text(json.dumps({**data, "checksum": checksum(data)}))


# HTML

SCRIPTS = (
    "<script>attacked()</script>",
    '"><img src=x onerror=attacked()>',
    "'><svg onload=attacked()>",
    "</script><script>attacked()</script>",
    "</style><script>attacked()</script>",
    "</title><script>attacked()</script>",
    "--><script>attacked()</script>",
    "javascript:attacked()",
    '" onmouseover="attacked()" x="',
    "&lt;script&gt;attacked()&lt;/script&gt;",
    "]]><script>attacked()</script>",
    "{{ 1337 * 7331 }}<% attacked() %>${attacked()}",
    "`onclick=attacked()`",
    "url(javascript:attacked())",
    "</textarea><iframe srcdoc='<script>attacked()</script>'>",
)


class Page(HTMLParser):
    """Whether something planted is more than text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.inside: list[str] = []
        self.succeeded = "9801547" in text
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = [tag] if tag in ("script", "style") else []
        for name, value in attrs:
            planted = "attacked" in (value or "")
            runs = name.startswith("on") or name in ("style", "srcdoc", "srcset")
            leads = name in ("href", "src", "action", "formaction", "xlink:href", "data", "poster")
            scripted = (value or "").lower().strip().startswith(("javascript:", "data:text"))
            self.succeeded |= planted and (runs or (leads and scripted))
            self.succeeded |= "attacked" in name
        self.succeeded |= tag == "iframe"

    def handle_data(self, data: str) -> None:
        self.succeeded |= bool(self.inside) and "attacked" in data

    def handle_endtag(self, tag: str) -> None:
        self.inside = []


def in_page(run: Run, folder: Path) -> bool:
    found = [Page((run.path / "report.html").read_text()).succeeded]
    for inline in (True, False):
        report.write([run.path], folder / "page.html", inline=inline, summary=folder / "page.md")
        found.append(Page((folder / "page.html").read_text()).succeeded)
    shown = [run._repr_html_()] if hasattr(run, "_repr_html_") else []
    shown += [finding._repr_html_() for finding in run.findings if hasattr(finding, "_repr_html_")]
    return any(found) or any(Page(text or "").succeeded for text in shown)


def plain(payload: str) -> str:
    """As a name of a file."""
    return payload.replace("/", "\u2215")


@attempts("HTML: names of classes and folders", *SCRIPTS)
def class_names(folder: Path, payload: str) -> bool:
    names = [f"{payload}{k}" for k in range(3)]
    images = photographs(folder, [plain(name) for name in names])
    return in_page(audited(folder, images, classes=[plain(name) for name in names]), folder)


@attempts("HTML: names of files", *SCRIPTS)
def file_names(folder: Path, payload: str) -> bool:
    images = photographs(folder, name=plain(payload) + "{}.png")
    (images / "red" / f"{plain(payload)}.jpg").write_bytes(b"no image")
    return in_page(audited(folder, images), folder)


@attempts("HTML: names of models and image sets", *SCRIPTS)
def model_names(folder: Path, payload: str) -> bool:
    images = photographs(folder).rename(folder / plain(payload))
    return in_page(audited(folder, images, name=payload), folder)


@attempts("HTML: metadata of images", *SCRIPTS)
def metadata(folder: Path, payload: str) -> bool:
    images, text, exif = photographs(folder), PngImagePlugin.PngInfo(), Image.Exif()
    text.add_text("Title", payload)
    exif[0x010E], exif[0x013B] = payload, payload
    for i, path in enumerate(sorted(images.rglob("*.png"))):
        Image.open(path).save(path, pnginfo=text, exif=exif, comment=payload)
        Image.open(path).convert("RGB").save(path.with_name(f"{i}.jpg"), comment=payload.encode(), exif=exif)
    return in_page(audited(folder, images), folder)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of texts in a JSON value."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict | list):
        for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inside, (*path, key))


def planted(data: Any, path: tuple[Any, ...], payload: str) -> None:
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = payload


def places(run: Run) -> list[tuple[Path, tuple[Any, ...]]]:
    """One place of each kind in the JSON files of a run: numbers of entries aside."""
    found: dict[Any, tuple[Path, tuple[Any, ...]]] = {}
    for path in sorted(run.path.rglob("*.json")):
        for leaf in leaves(json.loads(path.read_text())):
            kind = (path.name, tuple("*" if isinstance(key, int) else key for key in leaf))
            found.setdefault(kind, (path, leaf))
    return list(found.values())


@attempts("HTML: each text of a stranger's run folder", *SCRIPTS[:3])
def texts_of_a_run(folder: Path, payload: str) -> bool:
    run, succeeded = audited(folder), False
    for path, leaf in places(run):
        whole = path.read_bytes()
        data = json.loads(whole)
        planted(data, leaf, payload)
        path.write_text(json.dumps(data))
        if "checksum" in data and leaf != ("checksum",):
            resealed(path, lambda _: None)
        if path.name in ("comparisons.json", "pairs.json"):
            run.manifest["made"][path.name] = run.digest(path.name)
            run.write_manifest()
        with contextlib.suppress(CueError):
            report.write([run.path], folder / "page.html")
            succeeded |= Page((folder / "page.html").read_text()).succeeded
        path.write_bytes(whole)
    return succeeded


# Tables

FORMULAS = ("=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1+1", "\r=1+1", '=HYPERLINK("http://x")', "=cmd|' /C calc'!A0")


def a_formula_in(folder: Path) -> bool:
    for path in folder.rglob("*.csv"):
        for row in csv.reader(io.StringIO(path.read_bytes().decode(), newline="")):
            if any(cell[:1] in tuple("=+-@\t\r") and not re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell) for cell in row):
                return True
    return False


@attempts("CSV formulas: what a run writes", *FORMULAS)
def skipped_files(folder: Path, payload: str) -> bool:
    images = photographs(folder, [plain(payload) + name for name in "abc"])
    (images / (plain(payload) + "a") / (plain(payload) + ".png")).write_bytes(b"no image")
    (images / (plain(payload) + ".png")).write_bytes(b"no image")
    return a_formula_in(audited(folder, images, classes=[plain(payload) + name for name in "abc"]).path)


@attempts("CSV formulas: what makers write", *FORMULAS)
def made_labels(folder: Path, payload: str) -> bool:
    names = [plain(payload) + name for name in "abc"]
    images = photographs(folder, names, plain(payload) + "{}.png")
    (images / names[0] / (plain(payload) + ".png")).write_bytes(b"no image")
    rows = [
        (path.relative_to(images).as_posix(), k, names[k // 3]) for k, path in enumerate(sorted(images.rglob("*.png")))
    ]
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("file", "index", "name"), *((f"./{name}", k // 3, own) for name, k, own in rows[:-1])]
        )
    with contextlib.suppress(CueError):
        make("patch-shuffle", images, folder / "made" / "a")
    with contextlib.suppress(CueError):
        make("patch-shuffle", images, folder / "made" / "b", labels=folder / "labels.csv")
    return a_formula_in(folder / "made")


@attempts("CSV formulas: corrected labels", *FORMULAS)
def corrected_labels(folder: Path, payload: str) -> bool:
    row = {"file": payload, "index": 0, "wnid": payload, "name": payload, "labels": [0], "weights": [1.0]}
    row |= {"old_index": 0, "old_name": payload, "old_weight": 0.5}
    (folder / "made").mkdir()
    corrected.write_relabeled(folder / "made", pl.DataFrame([row], corrected.SCHEMA))
    return a_formula_in(folder / "made")


# Terminals

ESCAPES = (
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\x1bP1$r\x1b\\",
    "\x08" * 9,
    "\u202egnp.exe",
    "\r\x1b[A",
    "\x7f\x00"[:1],
)
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def steers(*arguments: str) -> bool:
    """Whether what a command prints holds what steers a terminal."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.suppress(SystemExit):
        command(list(arguments))
    return bool(STEERING.search(out.getvalue() + err.getvalue()))


@attempts("Terminal escapes: names of files and folders", *ESCAPES)
def printed_names(folder: Path, payload: str) -> bool:
    images = photographs(folder, [f"{payload}a", f"{payload}b"], payload + "{}.png").rename(folder / f"p{payload}")
    (images / f"{payload}.png").write_bytes(b"no image")
    audit = ["audit", "cuescope/world-shape@random", "--images", str(images), "--only", "shift_stability"]
    found = [steers(*audit, "--out", str(folder / f"run{payload}")), steers("report", str(folder / f"run{payload}"))]
    return any(found) or steers("make", "patch-shuffle", str(images), str(folder / f"made{payload}"))


@attempts("Terminal escapes: what a user pasted", *ESCAPES)
def printed_arguments(folder: Path, payload: str) -> bool:
    calls = [("audit", payload, "--images", payload), ("report", payload), ("check", payload, "--require", payload)]
    calls += [("look", payload, payload, payload), ("make", payload, payload, payload), ("list", payload), (payload,)]
    calls += [("audit", "cuescope/world-shape", "--images", "world:x", "--set", payload), ("compare", payload, payload)]
    return any(steers(*arguments) for arguments in calls)


@attempts("Terminal escapes: a stranger's run folder", *ESCAPES)
def printed_run(folder: Path, payload: str) -> bool:
    run = audited(folder)
    commands = (("report", str(run.path)), ("check", str(run.path), "--require", "top1>=.1"))
    commands += (("compare", str(run.path), str(run.path)),)
    succeeded = False
    for path, leaf in places(run):
        if path.name not in ("manifest.json", "finding.json") or leaf[0] in ("checksum", "panels"):
            continue
        whole = path.read_bytes()
        data = json.loads(whole)
        planted(data, leaf, payload)
        path.write_text(json.dumps(data))
        if "checksum" in data:
            resealed(path, lambda _: None)
        # A report is written in a second; the others print more, in a tenth of that.
        succeeded |= any(steers(*arguments) for arguments in commands[1:])
        path.write_bytes(whole)
    return succeeded or steers(*commands[0])


# XML

LAUGHS = "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10 if k else "lol"}">' for k in range(10))
DOCTYPES = (
    f"<!DOCTYPE a [{LAUGHS}]>",
    '<!DOCTYPE a [<!ENTITY l9 SYSTEM "file://{secret}">]>',
    '<!DOCTYPE a [<!ENTITY % p SYSTEM "file://{secret}"> %p; <!ENTITY l9 "x">]>',
    '<!DOCTYPE a SYSTEM "file://{secret}" [<!ENTITY l9 "x">]>',
    '<!DOCTYPE a PUBLIC "x" "http://127.0.0.1:9/x.dtd" [<!ENTITY l9 "x">]>',
    '<!DOCTYPE a [<!ENTITY l9 "' + "x" * 500_000 + '">]>',
    "<!DOCTYPE a [<!ATTLIST annotation x CDATA 'y'><!ENTITY l9 'x'>]>",
)


@attempts("XML bombs and entities", *((text, code) for text in DOCTYPES for code in ("utf-8", "utf-16", "latin-1")))
def entities(folder: Path, payload: tuple[str, str]) -> bool:
    text = payload[0].replace("{secret}", str(secret(folder)))
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"
    body = f"{text}<annotation><object><name>a&l9;</name>{box}</object></annotation>"
    path = folder / "a.xml"
    path.write_bytes(f'<?xml version="1.0" encoding="{payload[1]}"?>{body}'.encode(payload[1]))
    with contextlib.suppress(ValueError):
        return any(box.name != "a" for box in read_annotation(path, lambda: (9, 9)).boxes)
    return False


@attempts(
    "XML bombs and entities",
    "<a>" * 200_000,
    "<object>" * 100_000,
    "<a " + "b='' " * 200_000,
    "<a>" + "&#120;" * 150_000,
)
def deep_xml(folder: Path, payload: str) -> bool:
    (folder / "a.xml").write_text(payload)
    with contextlib.suppress(ValueError):
        read_annotation(folder / "a.xml", lambda: (9, 9))
    return False


# Bombs

SIDE = 5000
BOMBS = (("PNG", {}), ("WEBP", {"lossless": True, "method": 0}), ("TIFF", {"compression": "tiff_lzw"}), ("GIF", {}))
BOMBS += (
    ("JPEG", {"quality": 1}),
    ("JPEG2000", {}),
    ("AVIF", {"speed": 10}),
    ("TIFF", {"compression": "tiff_deflate"}),
)


@attempts("Decompression bombs: images", *BOMBS)
def black_image(folder: Path, payload: tuple[str, dict[str, Any]]) -> None:
    """25 million equal pixels. It is made in another process: making it takes more memory than is allowed."""
    kind, how = payload

    def save() -> None:
        Image.new("L", (SIDE, SIDE)).save(folder / "a.img", kind, **how)

    os.waitpid(forked(save), 0)
    forget_peak()
    with contextlib.suppress(UnreadableError):
        peek(1, lambda _: folder / "a.img")
        decode(folder / "a.img")


@attempts("Decompression bombs: images", b"iTXt", b"zTXt", b"iCCP")
def text_in_png(folder: Path, payload: bytes) -> None:
    packed = zlib.compress(bytes(3 << 28), 1)
    body = {b"iTXt": b"a\0\1\0\0\0", b"zTXt": b"a\0\0", b"iCCP": b"a\0\0"}[payload] + packed
    chunk = len(body).to_bytes(4, "big") + payload + body + zlib.crc32(payload + body).to_bytes(4, "big")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    data = buffer.getvalue()
    del packed, body
    forget_peak()
    path = folder / "a.png"
    path.write_bytes(data[:33] + chunk + data[33:])
    with contextlib.suppress(UnreadableError):
        peek(1, lambda _: path)
        decode(path)


@attempts("Decompression bombs: images", 1 << 30, 1 << 34, *BOMBS)
def sparse_file(folder: Path, payload: int | tuple[str, dict[str, Any]]) -> None:
    """Zeros that take no room on the disk, behind the first bytes of an image or behind a whole one."""
    path = folder / "photos" / "a.jpg"
    path.parent.mkdir()
    if isinstance(payload, int):
        path.write_bytes(b"\xff\xd8\xff\xe0")
    else:
        with path.open("wb") as file:
            Image.new("L", (8, 8)).save(file, payload[0], **payload[1])
    for size in (payload,) if isinstance(payload, int) else (1 << 29, 1 << 30):
        os.truncate(path, size)
        with contextlib.suppress(UnreadableError):
            read_folder(path.parent).read(0)


def deflated(path: Path, name: str, size: int) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as file:
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))


@attempts("Decompression bombs: archives", "a.pth", "a.pt2", "a.pt", "a.ts")
def packed_weights(folder: Path, payload: str) -> None:
    state = io.BytesIO()
    torch.save({"a": torch.zeros(1 << 16)}, state)
    path = folder / payload
    with zipfile.ZipFile(state) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            data = old.read(entry)
            with new.open(entry.filename, "w", force_zip64=True) as file:
                file.write(data)
                for _ in range(1 << 10 if "/data/" in entry.filename else 0):
                    file.write(bytes(1 << 20))
    forget_peak()
    with contextlib.suppress(CueError):
        weights.read(path)
    with contextlib.suppress(CueError):
        load(str(path))


@attempts("Decompression bombs: archives", zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
def packed_trials(folder: Path, payload: int) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w", payload) as archive, archive.open("x/raw-data/a.csv", "w") as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    forget_peak()
    get._unpacked(folder / "a.zip")


@attempts("Decompression bombs: tables", "images", "labels", "names", "one", "other images", "other names", "paths")
def packed_table(folder: Path, payload: str) -> None:
    """Few bytes in Parquet that are gigabytes without."""
    zeros = bytes(1 << 20)

    def save() -> None:
        few, others = pl.repeat(b"x", 1000).alias("image"), (f"{k}{zeros.decode()}" for k in range(1000))
        columns = {
            "images": lambda: [pl.repeat(zeros, 1000).alias("image")],
            "labels": lambda: [pl.repeat(b"x", 10**8).alias("image"), pl.repeat(1, 10**8).alias("label")],
            "names": lambda: [few, pl.repeat("x" * (1 << 20), 1000).alias("label")],
            "one": lambda: [pl.Series("image", [bytes(1 << 30)])],
            "other images": lambda: [pl.Series("image", list(others)).cast(pl.Binary)],
            "other names": lambda: [few, pl.Series("label", list(others))],
            "paths": lambda: [pl.repeat("a.png", 10**8).alias("path")],
        }
        pl.select(columns[payload]()).write_parquet(folder / "a.parquet", compression_level=9)

    os.waitpid(forked(save), 0)
    forget_peak()
    with contextlib.suppress(UnreadableError):
        listing.read_tables([folder / "a.parquet"], "a").read(0)


@attempts("Decompression bombs: a stranger's run folder", "rows", "text")
def packed_rows(folder: Path, payload: str) -> None:
    run = audited(folder)
    cell = next(cell for cell in run.cells if cell.instrument == "accuracy")
    path = cell.folder / "rows" / "000000.parquet"

    def save() -> None:
        rows = pl.read_parquet(path)
        bomb = {
            "rows": lambda: pl.concat([rows.head(1)] * 1).select(pl.all().repeat_by(10**7).explode()),
            "text": lambda: rows.with_columns(id=pl.lit("x" * (1 << 29))),
        }[payload]()
        path.write_bytes(seals.sealed_rows(bomb, f"{cell.folder.name}/000000"))

    os.waitpid(forked(save), 0)
    seal = seals.check_rows(path.read_bytes(), f"{cell.folder.name}/000000")
    resealed(cell.folder / "finding.json", lambda data: data.update(chunks=[seal]))
    forget_peak()
    Run.open(run.path).cells[0].rows()


@attempts("Decompression bombs: a stranger's run folder", "picture", "finding.json", "manifest.json")
def large_files(folder: Path, payload: str) -> None:
    run = audited(folder)
    if payload == "picture":
        target = next(run.path.glob("cells/*/images/*.png"))
        os.waitpid(forked(lambda: Image.new("L", (SIDE, SIDE)).save(target, "PNG")), 0)
    else:
        target = next(run.path.rglob(payload))
        os.truncate(target, 1 << 33)
    forget_peak()
    report.write([run.path], folder / "page.html", inline=True)


# Paths

WAYS = (
    "../elsewhere/secret.txt",
    "{folder}/elsewhere/secret.txt",
    "a/../../elsewhere/secret.txt",
    "..\\elsewhere\\secret.txt",
)


@attempts("Path traversal: tables of labels", *WAYS)
def label_paths(folder: Path, payload: str) -> bool:
    secret(folder)
    Image.new("RGB", (9, 9)).save(folder / "elsewhere" / "secret.png")
    images, path = photographs(folder), folder / "labels.csv"
    name = payload.format(folder=folder).replace("secret.txt", "secret.png")
    path.write_text(f"file,index\nred/0.png,0\n{name},1\n")
    found = read_folder(images, labels=path)
    return any("secret" in found.id(i) for i in range(len(found)))


@attempts("Path traversal: archives", *WAYS)
def archive_paths(folder: Path, payload: str) -> bool:
    target = folder / "elsewhere"
    target.mkdir()
    name = payload.format(folder=folder).replace("secret.txt", "new.csv")
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr(f"raw-data/{name}", "x")
        archive.writestr(f"x/raw-data/{name}", "x")
    with contextlib.suppress(CueError):
        for file in get._unpacked(folder / "a.zip"):
            if not (folder / "people" / file).resolve().is_relative_to(folder / "people"):
                return True
    return any(target.iterdir())


@attempts("Path traversal: archives", *WAYS, "link", "hardlink")
def tar_paths(folder: Path, payload: str) -> bool:
    path = secret(folder)
    with tarfile.open(folder / "a.tar", "w") as tar:
        info = tarfile.TarInfo("a.png" if "link" in payload else payload.format(folder=folder))
        if "link" in payload:
            info.type, info.linkname = (tarfile.SYMTYPE if payload == "link" else tarfile.LNKTYPE), str(path)
        tar.addfile(info, io.BytesIO())
        label = tarfile.TarInfo("b.cls")
        label.type, label.linkname = tarfile.SYMTYPE, str(path)
        tar.addfile(label)
        buffer = io.BytesIO()
        Image.new("RGB", (9, 9)).save(buffer, "PNG")
        image = tarfile.TarInfo("b.png")
        image.size = len(buffer.getvalue())
        tar.addfile(image, io.BytesIO(buffer.getvalue()))
    images = tars.read_tars([folder / "a.tar"], "a")
    return bool(images.classes and SECRET in str(images.classes.names))


@attempts("Path traversal: a stranger's run folder", *WAYS)
def cell_folders(folder: Path, payload: str) -> bool:
    """A cell outside, which is a whole one."""
    run = audited(folder)
    outside = run.cells[0].folder.rename(folder / "elsewhere")
    way = payload.format(folder=folder).replace("/secret.txt", "").replace("\\secret.txt", "")
    run.manifest["cells"][0]["folder"] = way
    run.write_manifest()
    assert outside.is_dir()
    return Run.open(run.path).cells[0].finding is not None


@attempts("Path traversal: a stranger's run folder", *WAYS)
def figure_files(folder: Path, payload: str) -> bool:
    run = audited(folder)
    (folder / "elsewhere").mkdir()
    path = next(iter(run.path.glob("cells/*occlusion*/finding.json")))
    picture = next(path.parent.glob("images/*.png"))
    Image.new("RGB", Image.open(picture).size, (1, 2, 3)).save(folder / "elsewhere" / "secret.png")
    way = payload.format(folder=folder).replace("secret.txt", "secret.png")

    def change(data: dict[str, Any]) -> None:
        for panel in data["panels"]:
            for figure in panel.get("figures", ()):
                figure["file"] = way

    resealed(path, change)
    report.write([run.path], folder / "page.html", inline=True)
    return False


LINKED = ("manifest.json", "finding.json", "rows/000000.parquet", "images", "rows", "facts.json", "classes.json")
LINKED += ("comparisons.json", "skipped.csv", "report.html", ".lock", "cells", "answers.npy", "error.txt", "begun")


@attempts("Links in a stranger's run folder: read", *LINKED)
def read_through_link(folder: Path, payload: str) -> bool:
    """A link to a file or a folder elsewhere: its text must not get into what is said or written."""
    run, outside = audited(folder), secret(folder)
    target = _place(run, payload)
    _linked(target, outside.parent if target.is_dir() or payload == "begun" else outside)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), contextlib.suppress(SystemExit):
        command(["report", str(run.path), "--out", str(folder / "page.html"), "--inline"])
    page = (folder / "page.html").read_text() if (folder / "page.html").is_file() else ""
    return SECRET in page + out.getvalue()


@attempts("Links in a stranger's run folder: written", *LINKED)
def write_through_link(folder: Path, payload: str) -> bool:
    """An audit goes on in the folder: nothing elsewhere is written, changed or removed."""
    run, outside = audited(folder), secret(folder)
    target = _place(run, payload)
    _linked(target, outside.parent if target.is_dir() or payload == "begun" else outside)
    for name in ("000000.parquet", "000000-000004.parquet", ".x.part", ".probe-1"):
        (outside.parent / name).write_text("kept")
    before = _content(outside.parent)
    run_again = run.path / "manifest.json"
    if payload != "manifest.json" and run_again.is_file():
        resealed(run_again, lambda data: data.update(finished=None, cells=[]))
    for cell in (run.path / "cells").glob("*") if payload != "cells" else ():
        (cell / "finding.json").unlink(missing_ok=True)
    with contextlib.suppress(CueError):
        cuescope.audit(network(), images=folder / "photos", only=ONLY, out=run.path)
    return _content(outside.parent) != before


def _place(run: Run, name: str) -> Path:
    own = ("manifest.json", "classes.json", "comparisons.json", "skipped.csv", "report.html", ".lock", "cells")
    cell = next(iter(run.path.glob("cells/*occlusion*")))
    return run.path / name if name in own else cell / name


def _linked(target: Path, to: Path) -> None:
    if target.is_dir():
        target.rename(target.with_name(f"{target.name}-aside"))
    else:
        target.unlink(missing_ok=True)
    target.symlink_to(to)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@attempts("Links in folders of images and makers", "out", "manifest", "journal")
def maker_links(folder: Path, payload: str) -> bool:
    images, outside = photographs(folder), secret(folder)
    made = folder / "made"
    made.mkdir()
    if payload == "out":
        (made / "red").symlink_to(outside.parent)
    else:
        make("patch-shuffle", images, made)
        target = made / ("manifest.json" if payload == "manifest" else ".cuescope")
        _linked(target, outside if payload == "manifest" else outside.parent)
    before = _content(outside.parent)
    with contextlib.suppress(CueError):
        make("patch-shuffle", images, made)
    return _content(outside.parent) != before


# Code


class Evil:
    """Unpickled it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


PICKLED = ("zip", "legacy", "bare", "inside", "tensor", "dict")


def evil_file(path: Path, kind: str, mark: Path) -> None:
    evil = Evil(mark)
    if kind == "bare":
        path.write_bytes(pickle.dumps(evil))
    elif kind == "legacy":
        torch.save({"a": torch.zeros(1), "b": evil}, path, _use_new_zipfile_serialization=False)
    else:
        held = {"zip": evil, "inside": [[evil]], "tensor": {"a": torch.zeros(1), "b": evil}, "dict": {evil: 1}}[kind]
        torch.save(held, path)


@attempts(
    "Pickles", *((kind, name) for kind in PICKLED for name in ("a.pth", "a.pt", "a.bin", "a.safetensors", "a.pt2"))
)
def pickled_weights(folder: Path, payload: tuple[str, str]) -> bool:
    path, mark = folder / payload[1], folder / "ran"
    evil_file(path, payload[0], mark)
    for read in (
        lambda: weights.read(path),
        lambda: load(str(path)),
        lambda: load(f"cuescope/bagnet9@{path}"),
        lambda: read_published(path, axes="yx", classes=3),
        lambda: open_label_maps(path),
        lambda: checkpoint.facts_of(path),
    ):
        with contextlib.suppress(CueError):
            read()
    return mark.exists()


@attempts("Pickles", "answers.npy", "finding.json", "rows/000000.parquet", "facts.json")
def pickled_run(folder: Path, payload: str) -> bool:
    run, mark = audited(folder), folder / "ran"
    target = _place(run, payload)
    if payload == "answers.npy":
        np.save(target, np.array([Evil(mark)], dtype=object), allow_pickle=True)
    else:
        target.write_bytes(pickle.dumps(Evil(mark)))
    with contextlib.suppress(CueError):
        cuescope.audit(network(), images=folder / "photos", only=ONLY, out=run.path)
    return mark.exists()


CODE = (
    ("a.yaml", "!!python/object/apply:os.system ['touch {mark}']"),
    ("a.yml", "- !!python/object/new:os.system ['touch {mark}']"),
    ("a.py", "CLASSES = [__import__('os').system('touch {mark}')]"),
    ("a.py", "__import__('os').system('touch {mark}')"),
    ("a.json", '["a", __import__("os").system("touch {mark}")]'),
    ("a.txt", "(lambda: __import__('os').system('touch {mark}'))()"),
)


@attempts("Code in texts", *CODE)
def class_files(folder: Path, payload: tuple[str, str]) -> bool:
    mark = folder / "ran"
    (folder / payload[0]).write_text(payload[1].replace("{mark}", str(mark)))
    with contextlib.suppress(CueError):
        read_classes(folder / payload[0])
    return mark.exists()


@attempts("Code in texts", "instrument", "classifier", "command", "source", "remedy")
def named_in_a_run(folder: Path, payload: str) -> bool:
    """A run folder that names a file of code."""
    run, mark = audited(folder), folder / "ran"
    evil = folder / "evil.py"
    evil.write_text(f"import os\nos.system('touch {mark}')\n")
    for cell in run.manifest["cells"]:
        if payload in cell:
            cell[payload] = str(evil)
    run.manifest["command"] = f"cuescope audit {evil}:Net; touch {mark}"
    run.write_manifest()
    with contextlib.suppress(CueError):
        report.write([run.path], folder / "page.html")
    with contextlib.suppress(CueError):
        Run.open(run.path).frame(str(evil))
    return mark.exists()


class Writes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "/tmp/never")
        return x


SCRIPTED = (
    "torch.from_file('{mark}', True, 4)",
    "ops.aten.from_file('{mark}', True, 4)",
    "ops.aten.save(x, '{mark}')",
    "getattr(ops.aten, 'sa' + 've')(x, '{mark}')",
)


@attempts("Code in programs", *SCRIPTED)
def torchscript(folder: Path, payload: str) -> bool:
    path, mark = folder / "a.pt", folder / "ran"
    torch.jit.save(torch.jit.trace(MeanColor(), torch.rand(1, 3, 8, 8)), str(path))
    with zipfile.ZipFile(path) as old:
        files = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in files.items():
            if name.endswith(".py"):
                line = f"    y = {payload.replace('{mark}', str(mark))}\n"
                data = re.sub(
                    rb"(forward\(.*\n(?:.*\) -> .*\n)?)", lambda m, line=line: m[1] + line.encode(), data, count=1
                )
            new.writestr(name, data)
    with contextlib.suppress(CueError):
        load(str(path))
    return mark.exists()


# Headers that lie


def headed(head: dict[str, Any] | bytes, body: bytes = b"", size: int | None = None) -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + body


def tensor(shape: list[int], span: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": span}}


LIES = (
    headed({}, size=2**63 - 1),
    headed({}, size=2**62),
    headed(b"{" + b" " * 10**6, size=10**8),
    headed(tensor([2**40], [0, 2**42])),
    headed(tensor([2**62, 4], [0, 16]), bytes(16)),
    headed(tensor([-1], [0, 4]), bytes(4)),
    headed(tensor([1], [4, 0]), bytes(4)),
    headed(tensor([1], [-4, 0]), bytes(4)),
    headed({**tensor([2], [0, 8]), "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, bytes(12)),
    headed({**tensor([1], [0, 4]), "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    headed(tensor([1], [0, 4]), bytes(400)),
    headed(tensor([0, 2**60], [0, 0])),
    headed({"__metadata__": {"network": "[" * 200_000}, **tensor([1], [0, 4])}, bytes(4)),
    headed(b'{"a":' * 100_000),
)


@attempts("Headers that lie: safetensors", *LIES)
def lying_safetensors(folder: Path, payload: bytes) -> None:
    path = folder / "a.safetensors"
    path.write_bytes(payload)
    for read in (weights.read, open_label_maps, checkpoint.facts_of, lambda path: load(str(path))):
        with contextlib.suppress(CueError):
            read(path)


def onnx_file(path: Path, location: str, offset: int = 0, length: int = 48) -> None:
    from onnx import TensorProto, helper, save

    kernel = TensorProto(name="kernel", data_type=TensorProto.FLOAT, dims=[3, 4])
    kernel.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        kernel.external_data.add(key=key, value=value)
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "kernel"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["B", 3, 8, 6])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [image], [logits], [axes, kernel])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))


@attempts("Headers that lie: ONNX", *WAYS, "link.bin", "/proc/self/environ", "model/../../elsewhere/secret.txt")
def onnx_outside(folder: Path, payload: str) -> bool:
    """Weights that lie in a file outside of the folder of the model: it is not loaded with them."""
    outside, path = secret(folder), folder / "model" / "a.onnx"
    outside.write_bytes(np.arange(12, dtype=np.float32).tobytes())
    path.parent.mkdir()
    (path.parent / "link.bin").symlink_to(outside)
    onnx_file(path, payload.format(folder=folder))
    load(str(path))
    return True


@attempts("Headers that lie: ONNX", (2**62, 48), (0, 2**62), (-8, 48), (40, 48))
def onnx_lengths(folder: Path, payload: tuple[int, int]) -> bool:
    (folder / "a.data").write_bytes(bytes(48))
    onnx_file(folder / "a.onnx", "a.data", *payload)
    load(str(folder / "a.onnx"))
    return True


@attempts("Headers that lie: torch", torch.bfloat16, torch.float16, torch.float32)
def repeated_numbers(folder: Path, payload: torch.dtype) -> None:
    """One number that says it is ten thousand millions."""
    torch.save({"a": torch.zeros(1, dtype=payload).expand(100_000, 100_000)}, folder / "a.pth")
    weights.read(folder / "a.pth")


@attempts("Headers that lie: torch", "huge", "negative")
def sparse_numbers(folder: Path, payload: str) -> None:
    side = 10**9 if payload == "huge" else 3
    sparse = torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (side, side))
    if payload == "negative":
        sparse._indices().fill_(-1)
    torch.save({"a": sparse, "b": torch.zeros(2)}, folder / "a.pth")
    load(f"cuescope/bagnet9@{folder / 'a.pth'}")


@attempts("Text without end", "[" * 10**6, '{"a":' * 10**6, "- " * 10**5, "a: {" * 10**5, "(" * 10**5, "9" * 10**6)
def endless_text(folder: Path, payload: str) -> None:
    for name in ("a.json", "a.yaml", "a.py", "a.txt"):
        (folder / name).write_text(payload)
        with contextlib.suppress(CueError):
            read_classes(folder / name)
    for name in ("a.csv", "a.jsonl"):
        (folder / name).write_text(f"file,index\n{payload},0\n" if name == "a.csv" else payload)
        with contextlib.suppress(CueError):
            read_labels(folder / name)


@attempts("Text without end", "labels", "classes", "images", "weights", "run")
def pipes(folder: Path, payload: str) -> None:
    """A pipe that nobody writes to, where a file is expected."""
    os.mkfifo(folder / "a.csv")
    for name in ("a.pth", "a.png", "manifest.json"):
        os.mkfifo(folder / name)
    with contextlib.suppress(UnreadableError):
        {
            "labels": lambda: read_labels(folder / "a.csv"),
            "classes": lambda: read_classes(folder / "a.csv"),
            "images": lambda: read_folder(folder),
            "weights": lambda: weights.read(folder / "a.pth"),
            "run": lambda: Run.open(folder),
        }[payload]()


def tried(attempt: Callable[[Path], bool | None], folder: Path, most: int = MEGABYTES) -> str:
    """ "failed", "succeeded" or "crash", with how; in a process of its own."""
    log = folder / "outcome"

    def work() -> None:
        warnings.simplefilter("ignore")
        os.environ["COLUMNS"] = "300"
        place = folder / "place"
        place.mkdir()
        said = (folder / "said").open("w")
        os.dup2(said.fileno(), 2)
        forget_peak()
        before = peak_kb()
        started, found = time.process_time(), "failed"
        try:
            if attempt(place):
                found = "succeeded"
        except CueError:
            pass
        except BaseException:
            found = f"crash: {traceback.format_exc(limit=-3)}"
        grown, spent = (peak_kb() - before) / 1024, time.process_time() - started
        if grown > most:
            found = f"succeeded: {grown:.0f} MB"
        log.write_text(f"succeeded: {spent:.0f} s" if spent > SECONDS else found)

    pid, spent, since = forked(work), 0.0, time.monotonic()
    while not os.waitpid(pid, os.WNOHANG)[0]:
        # Other work may share the machine: what waits for its turn is slow, but does not stand still.
        if (now := _spent(pid)) != spent:
            spent, since = now, time.monotonic()
        if spent > 2 * SECONDS or time.monotonic() - since > 4 * SECONDS:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "succeeded: it hangs"
        time.sleep(0.02)
    return log.read_text() if log.is_file() else "succeeded: the process died"


def _spent(pid: int) -> float:
    """Seconds of the processor that a process and those that it waited for have taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def table(found: dict[str, list[str]]) -> str:
    lines = ["| what a stranger hands over | attempts | successes |", "| --- | ---: | ---: |"]
    counts = {kind: (len(all_), sum(not one.startswith("failed") for one in all_)) for kind, all_ in found.items()}
    lines += [f"| {kind} | {tries} | {successes} |" for kind, (tries, successes) in counts.items()]
    tries, successes = (sum(column) for column in zip(*counts.values(), strict=True))
    return "\n".join([*lines, f"| **all** | {tries} | {successes} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--work", type=Path, default=Path("/tmp/cuescope-attacks"))
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    log = given.work / "attacks.json"
    found: dict[str, list[str]] = json.loads(log.read_text()) if log.is_file() else {}
    _template()  # Here, not anew in the process of each attempt.
    for kind, tries in ATTEMPTS.items():
        if given.only and not any(part in kind for part in given.only.split(",")):
            continue
        started, found[kind] = time.monotonic(), []
        for name, attempt in tries:
            with tempfile.TemporaryDirectory() as folder:
                found[kind].append(tried(attempt, Path(folder), OF_IMAGES if kind.endswith("images") else MEGABYTES))
            if not found[kind][-1].startswith("failed"):
                print(f"  {name}: {found[kind][-1]}", flush=True)
        log.write_text(json.dumps(found))
        print(f"{kind}: {len(tries)} attempts, {time.monotonic() - started:.0f} s", flush=True)
    found = {kind: found[kind] for kind in ATTEMPTS if kind in found}
    print(table(found))
    if given.write:
        write_between(given.write, BEGIN, END, table(found))


if __name__ == "__main__":
    main()
