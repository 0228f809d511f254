"""The readers that bench/fuzz.py tries: their valid inputs, how those are damaged, and how they are read."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import pickle
import random
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # noqa: F401
import polars as pl
import timm  # noqa: F401
import torch
from fuzz_mutations import Mutation, jsoned, tar_sums, varied, with_crc, worded
from PIL import Image
from torch import nn

import cuescope.api.audit
from cuescope import report
from cuescope.api import get
from cuescope.api.check import Requirement
from cuescope.classifier.sources import (
    archives,
    from_exported,
    from_onnx,
    from_torchscript,
    load,
    preprocessings,
    prompts,
    weights,
)
from cuescope.classifier.sources.found import Asked
from cuescope.cli.audit import settings
from cuescope.core.classes import ClassSpace, read_classes
from cuescope.core.errors import CueError
from cuescope.core.files import checksum
from cuescope.data.images import UnreadableError
from cuescope.data.label_maps import open_label_maps
from cuescope.data.label_maps.file import _digest, label_map_bytes
from cuescope.data.label_maps.layout import Header
from cuescope.data.label_maps.published import published_bytes, read_published
from cuescope.data.preprocessing import Preprocessing
from cuescope.data.readers import arrow, parquet, read_folder, read_human_data, read_parts, read_real, tars
from cuescope.data.readers.decode import decode, size_of
from cuescope.data.readers.labels import read_labels
from cuescope.data.readers.metadata import read_metadata
from cuescope.data.readers.peek import peek
from cuescope.data.readers.voc import read_annotation
from cuescope.instruments import registry
from cuescope.makers.output_folder import OutputFolder
from cuescope.models.saved import Saved, read_saved, to_bytes
from cuescope.runs import answers, seals, slices
from cuescope.runs.store import Run
from cuescope.training import checkpoint


@dataclass(frozen=True)
class Reader:
    """A reader of a user's bytes. `seeds` gives valid inputs, and may prepare the folder that `read` gets."""

    name: str
    seeds: Callable[[Path], Sequence[bytes]]
    read: Callable[[bytes, Path], object]
    damage: Mutation = varied
    share: float = 1.0
    """Of all inputs; less where one takes long."""
    errors: tuple[type[Exception], ...] = ()
    """What it documents to raise besides CueError."""

    @property
    def slug(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


def in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """A reader of paths as one of bytes."""

    def through(data: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(data)
        return read(path)

    return through


def each(*reads: Callable[[], object]) -> None:
    """All of these, whatever some of them refuse; the last refusal is raised."""
    refused = None
    for read in reads:
        try:
            read()
        except CueError as error:
            refused = error
    if refused:
        raise refused


# Images


def pixels(seed: int = 0, height: int = 20, width: int = 24, channels: int = 3) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, channels), dtype=np.uint8)
    return np.kron(noise, np.ones((height // 4, width // 4, 1), np.uint8))


def saved(kind: str, mode: str = "RGB", **how: Any) -> bytes:
    image, buffer = Image.fromarray(pixels()), io.BytesIO()
    image = Image.fromarray(pixels()[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def pngs(_: Path) -> list[bytes]:
    modes = [saved("PNG", mode) for mode in ("RGB", "RGBA", "L", "P", "1", "I;16", "LA")]
    exif = Image.Exif()
    exif[0x0112] = 6
    return [*modes, saved("PNG", exif=exif), saved("PNG", save_all=True, append_images=[Image.fromarray(pixels(1))])]


def images(folder: Path) -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    jpegs = [saved("JPEG"), saved("JPEG", progressive=True), saved("JPEG", "CMYK"), saved("JPEG", "L", exif=exif)]
    tiffs = [saved("TIFF", compression=how) for how in (None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg")]
    tiffs += [saved("TIFF", "I;16"), saved("TIFF", exif=exif), saved("TIFF", "1", compression="group4")]
    others = [saved("WEBP"), saved("WEBP", lossless=True), saved("AVIF"), saved("GIF"), saved("BMP"), saved("PPM")]
    others += [saved("JPEG2000"), saved("BMP", "P"), saved("PPM", "L"), saved("PPM", "1")]
    others += [saved("GIF", save_all=True, append_images=[Image.fromarray(pixels(1))])]
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)
    return [*pngs(folder), *jpegs, *tiffs, *others, saved("HEIF")]


def sizes(data: bytes, folder: Path) -> None:
    (folder / "a.img").write_bytes(data)
    peek(1, lambda _: folder / "a.img")
    size_of(folder / "a.img")


# Weights


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def pickled(value: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


def states() -> list[Any]:
    state = net().state_dict()
    halves = {key: value.to(torch.bfloat16) if value.is_floating_point() else value for key, value in state.items()}
    return [
        state,
        {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3, "best": 0.5},
        {"model": halves, "model_ema": state},
        {"a": state, "b": {"c": dict(state)}},
        {"q": torch.quantize_per_tensor(torch.rand(3, 4), 0.1, 0, torch.qint8), "s": torch.rand(3, 3).to_sparse()},
    ]


def pths(_: Path) -> list[bytes]:
    return [pickled(state) for state in states()]


def old_pths(_: Path) -> list[bytes]:
    old = [pickled(state, _use_new_zipfile_serialization=False) for state in states()[:4]]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            info, data = tarfile.TarInfo(name), pickle.dumps({}, 2)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return [*old, buffer.getvalue()]


def in_zip(name: str, damage: Mutation) -> Mutation:
    """Damage to one file of an archive, whose checksums fit."""

    def through(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
            for entry in old.infolist():
                inside = old.read(entry)
                if entry.filename.endswith(name):
                    inside = damage(inside, rng, [inside])
                new.writestr(entry.filename, inside)
        return buffer.getvalue()

    return through


def any_of(*damages: Mutation) -> Mutation:
    return lambda data, rng, others: rng.choice(damages)(data, rng, others)


SAVED = Saved("zfnet", ClassSpace("mine", ("a", "b", "c"), ("a", "b", "c")), Preprocessing((8, 8), 8))


def safetensors_files(_: Path) -> list[bytes]:
    network = net()
    average, optimizer = net(1), torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    facts = {"about": {"a": 1}, "done": 3, "best": None, "lost": {}}
    return [to_bytes(network, SAVED), checkpoint.packed(network, average, optimizer, facts)]


def read_safetensors(path: Path) -> None:
    def restored() -> None:
        if checkpoint.facts_of(path) is None:
            return
        network, average = net(), net()
        checkpoint.restore(path, network, average, torch.optim.SGD(network.parameters(), 0.1, momentum=0.9))

    each(lambda: weights.read(path), lambda: read_saved(path), restored)


def in_header(damage: Mutation) -> Mutation:
    """Damage to the JSON at the head of a safetensors file, whose length fits."""

    def through(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
        size = int.from_bytes(data[:8], "little")
        head = damage(data[8 : 8 + size], rng, [data[8 : 8 + size]])
        return len(head).to_bytes(8, "little") + head + data[8 + size :]

    return through


def told(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Damage to the JSON texts among the metadata of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    metadata = head["__metadata__"]
    key = rng.choice(list(metadata))
    metadata[key] = jsoned(metadata[key].encode(), rng, others).decode(errors="replace")
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


# Programs


def programs(folder: Path) -> list[bytes]:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(net().eval(), torch.rand(2, 3, 8, 8)), buffer)
    return [buffer.getvalue()]


def exported_programs(folder: Path) -> list[bytes]:
    buffer = io.BytesIO()
    free = ({0: torch.export.Dim("batch", min=1, max=64)},)
    torch.export.save(torch.export.export(net().eval(), (torch.rand(2, 3, 8, 8),), dynamic_shapes=free), buffer)
    return [buffer.getvalue()]


def find_program(find: Callable[[str, Asked], Any]) -> Callable[[bytes, Path], object]:
    def read(path: Path) -> None:
        each(lambda: archives.program(path), lambda: find(str(path), Asked()))

    return in_file("a.pt2", read)


def run_program(path: Path) -> None:
    """As an audit does: the first images decide whether a black box can be used."""
    load(str(path), device="cpu")


def onnx_files(folder: Path) -> list[bytes]:
    from onnx import TensorProto, helper, numpy_helper

    def made(kind: int, shape: list[Any], **more: str) -> bytes:
        nodes = [
            helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["cast", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "kernel"], ["logits"]),
        ]
        held = {"axes": np.array([2, 3]), "kernel": np.ones((3, 4), np.float32)}
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("images", kind, shape)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(values, name) for name, values in held.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        helper.set_model_props(model, more)
        return model.SerializeToString()

    head = to_bytes(net(), SAVED)
    text = json.loads(head[8 : 8 + int.from_bytes(head[:8], "little")])["__metadata__"]["network"]
    return [
        made(TensorProto.FLOAT, ["B", 3, 8, 6]),
        made(TensorProto.UINT8, [1, 3, 8, 6]),
        made(TensorProto.FLOAT, ["B", 3, "H", "W"], network=text),
    ]


# Tables and texts


def texts(*made: str) -> Callable[[Path], list[bytes]]:
    return lambda folder: [text.encode() for text in made]


CLASSES = {
    "txt": texts("cat\ndog\nred fox\n", "n01440764 tench\nn01443537 goldfish\n", "0 cat\n1 dog\n", "cat,0\ndog,1\n"),
    "json": texts('["cat", "dog"]', '{"0": "cat", "1": ["n01440764", "tench"]}', '{"id2label": {"0": "a"}}'),
    "yaml": texts("- cat\n- dog\n", "names:\n  0: cat\n  1: dog\n", "nc: 2\nnames: [a, b]\n"),
    "py": texts("CLASSES = ('cat', 'dog')\n", "names = {0: 'cat', 1: 'dog'}\n", "[('n1', 'a'), ('n2', 'b')]"),
    "csv": texts("index,name\n0,cat\n1,dog\n", "class_id;class_name\n0;a\n1;b\n", "wnid\tname\nn01440764\ttench\n"),
}


def class_files(folder: Path) -> list[bytes]:
    """The suffix in a line of its own, then the text."""
    return [suffix.encode() + b"\n" + text for suffix, made in CLASSES.items() for text in made(folder)]


def below_line(damage: Callable[[bytes], Mutation]) -> Mutation:
    """Damage to what stands below the first line, which says what it is."""

    def through(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
        first, _, rest = data.partition(b"\n")
        same = [other.partition(b"\n")[2] for other in others if other.startswith(first + b"\n")]
        return first + b"\n" + damage(first)(rest, rng, same)

    return through


def read_class_file(data: bytes, folder: Path) -> None:
    suffix, _, rest = data.partition(b"\n")
    path = folder / f"a.{suffix.decode()}"
    path.write_bytes(rest)
    read_classes(path)


def photographs(folder: Path, count: int = 3) -> Path:
    for i in range(count):
        path = folder / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(i)).save(path)
    return folder / "photos"


@functools.cache
def photo_set(folder: Path) -> Any:
    return read_folder(folder / "photos")


def part_tables(folder: Path) -> list[bytes]:
    photographs(folder)
    return [
        b"file,part,x0,y0,x1,y1\na/0.png,eye,1,2,10,12\nb/1.png,ear,0,0,5.5,6\n",
        b"FILE;PART;X0;Y0;X1;Y1\na/2.png;eye;1;2;10;12\n",
    ]


def label_tables(folder: Path) -> list[bytes]:
    photographs(folder)
    return [
        b"file,index\na/0.png,0\nb/1.png,1\na/2.png,2\n",
        b"file,wnid,index,name\na/0.png,n01440764,0,tench\nb/1.png,n01443537,1,goldfish\n",
        b"image;label\na/0.png;cat\nb/1.png;dog\n",
    ]


def read_label_table(data: bytes, folder: Path) -> None:
    path = folder / "labels.csv"
    path.write_bytes(data)
    each(lambda: read_labels(path).classes, lambda: read_folder(folder / "photos", labels=path))


JSON_LINES = texts('{"file_name": "a/0.png", "label": 0}\n{"file_name": "b/1.png", "label": 1}\n')
TRIALS = texts(
    "subj,session,trial,rt,object_response,category,condition,imagename\n"
    "subject-01,1,1,0.5,cat,cat,0,0001_cr_s01_cat_00_cat1-dog2.png\n"
    "alexnet,1,2,NaN,dog,dog,0,0002_cr_s01_dog_00_dog1-cat2.png\n"
)


def trials(data: bytes, folder: Path) -> None:
    path = folder / "trials" / "edge-experiment" / "a.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    read_human_data(folder / "trials")


def annotations(_: Path) -> list[bytes]:
    return [
        b"<annotation><filename>a.jpg</filename><size><width>24</width><height>20</height><depth>3</depth></size>"
        b"<object><name>cat</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>"
        b"<object><name>dog</name><bndbox><xmin>3.5</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>"
        b"</annotation>",
        b'<?xml version="1.0" encoding="utf-8"?>\n<annotation>\n <object>\n  <name>n01440764</name>\n  <bndbox>'
        b"<xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>\n </object>\n</annotation>",
    ]


def real_files(_: Path) -> list[bytes]:
    return [json.dumps([[i % 1000] for i in range(50_000)]).encode()]


def real_damage(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Two megabytes: the damage is at the beginning."""
    return worded(data[:400], rng, [data[:400]]) + data[400:]


def configs(_: Path) -> list[bytes]:
    clip = {"preprocess_cfg": {"size": 224, "mean": [0.5, 0.5, 0.5]}, "model_cfg": {"vision_cfg": {"image_size": 96}}}
    of_timm = {"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 96, 96], "crop_pct": 0.9}}
    own = {"size": 64, "resize": [72, 72], "mean": [0.5, 0.5, 0.5], "interpolation": "bicubic"}
    return [
        *(json.dumps(one).encode() for one in (clip, of_timm, own)),
        json.dumps({"image_processor_type": "ViTImageProcessor", "size": 384, "image_mean": [0.5, 0.5, 0.5]}).encode(),
        json.dumps(
            {
                "feature_extractor_type": "CLIPFeatureExtractor",
                "size": {"shortest_edge": 224},
                "crop_size": {"height": 224, "width": 224},
                "do_center_crop": True,
                "resample": 3,
                "rescale_factor": 0.00392156862745098,
                "image_std": [0.5, 0.5, 0.5],
            }
        ).encode(),
    ]


def set_values(_: Path) -> list[bytes]:
    from cuescope.core.parameters import parameters
    from cuescope.instruments.names import names

    found = []
    for name in names():
        for key, (_kind, default, _meaning) in parameters(registry.find(name)).items():
            value = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
            found.append(f"{name}.{key}={value}".encode())
    return found


def set_damage(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    key, _, value = data.partition(b"=")
    numbers = (b"nan", b"inf", b"-inf", b"1e400", b"1" + b"0" * 400, b"9" * 5000, b"-1", b"0", b"0.5", b"1e18", b"")
    if rng.random() < 0.4:
        parts = value.split(b",")
        parts[rng.randrange(len(parts))] = rng.choice(numbers)
        return key + b"=" + b",".join(parts)
    return key + b"=" + worded(value, rng, [other.partition(b"=")[2] for other in others])


def read_set(data: bytes, _: Path) -> None:
    ((key, value),) = settings([data.decode("utf-8", "surrogateescape")]).items()
    name, _, parameter = key.partition(".")
    tool = registry.build(name, {parameter: value})
    found = getattr(tool, parameter)
    for one in found if isinstance(found, tuple) else (found,):
        if isinstance(one, float | int) and not abs(one) < 2**63:
            raise AssertionError(f"{key} is no number to work with")


def requirements(_: Path) -> list[bytes]:
    return [b"top1>=.7", b"shape_bias.shape_bias <= 30%", b"a<1e-3"]


# Archives and tables of images


def tar_files(_: Path) -> list[bytes]:
    def made(files: dict[str, bytes], kind: int) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    png, jpeg = saved("PNG"), saved("JPEG")
    flat = {"0001.png": png, "0001.cls": b"3", "0002.jpg": jpeg, "0002.json": b'{"label": 1}'}
    deep = {"train/cat/" + "x" * 120 + ".png": png, "train/dog/é.jpg": jpeg}
    return [made(flat, tarfile.USTAR_FORMAT), made(flat, tarfile.GNU_FORMAT), made(deep, tarfile.PAX_FORMAT)]


def read_tar(path: Path) -> None:
    read_all(tars.read_tars([path], "a"))


def read_all(images: Any) -> None:
    """Each image, as an audit does: those that cannot be read are skipped."""
    assert len(images.digest) == 32
    for i in range(min(len(images), 8)):
        try:
            images.read(i)
        except UnreadableError:
            continue


def image_tables() -> list[pl.DataFrame]:
    rows = [{"bytes": saved("PNG"), "path": None}, {"bytes": saved("JPEG"), "path": "b.jpg"}]
    return [
        pl.DataFrame({"image": rows, "label": [0, 1]}),
        pl.DataFrame({"jpg": [saved("JPEG")] * 3, "class_name": ["cat", "dog", None]}),
    ]


def parquet_files(_: Path) -> list[bytes]:
    found = []
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    for table, how in zip(image_tables() * 2, ("zstd", "uncompressed", "snappy", "gzip"), strict=True):
        buffer = io.BytesIO()
        metadata = {"huggingface": json.dumps({"info": {"features": features}})} if "image" in table.columns else None
        table.write_parquet(buffer, compression=how, metadata=metadata)
        found.append(buffer.getvalue())
    return found


def read_table(path: Path) -> None:
    read_all(parquet.read_parquet([path], "a"))


def read_stream(path: Path) -> None:
    read_all(arrow.read_arrow([path], "a"))


def arrow_files(_: Path) -> list[bytes]:
    found = []
    for table in image_tables():
        buffer = io.BytesIO()
        table.write_ipc_stream(buffer, compat_level=pl.CompatLevel.oldest())
        found.append(buffer.getvalue())
    return found


def data_archives(_: Path) -> list[bytes]:
    found = []
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", how) as archive:
            archive.writestr("repo/raw-data/edge/a.csv", "a,b\n1,2\n" * 9)
            archive.writestr("repo/raw-data/edge/b.csv", "a,b\n1,2\n" * 9)
        found.append(buffer.getvalue())
    return found


# Label maps


def map_files(_: Path) -> list[bytes]:
    rng = np.random.default_rng(0)
    found = []
    for bits in (8, 16):
        header = Header(ClassSpace("mine", ("a", "b", "c")), k=2, bits=bits)
        maps = [(f"{i}.png", rng.random((2, 3, 4)), rng.integers(0, 3, (2, 3, 4))) for i in range(3)]
        found.append(label_map_bytes(header, maps))
    return found


def read_maps(path: Path) -> None:
    maps = open_label_maps(path)
    each(*(functools.partial(maps.__getitem__, name) for name in list(maps.ids)[:8]))


def sealed_maps(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Damage to the header, the index or the maps, under a checksum that fits."""
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    body, header = data[8 + size :], head["__metadata__"]["header"]
    split = head["index"]["data_offsets"][0]
    maps, index = body[:split], body[split:]
    if (which := rng.randrange(3)) == 0:
        header = jsoned(header.encode(), rng, others).decode(errors="replace")
    elif which == 1:
        index = index_damage(index, rng)
    else:
        maps = varied(maps, rng, [maps])
    spans = {"maps": (0, len(maps)), "index": (len(maps), len(maps) + len(index))}
    tensors = {k: {"dtype": "U8", "shape": [b - a], "data_offsets": [a, b]} for k, (a, b) in spans.items()}
    whole = {"__metadata__": {"header": header, "digest": _digest(header, index)}, **tensors}
    text = json.dumps(whole).encode()
    return len(text).to_bytes(8, "little") + text + maps + index


def index_damage(index: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return varied(index, rng, [index])
    buffer = io.BytesIO()
    table_damage(pl.read_parquet(index), rng).write_parquet(buffer)
    return buffer.getvalue()


def table_damage(table: pl.DataFrame, rng: random.Random) -> pl.DataFrame:
    """Columns of another kind, without values, left out, renamed; rows left out or doubled."""
    with contextlib.suppress(pl.exceptions.PolarsError):  # Not every kind can be made of every other.
        return _damaged(table, rng)
    return table.clear()


def _damaged(table: pl.DataFrame, rng: random.Random) -> pl.DataFrame:
    name = rng.choice(table.columns)
    how = rng.randrange(7)
    if how == 0:
        return table.drop(name)
    if how == 1:
        return table.rename({name: name + "x"})
    if how == 2:
        return table.with_columns(pl.lit(None).alias(name))
    if how == 3:
        kind = rng.choice((pl.String, pl.Float64, pl.Int8, pl.UInt64, pl.Boolean))
        return table.with_columns(pl.col(name).cast(kind, strict=False))
    if how == 4:
        return table.head(rng.randrange(table.height + 1))
    if how == 5:
        return pl.concat([table, table])
    value = rng.choice(("x", "", -1, 10**18, float("nan"), float("inf"), True, None, [1, 2]))
    return table.with_columns(pl.Series(name, [value] * table.height, strict=False))


def published_maps(_: Path) -> list[bytes]:
    scores, ids = np.ones((2, 3, 4), np.float32), np.zeros((2, 3, 4), np.int64)
    return [published_bytes(scores, ids, axes="yx"), pickled([1, 2]), pickled(torch.rand(2, 2, 3, 4).to_sparse())]


# Folders that a run, a maker or a training wrote


def run_files(folder: Path) -> list[bytes]:
    """The name of a file of a run in a line, then what is in it."""
    run = cuescope.audit(
        *(load(f"cuescope/world-{name}", device="cpu") for name in ("shape", "congruent")),
        images="world:congruent:12",
        only=["accuracy", "shift_stability", "occlusion"],
        out=folder / "run",
    )
    # As a run with skipped images and slices has them.
    run.note_skipped("0" * 32, 0, ())
    table = folder / "cameras.csv"
    rows = [f"congruent-{i:06d},{'ab'[i % 2]}" for i in range(12)]
    table.write_text("file,camera\n" + "\n".join(rows) + "\n")
    slices.write(run, slices.slices(run, read_metadata(table), "cameras.csv"))
    none = (".lock", "report.html")
    paths = [path for path in sorted(run.path.rglob("*")) if path.is_file() and path.name not in none]
    return [path.relative_to(run.path).as_posix().encode() + b"\n" + path.read_bytes() for path in paths]


def run_damage(name: bytes) -> Mutation:
    if name.endswith(b".json"):
        return any_of(jsoned, resealed_json)
    if name.endswith(b".parquet"):
        return any_of(varied, resealed_rows)
    return worded if name.endswith((b".csv", b".txt")) else varied


def resealed_json(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Damage to what a finding says, under a checksum that fits."""
    found = jsoned(data, rng, others)
    try:
        value = json.loads(found)
        if isinstance(value, dict) and "checksum" in value:
            value["checksum"] = checksum({k: v for k, v in value.items() if k != "checksum"})
        return json.dumps(value).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return found


def resealed_rows(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Other rows, or other bytes, under a checksum that fits."""
    mark = seals.MARK.encode()
    name = re.search(rb"<([^<>]*)>" + mark, data)
    if name and rng.random() < 0.6:
        return seals.sealed_rows(table_damage(pl.read_parquet(data), rng), name[1].decode())
    found = varied(data, rng, [data])
    at = found.rfind(mark) + len(mark)
    if at < len(mark) or at + seals.DIGITS > len(found):
        return found
    plain = found[:at] + b"0" * seals.DIGITS + found[at + seals.DIGITS :]
    return found[:at] + seals._sum(plain).encode() + found[at + seals.DIGITS :]


def with_file(read: Callable[[Path], None], whole: str) -> Callable[[bytes, Path], None]:
    """Read a copy of a folder with this file in place of its own: what reads it may join files, or remove them."""

    def through(data: bytes, folder: Path) -> None:
        name, _, content = data.partition(b"\n")
        damaged = folder / "damaged"
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(folder / whole, damaged)
        (damaged / name.decode()).write_bytes(content)
        read(damaged)

    return through


def read_run(path: Path) -> None:
    run = Run.open(path)
    cells = run.cells

    def of_cells() -> Iterator[Callable[[], object]]:
        for cell in cells:
            yield lambda cell=cell: cell.finding
            yield cell.rows
            yield lambda cell=cell: (cell.facts, cell.error, repr(cell))
            yield lambda cell=cell: run.about(cell)
            yield lambda cell=cell: list(cell.chunks.begun())
            answers._same(cell.folder / answers.FILE, np.zeros((2, 2), np.float32))

    each(
        *of_cells(),
        lambda: run.frame(),
        lambda: run.frame("accuracy"),
        lambda: run.finding("accuracy", "world-shape"),
        lambda: run.skipped(),
        lambda: slices.read(run),
        lambda: run.made("comparisons.json"),
        lambda: run.out_of_reach("0" * 32),
    )


def write_report(path: Path) -> None:
    report.write([path], path.parent / "page.html")


def go_on(path: Path) -> None:
    """The same audit again in the damaged folder."""
    networks = [load(f"cuescope/world-{name}", device="cpu") for name in ("shape", "congruent")]
    only = ["accuracy", "shift_stability", "occlusion"]
    cuescope.audit(*networks, images="world:congruent:12", only=only, out=path)


def maker_files(folder: Path) -> list[bytes]:
    made = OutputFolder(folder / "made", {"maker": "x", "parameters": {"a": 1}})
    made.begin({"notes": []})
    made.add([({"file": "a.png", "source": "a", "label": 0}, b"a"), ({"file": "b/b.png", "label": None}, b"b")])
    files = sorted((folder / "made").rglob("*.json"))
    return [path.relative_to(folder / "made").as_posix().encode() + b"\n" + path.read_bytes() for path in files]


def read_made(path: Path) -> None:
    made = OutputFolder(path, {"maker": "x", "parameters": {"a": 1}})
    assert isinstance(made.sorted_entries, list)
    assert isinstance(made.skipped, list)


READERS = [
    Reader("image files", images, lambda data, _: decode(data), share=4, errors=(UnreadableError,)),
    Reader(
        "PNG with checksums that fit",
        pngs,
        lambda data, _: decode(data),
        lambda data, rng, others: with_crc(varied(data, rng, others)),
        2,
        (UnreadableError,),
    ),
    Reader("headers of image files", images, sizes, share=3, errors=(UnreadableError,)),
    Reader("safetensors", safetensors_files, in_file("a.safetensors", read_safetensors), share=2),
    Reader(
        "safetensors, headers",
        safetensors_files,
        in_file("a.safetensors", read_safetensors),
        any_of(in_header(jsoned), told),
        3,
    ),
    Reader(".pth", pths, in_file("a.pth", weights.read), share=2),
    Reader(".pth, pickles", pths, in_file("a.pth", weights.read), in_zip("data.pkl", varied), 3),
    Reader(".pth before 1.6", old_pths, in_file("a.pth", weights.read), share=2),
    Reader("TorchScript", programs, find_program(from_torchscript.find), share=1),
    Reader(
        "TorchScript, its code",
        programs,
        find_program(from_torchscript.find),
        any_of(in_zip(".py", worded), in_zip(".pkl", varied)),
        1,
    ),
    Reader("torch.export", exported_programs, find_program(from_exported.find), share=1),
    Reader(
        "torch.export, its program",
        exported_programs,
        in_file("a.pt2", run_program),
        any_of(in_zip("model.json", jsoned), in_zip("config.json", jsoned)),
        0.5,
    ),
    Reader("ONNX", onnx_files, in_file("a.onnx", lambda path: from_onnx.find(str(path), Asked())), share=1),
    Reader("tars", tar_files, in_file("a.tar", read_tar), share=1),
    Reader(
        "tars, checksums that fit",
        tar_files,
        in_file("a.tar", read_tar),
        lambda data, rng, others: tar_sums(varied(data, rng, others)),
        2,
    ),
    Reader("Parquet of images", parquet_files, in_file("a.parquet", read_table)),
    Reader("Arrow of images", arrow_files, in_file("a.arrow", read_stream)),
    Reader("ZIP of people's data", data_archives, in_file("a.zip", get._unpacked), share=2),
    Reader("class files", class_files, read_class_file, below_line(lambda _: worded), 4),
    Reader("tables of labels", label_tables, read_label_table, worded, 2),
    Reader("JSON Lines of labels", JSON_LINES, in_file("a.jsonl", read_labels), worded, 2),
    Reader(
        "tables of parts",
        part_tables,
        lambda data, folder: in_file("a.csv", lambda path: read_parts(photo_set(folder), path))(data, folder),
        worded,
        2,
    ),
    Reader("trials of people", TRIALS, trials, worded, 2),
    Reader("tables of metadata", texts("file,camera\na.png,x\nb.png,y\n"), in_file("a.csv", read_metadata), worded, 2),
    Reader(
        "templates of prompts", texts("a photo of a {}.\na {}\n"), in_file("a.txt", prompts.read_templates), worded, 1
    ),
    Reader("real.json", real_files, in_file("real.json", read_real), real_damage, 0.1),
    Reader(
        "XML of boxes",
        annotations,
        in_file("a.xml", lambda path: read_annotation(path, lambda: (24, 20))),
        worded,
        4,
        (ValueError,),
    ),
    Reader("preprocessings", configs, in_file("a.json", preprocessings.read), any_of(jsoned, worded), 3),
    Reader("values of --set", set_values, read_set, set_damage, 3),
    Reader(
        "values of --require", requirements, lambda data, _: Requirement.of(data.decode(errors="replace")), worded, 2
    ),
    Reader("label maps", map_files, in_file("a.safetensors", read_maps), share=2),
    Reader("label maps, checksums that fit", map_files, in_file("a.safetensors", read_maps), sealed_maps, 3),
    Reader(
        "published label maps",
        published_maps,
        in_file("a.pt", lambda path: read_published(path, axes="yx", classes=3)),
        any_of(varied, in_zip("data.pkl", varied)),
        2,
    ),
    Reader("run folders", run_files, with_file(read_run, "run"), below_line(run_damage), 0.25),
    Reader("run folders, reported", run_files, with_file(write_report, "run"), below_line(run_damage), 0.03),
    Reader("run folders, gone on with", run_files, with_file(go_on, "run"), below_line(run_damage), 0.01),
    Reader("makers' folders", maker_files, with_file(read_made, "made"), below_line(run_damage), 2),
]
