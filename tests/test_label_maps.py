"""Label maps on disk: what was written is read, near enough; and one clear error for each kind of damage."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet
from cuescope.data.label_maps import Header, open_label_maps, pack_label_maps, write_label_maps
from cuescope.data.label_maps.pooling import LabelPooling

SPACE = ClassSpace("mine", tuple(f"thing {i}" for i in range(40)))
Maps = dict[str, tuple[np.ndarray, np.ndarray]]


def random_maps(*shapes: tuple[int, int], k: int = 3, seed: int = 0) -> Maps:
    """The k highest of 40 random logits at each position, one map a shape."""
    generator, maps = np.random.default_rng(seed), {}
    for number, shape in enumerate(shapes):
        top = torch.from_numpy(generator.normal(6, 4, (40, *shape)).astype(np.float32)).topk(k, 0)
        maps[f"größe/{number}.jpg"] = top.values.numpy(), top.indices.numpy()
    return maps


def stored(folder: Path, maps: Maps, bits: int = 8, **about: Any) -> Path:
    header = Header(SPACE, len(next(iter(maps.values()))[0]) if maps else 3, bits, **about)
    return write_label_maps(
        folder / "some.safetensors", header, ((name, scores, ids) for name, (scores, ids) in maps.items())
    )


class Named(ImageSet):
    """Images of which only the names matter here."""

    name = "photos"
    digest = ""  # type: ignore[assignment]

    def __init__(self, *names: str) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def id(self, index: int) -> str:
        return self.names[index]

    def read(self, index: int) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("bits", [8, 16])
def test_maps_of_any_size_come_back(tmp_path: Path, bits: int) -> None:
    maps = random_maps((15, 15), (4, 9), (1, 1), (9, 4))
    found = open_label_maps(stored(tmp_path, maps, bits, images="photos", annotator="net", about={"side": 480}))
    assert list(found) == list(found.ids) == list(maps)
    assert len(found) == 4
    assert "größe/1.jpg" in found
    assert "größe/4.jpg" not in found
    assert found.classes == SPACE
    assert (found.header.images, found.header.annotator, found.header.about) == ("photos", "net", {"side": 480})
    for name, (scores, classes) in maps.items():
        read, ids = found[name]
        assert read.dtype == np.float32
        assert ids.dtype == np.int64
        assert np.array_equal(ids, classes)
        # Half a step of each rank's own range, and the rounding of float32.
        steps = (scores.max((1, 2)) - scores.min((1, 2))) / (2**bits - 1)
        assert (np.abs(read - scores).max((1, 2)) <= steps / 2 + 1e-5).all()


def test_even_scores_are_kept_as_they_are(tmp_path: Path) -> None:
    flat = np.full((2, 3, 3), -7.25), np.zeros((2, 3, 3), int)
    assert (open_label_maps(stored(tmp_path, {"a": flat}))["a"][0] == -7.25).all()


def test_targets_are_within_half_a_percent(tmp_path: Path) -> None:
    maps = random_maps(*[(15, 15)] * 64, k=5)
    found = open_label_maps(stored(tmp_path, maps))
    generator = np.random.default_rng(3)
    size = np.sqrt(generator.uniform(0.08, 1, (64, 1))).repeat(2, 1)
    crops = np.concatenate([generator.random((64, 2)) * (1 - size), size], 1)
    targets = []
    for one in (maps, found):
        scores, ids = (np.stack([one[name][part] for name in maps]) for part in (0, 1))
        targets.append(LabelPooling(40)(ids, scores, crops))
    exact, near = targets
    assert ((exact - near).abs().sum(1) / 2).max() < 0.005


def test_1000_maps_take_two_fifths_of_the_published_bytes(tmp_path: Path) -> None:
    one = random_maps((15, 15), k=5)["größe/0.jpg"]
    header = Header(ClassSpace("imagenet", tuple(f"thing {i}" for i in range(1000))), 5)
    names = [f"n{i:08d}/n{i:08d}_{i}.JPEG" for i in range(1000)]
    path = write_label_maps(tmp_path / "m", header, ((name, one[0], one[1]) for name in names))
    assert path.stat().st_size <= 0.41 * 1000 * one[0].size * 8


def test_no_map_at_all(tmp_path: Path) -> None:
    found = open_label_maps(stored(tmp_path, {}))
    assert (len(found), list(found), "a" in found) == (0, [], False)


def test_it_goes_to_other_processes(tmp_path: Path) -> None:
    found = open_label_maps(stored(tmp_path, random_maps((2, 3))))
    assert np.array_equal(pickle.loads(pickle.dumps(found))["größe/0.jpg"][1], found["größe/0.jpg"][1])


def test_parts_put_together_are_the_file_written_at_once(tmp_path: Path) -> None:
    maps = random_maps((5, 5), (3, 4), (6, 2))
    whole = stored(tmp_path, maps).read_bytes()
    for i, name in enumerate(maps):
        stored(tmp_path / str(i), {name: maps[name]})
    parts = [tmp_path / str(i) / "some.safetensors" for i in range(3)]
    assert pack_label_maps(tmp_path / "packed", parts).read_bytes() == whole
    with pytest.raises(ValueError, match=r"two maps of the image 'größe/0.jpg'"):
        pack_label_maps(tmp_path / "twice", [parts[0], parts[0]])
    stored(tmp_path / "0", {"größe/0.jpg": maps["größe/0.jpg"]}, 16)
    with pytest.raises(CueError, match="differ"):
        pack_label_maps(tmp_path / "mixed", parts)
    with pytest.raises(CueError, match="no label maps"):
        pack_label_maps(tmp_path / "none", [])
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["packed", "some.safetensors"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s, c: (s[:2], c[:2]), r"\(3, h, w\) are needed"),
        (lambda s, c: (s, c[:, :1]), r"\(3, h, w\) are needed"),
        (lambda s, c: (s + np.inf, c), "finite scores"),
        (lambda s, c: (s, c * 1.0), "whole class ids"),
        (lambda s, c: (s, c + 40), "classes 0 to 39"),
        (lambda s, c: (s, c - 40), "classes 0 to 39"),
    ],
)
def test_what_is_no_map_is_not_written(tmp_path: Path, change: Any, told: str) -> None:
    maps = random_maps((4, 5), (4, 5))
    maps["größe/1.jpg"] = change(*maps["größe/1.jpg"])
    with pytest.raises(ValueError, match=f"'größe/1.jpg': .*{told}"):
        stored(tmp_path, maps)
    assert not list(tmp_path.iterdir()), "nothing half-written"


def test_headers_that_cannot_be() -> None:
    wrong: Any = ({"k": 0}, {"k": 41}, {"k": 3, "bits": 12}, {"k": 3, "framing": "cropped"})
    for arguments in wrong:
        with pytest.raises(ValueError, match=r"k is|bits|framing"):
            Header(SPACE, **arguments)
    with pytest.raises(ValueError, match="16 bits"):
        Header(ClassSpace("many", ("x",) * 65537), 3)


def test_the_file_is_not_there_or_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CueError, match="No such file"):
        open_label_maps(tmp_path / "none")
    with pytest.raises(CueError, match="No such file"):
        open_label_maps(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CueError, match="no file of label maps"):
        open_label_maps(tmp_path / "file")
    with pytest.raises(CueError, match="cannot write"):
        stored(tmp_path / "file", random_maps((2, 2)))


def test_another_format(tmp_path: Path) -> None:
    torch.save(torch.zeros(2, 5, 15, 15), tmp_path / "map.pt")
    with pytest.raises(CueError, match="no file of label maps"):
        open_label_maps(tmp_path / "map.pt")


def test_truncated_anywhere(tmp_path: Path) -> None:
    path = stored(tmp_path, random_maps((3, 3), (2, 2)))
    data = path.read_bytes()
    for length in range(1, len(data), 37):
        path.write_bytes(data[:length])
        with pytest.raises(CueError, match="no file of label maps"):
            open_label_maps(path)


def test_a_byte_changed_anywhere(tmp_path: Path) -> None:
    maps = random_maps((3, 3), (2, 2))
    path = stored(tmp_path, maps)
    data = path.read_bytes()
    for at in range(0, len(data), 11):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(CueError, match=r"is (truncated, )?damaged"):
            [open_label_maps(path)[name] for name in maps]


def rewritten(path: Path, header: dict[str, Any] | None = None, maps: bytes | None = None, **index: int) -> None:
    """Change values of the header, the maps, and the first row of the index, with the right checksum of the two."""
    with safe_open(str(path), "np") as file:
        told, stored = file.metadata(), {name: file.get_tensor(name) for name in ("maps", "index")}
    text = json.dumps(json.loads(told["header"]) | (header or {}))
    table = pl.read_parquet(stored["index"].tobytes())
    first = pl.int_range(pl.len()) == 0
    table = table.with_columns(
        pl.when(first).then(pl.lit(value)).otherwise(name).cast(table.schema[name]).alias(name)
        for name, value in index.items()
    )
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    digest = hashlib.blake2b(text.encode() + buffer.getvalue(), digest_size=16).hexdigest()
    data = stored["maps"] if maps is None else np.frombuffer(maps, np.uint8)
    tensors = {"maps": data, "index": np.frombuffer(buffer.getvalue(), np.uint8)}
    path.write_bytes(save(tensors, {"header": text, "digest": digest}))


def test_any_tool_that_reads_safetensors_and_parquet_reads_it(tmp_path: Path) -> None:
    maps = random_maps((3, 3), (2, 4))
    with safe_open(str(stored(tmp_path, maps, 16)), "np") as file:
        index = pl.read_parquet(file.get_tensor("index").tobytes())
        data = file.get_tensor("maps")
    assert index["id"].to_list() == list(maps)
    assert index.select("height", "width").rows() == [(3, 3), (2, 4)]
    ids = data[index["at"][1] + 24 :][: 2 * 24].view("<u2").reshape(3, 2, 4)
    assert np.array_equal(ids, maps["größe/1.jpg"][1])


@pytest.mark.parametrize("changes", [{"at": 1 << 40}, {"height": 60000, "width": 60000}, {"height": 0}])
def test_an_index_that_points_outside(tmp_path: Path, changes: dict[str, int]) -> None:
    path = stored(tmp_path, random_maps((3, 3), (2, 2)))
    rewritten(path, **changes)
    with pytest.raises(CueError, match="points outside"):
        open_label_maps(path)


@pytest.mark.parametrize(
    "changes", [{"schema": 1}, {"axes": ["k", "x", "y"]}, {"kind": "maps"}, {"k": "three"}, {"k": 0}, {"bits": 12}]
)
def test_headers_of_another_kind(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = stored(tmp_path, random_maps((3, 3)))
    rewritten(path, changes)
    with pytest.raises(CueError, match=f"no file of label maps .*{next(iter(changes))}|not supported between"):
        open_label_maps(path)


def test_a_class_beyond_the_count(tmp_path: Path) -> None:
    path = stored(tmp_path, {"a": (np.ones((1, 1, 1)), np.full((1, 1, 1), 7))})
    assert open_label_maps(path)["a"][1] == 7
    data = np.array([1, 0], "<f4").tobytes() + np.array([99], "<u2").tobytes() + bytes(1)
    rewritten(path, maps=data, crc=zlib.crc32(data))
    with pytest.raises(CueError, match="class 99 of 40 in the map of 'a'"):
        open_label_maps(path)["a"]


def test_maps_of_other_images_or_classes_are_told(tmp_path: Path) -> None:
    found = open_label_maps(stored(tmp_path, random_maps((3, 3), (2, 2)), images="birds"))
    found.check(Named("größe/1.jpg"), SPACE)
    found.check(Named("größe/1.jpg"), ClassSpace.numbered(40))
    with pytest.raises(CueError, match=r"no map of 1 of 2 images, such as 'größe/9.jpg'(.|\n)*these are of birds"):
        found.check(Named("größe/1.jpg", "größe/9.jpg"))
    with pytest.raises(CueError, match="label maps of 40 classes"):
        found.check(Named("größe/1.jpg"), ClassSpace.numbered(41))
    with pytest.raises(CueError, match="label maps of 40 classes"):
        found.check(Named("größe/1.jpg"), ClassSpace("theirs", SPACE.names[::-1]))
    with pytest.raises(CueError, match=r"no map of 'größe/2.jpg'(.|\n)*such as größe/"):
        found["größe/2.jpg"]
