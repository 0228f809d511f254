"""Makers on several machines: each makes its part, one command without a part ends it."""

from __future__ import annotations

import json
from pathlib import Path

from cuescope.api.make import Making, make
from cuescope.core.files import PART


def distorted(folder: Path, shard: str | None = None) -> Making:
    return make("distorted", "world:congruent:20", folder, shard=shard, kinds="contrast,rotation", device="cpu")


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def test_shards_make_what_one_process_makes(tmp_path: Path) -> None:
    whole = distorted(tmp_path / "whole")
    parts = [distorted(tmp_path / "parts", part) for part in ("2/3", "1/3", "3/3", "3/3")]
    assert sum(part.made for part in parts) == whole.made
    assert parts[-1].made == 0
    manifest = json.loads((tmp_path / "parts" / "manifest.json").read_text())
    assert manifest["finished"] is None
    assert distorted(tmp_path / "parts").made == 0
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    one, two = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("whole", "parts"))
    assert two["images"] == one["images"]
    assert two["finished"]


def test_a_shard_leaves_alone_what_another_is_writing(tmp_path: Path) -> None:
    distorted(tmp_path, "1/3")
    other = tmp_path / f".0.png.123-ab{PART}"
    other.write_bytes(b"half")
    distorted(tmp_path, "2/3")
    assert other.exists()
    distorted(tmp_path)
    assert not other.exists()


def test_what_another_process_left_of_the_same_goes(tmp_path: Path) -> None:
    whole = distorted(tmp_path)
    for name in (".cuescope/0000001-7.json", ".parts/0000001.safetensors"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"half")
    assert distorted(tmp_path).made == 0
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert whole.made == 240
