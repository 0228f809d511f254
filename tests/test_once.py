"""Each file is decoded once, and each classifier sees it once, whatever is asked of it."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from cuescope.api.audit import audit
from cuescope.api.make import make
from cuescope.classifier.classifier import Classifier
from cuescope.core.parameters import parameters
from cuescope.data.readers.files import FileSet
from cuescope.instruments import registry

COUNT = 200
QUICK = {"size_share": 0.4, "stride_share": 0.3, "points": 2, "steps": 2, "draws": 1, "parts_px": "48,64", "shown": 2}
"""Settings that make passes of an instrument's own fewer; how many images it looks at stays."""
FEW = {"occlusion", "masking_sensitivity", "interaction", "shift_map", "deconvnet", "invariance", "correspondence"}
FEW |= {"picture_sanity", "worst_shift", "nonlinearity"}


@pytest.mark.real
def test_all_instruments_together_decode_and_see_each_photograph_once(data: Path, tmp_path: Path, monkeypatch) -> None:
    photos, weights = tmp_path / "photos", data / "weights" / "squeezenet1_1.safetensors"
    photos.mkdir()
    with (data / "imagenet-sample" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:COUNT]
    for row in rows:
        (photos / row["file"]).symlink_to(data / "imagenet-sample" / row["file"])
    (tmp_path / "labels.csv").write_text("file,index\n" + "".join(f"{r['file']},{r['index']}\n" for r in rows))
    parts = [f"{row['file']},{part},5,5,40,40\n" for row in rows[:8] for part in ("left", "right")]
    (tmp_path / "parts.csv").write_text("file,part,x0,y0,x1,y1\n" + "".join(parts))
    for row in rows[:16]:
        path = tmp_path / "texturized" / Path(row["file"]).with_suffix(".png")
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (224, 224)).save(path)
    model = f"torchvision/squeezenet1_1@{weights}"
    make("label-maps", photos, tmp_path / "maps", model=model, limit=32)
    settings = {f"{name}.images": 2 for name in FEW}
    for name in registry.names():
        settings |= {f"{name}.{key}": value for key, value in QUICK.items() if key in parameters(registry.find(name))}
    decoded, seen = Counter(), Counter()
    read, see = FileSet.read, Classifier.see
    monkeypatch.setattr(FileSet, "read", lambda self, i: (decoded.update([self.id(i)]), read(self, i))[1])

    def counted(self, samples, labels=None, watch=()):
        seen.update(sample.id for sample in samples)
        return see(self, samples, labels, watch)

    monkeypatch.setattr(Classifier, "see", counted)
    given = {"labels": tmp_path / "labels.csv", "parts": tmp_path / "parts.csv", "label_maps": tmp_path / "maps"}
    run = audit(
        model,
        images=photos,
        texturized=tmp_path / "texturized",
        preset="full",
        settings=settings,
        out=tmp_path / "run",
        **given,
    )
    states = Counter(cell.status for cell in run.cells)
    assert states["failed"] == 0, [(cell.instrument, cell.error) for cell in run.cells if cell.status == "failed"]
    assert states["done"] >= 20
    assert set(decoded.values()) == {1}
    assert set(seen.values()) == {1}
    assert len(decoded) == len(seen) == COUNT
