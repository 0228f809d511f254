"""A finished run as samples that FiftyOne reads, whose package is not needed here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cuescope.core.errors import CueError
from cuescope.core.files import is_there, read_json, write_json
from cuescope.core.naming import short_name
from cuescope.runs.cell import Cell
from cuescope.runs.store import Run

Samples = dict[tuple[str, str], dict[str, Any]]
"""By image set and name of the image."""


def write(run: Run, out: Path) -> str:
    """Which samples has this run? One of each image: label, answers, and what its measures are means of.

    `fiftyone.Dataset.from_dir("OUT", fiftyone.types.FiftyOneDataset)` reads the folder. An image whose file is not
    where it was audited is expected below `out`, by its name. Raises CueError for a run that is not finished, and for
    one without rows of single images.

    >>> write(Run.open("runs/mine"), Path("samples"))    # doctest: +SKIP
    'samples: 500 samples'
    """
    run.check_finished()
    info = {"run": run.path.name, "command": run.manifest["command"], "created": run.manifest["created"]}
    known = read_json(out / "metadata.json").get("info") if is_there(out / "metadata.json") else None
    if is_there(out / "samples.json") and known != info:
        raise CueError(f"'{out}' has the samples of another run", wanted="a new folder", do="choose another folder")
    samples: Samples = {}
    fields = _fields(run)
    for cell in run.cells:
        if cell.status == "done":
            _add(run, cell, fields[cell.classifier], samples)
    if not samples:
        wanted = "an instrument with a row for each image, such as accuracy"
        raise CueError(f"'{run.place}' has no rows of single images", wanted=wanted, do="audit with --only accuracy")
    write_json(out / "samples.json", {"samples": list(samples.values())})
    # With no version in it the types of fields are those of their values.
    write_json(out / "metadata.json", {"media_type": "image", "info": info})
    lost = sum(not Path(sample["filepath"]).is_absolute() for sample in samples.values())
    missing = f"; {lost:,} images are not where they were audited: put them below it by their names" if lost else ""
    return f"{out}: {len(samples):,} samples{missing}"


def _fields(run: Run) -> dict[str, str]:
    """What the fields of each classifier begin with: its short name, or the whole one where two have the same."""
    whole = {cell.classifier: _field(cell.classifier) for cell in run.cells}
    short = {name: _field(short_name(name)) for name in whole}
    return short if len(set(short.values())) == len(short) else whole


def _field(text: str) -> str:
    return re.sub(r"\W", "_", text, flags=re.ASCII).strip("_") or "classifier"


def _add(run: Run, cell: Cell, field: str, samples: Samples) -> None:
    columns = [m.per_image for m in cell.finding.measures if m.per_image] if cell.finding else []
    rows = cell.rows()
    if rows.height != rows["id"].n_unique():
        return  # several rows an image: no value is the image's
    source = {s["name"]: s["source"] for s in run.manifest["image_sets"]}.get(cell.images, "")
    names = run.about(cell).classes
    kept = [column for column in dict.fromkeys(columns) if column in rows.columns]
    for row in rows.iter_rows(named=True):
        known: dict[str, Any] = dict(_values(row, kept, f"{field}_{cell.instrument}"))
        if cell.instrument == "accuracy":
            known[f"{field}_prediction"] = _label(names[row["predicted"]], confidence=row["confidence"])
            known |= {"ground_truth": _label(names[row["label"]])} if row["label"] is not None else {}
        if known:
            samples.setdefault((cell.images, row["id"]), _sample(source, cell.images, row["id"])).update(known)


def _sample(source: str, images: str, name: str) -> dict[str, Any]:
    path = Path(source, name)
    there = path.is_absolute() and path.is_file()
    return {"filepath": str(path) if there else name, "tags": [images], "image": name}


def _label(name: str, **more: float) -> dict[str, Any]:
    return {"_cls": "Classification", "label": name, **more}


def _values(row: dict[str, Any], columns: list[str], field: str) -> Iterator[tuple[str, float]]:
    """What is known of an image, as numbers: a yes is 1, so that it is a mean as the measure is."""
    for column in columns:
        value = row[column]
        if value is not None and math.isfinite(value):
            yield f"{field}_{column}", float(value)
