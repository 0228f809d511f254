"""A training on a folder, on tars and on Parquet is the same training."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from cuescope.api.train import train
from cuescope.world.images import WorldImages

NET = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4))
"""
NAMES = ("arrow", "bolt", "cat", "door")
COUNT = 44
"""Eleven of each class."""


def files() -> list[tuple[str, int, bytes]]:
    """Name, label and bytes of each image, in the order of their classes."""
    world, found = WorldImages(count=COUNT), []
    for i in range(COUNT):
        buffer = io.BytesIO()
        Image.fromarray(world.read(i).pixels.permute(1, 2, 0).numpy()).save(buffer, "PNG")
        found.append((f"{i:04}", i * len(NAMES) // COUNT, buffer.getvalue()))
    return found


def folder(path: Path) -> Path:
    for name, label, data in files():
        (file := path / NAMES[label] / f"{name}.png").parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return path


def tars(path: Path) -> Path:
    path.mkdir()
    found = files()
    for number, part in enumerate((found[:20], found[20:])):
        with tarfile.open(path / f"{number}.tar", "w") as tar:
            for name, label, data in part:
                for suffix, content in (("png", data), ("cls", NAMES[label].encode())):
                    about = tarfile.TarInfo(f"{name}.{suffix}")
                    about.size = len(content)
                    tar.addfile(about, io.BytesIO(content))
    return path


def rows() -> dict[str, list[object]]:
    found = files()
    structs: list[object] = [{"bytes": data, "path": f"{name}.png"} for name, _, data in found]
    return {"image": structs, "label": [label for _, label, _ in found]}


FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(NAMES)}}


def parquet(path: Path) -> Path:
    path.mkdir()
    metadata = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    pl.DataFrame(rows()).write_parquet(path / "train.parquet", metadata=metadata)
    return path


def saved(path: Path) -> Path:
    """What Hugging Face's save_to_disk writes."""
    path.mkdir()
    pl.DataFrame(rows()).write_ipc_stream(path / "data-00000-of-00001.arrow", compat_level=pl.CompatLevel.oldest())
    (path / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    return path


@pytest.fixture(scope="module")
def of_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], float | None]:
    return learned(tmp_path_factory.mktemp("folder"), folder)


def learned(at: Path, made: object) -> tuple[list[float], float | None]:
    """The losses of a training on these images, and how often it is right."""
    (net := at / "net.py").write_text(NET)
    how = {"model": f"{net}:make", "epochs": 2, "batch": 8, "size_px": 32, "device": "cpu"}
    done = train("imagenet", at / "mine", images=made(at / "images"), settings=how, small=True)  # type: ignore[operator]
    assert done.skipped == ()
    losses = pl.read_parquet(at / "mine/metrics.parquet")["loss"].to_list()
    return losses, done.accuracy.value


@pytest.mark.parametrize("made", [tars, parquet, saved])
def test_the_same_images_give_the_same_losses(
    made: object, of_folder: tuple[list[float], float | None], tmp_path: Path
) -> None:
    assert learned(tmp_path, made) == of_folder
    assert len(set(of_folder[0])) == 2
