"""A finished run as records of Every Eval Ever (evalevalai.com), whose package reads them and is not needed here."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from cuescope.core.files import write_json, writing
from cuescope.core.findings import Finding, Measure
from cuescope.core.naming import checkpoint_of, short_name
from cuescope.runs.cell import Cell
from cuescope.runs.store import Run

SCHEMA = "0.3.0"
COLLECTION = "cuescope"
LIBRARIES = ("timm", "torchvision", "keras", "open_clip", "cuescope")
BOUNDS = {"probability": (0, 1), "correlation": (-1, 1), "kappa": (-1, 1)}
"""A share has them where it counts images: others are ratios."""


def write(run: Run, out: Path) -> list[Path]:
    """Where are the records of this run? A JSON file of each classifier's measures, and a line for each answer.

    They lie where the datastore has them: data/cuescope/DEVELOPER/MODEL below `out`. Who ran the audit for whom is not
    known: fill in `source_metadata` before you publish. Raises CueError for a run that is not finished.

    >>> write(Run.open("runs/mine"), Path("records"))    # doctest: +SKIP
    [PosixPath('records/data/cuescope/timm/resnet50.a1_in1k/5b0a....json')]
    """
    run.check_finished()
    names = dict.fromkeys(cell.classifier for cell in run.cells)
    return [path for name in names if (path := _write(run, name, out))]


def identity(name: str) -> str:
    """Developer and model: as the hub calls it where it is the library's own, else "local".

    >>> identity("timm/resnet50.a1_in1k"), identity("hf/microsoft/resnet-50"), identity("runs/mine/best")
    ('timm/resnet50.a1_in1k', 'microsoft/resnet-50', 'local/mine')
    >>> identity("timm/resnet50.a1_in1k@epochs/best.pt")
    'local/resnet50.a1_in1k@best.pt'
    """
    parts = name.removeprefix("hf/").split("/")
    if "@" in name:
        parts = ["local", f"{short_name(name)}@{checkpoint_of(name)}"]
    elif len(parts) != 2 or not (name.startswith("hf/") or parts[0] in LIBRARIES):
        parts = ["local", short_name(name)]
    # What a folder may be called on any system; the record is looked for in the folder of this name.
    return "/".join(re.sub(r"[^\w.+@-]", "_", part, flags=re.ASCII).strip(".") or "model" for part in parts)


def _write(run: Run, classifier: str, out: Path) -> Path | None:
    cells = [cell for cell in run.cells if cell.classifier == classifier and cell.status == "done"]
    results = [one for cell in cells if (found := cell.finding) for one in _results(run, found)]
    if not results:
        return None
    known = next(c for c in run.manifest["classifiers"] if c.get("name") == classifier)
    finished, model = datetime.fromisoformat(run.manifest["finished"]), identity(classifier)
    told = f"{COLLECTION}/{model}/{finished.timestamp():.0f}"
    # The same run has the same key, so that a second time writes over the first.
    key = uuid.UUID(bytes=hashlib.sha256(f"{told} {classifier} {known['digest']}".encode()).digest()[:16], version=4)
    row = {"schema_version": SCHEMA, "evaluation_id": f"{told}/{key}"}
    folder = f"data/{COLLECTION}/{model}"
    answers = [cell for cell in cells if cell.instrument == "accuracy"]
    samples = _samples(run, answers, row | {"model_id": model}, out, f"{folder}/{key}_samples.jsonl")
    record = {
        **row,
        "evaluation_timestamp": run.manifest["finished"],
        "retrieved_timestamp": f"{finished.timestamp():.0f}",
        "source_metadata": {
            "source_name": "cuescope",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "model_info": {"name": short_name(classifier), "id": model, "additional_details": _model(known)},
        "eval_library": {"name": "cuescope", "version": run.manifest["cuescope"]},
        "evaluation_results": results,
        **({"detailed_evaluation_results": samples} if samples else {}),
    }
    write_json(out / folder / f"{key}.json", record)
    return out / folder / f"{key}.json"


def _model(known: dict[str, Any]) -> dict[str, str]:
    # A black box may ask another machine.
    deployed = "self_deployed" if known["parameters"] is not None else "unknown"
    more = {key: str(known[key]) for key in ("digest", "parameters", "precision") if known[key] is not None}
    return {"deployment_type": deployed, "model_availability": "unknown", **more}


def _results(run: Run, finding: Finding) -> Iterator[dict[str, Any]]:
    described = {s["name"]: {"images": str(s["count"]), "digest": s["digest"]} for s in run.manifest["image_sets"]}
    about = {"additional_details": known} if (known := described.get(finding.images)) else {}
    data = {"dataset_name": finding.images, "source_type": "other", **about}
    for measure in finding.measures:
        if measure.value is not None:
            yield {
                "evaluation_result_id": _key(finding.instrument, measure.name, finding.images),
                "evaluation_name": finding.instrument,
                "source_data": data,
                "metric_config": _metric(finding, measure),
                "score_details": _score(measure),
            }


def _key(instrument: str, measure: str, images: str) -> str:
    return f"{instrument}.{measure}/{images}"


def _metric(finding: Finding, measure: Measure) -> dict[str, Any]:
    bounds = (0, 1) if measure.count is not None else BOUNDS.get(measure.unit)
    return {
        "metric_id": f"{COLLECTION}.{finding.instrument}.{measure.name}",
        "metric_name": measure.label,
        "metric_unit": "proportion" if measure.unit == "share" else measure.unit or "none",
        # It must be said either way: of a measure that describes, neither is better.
        "lower_is_better": measure.better == "lower",
        "additional_details": {"better": measure.better or "neither"},
        **({"score_type": "continuous", "min_score": bounds[0], "max_score": bounds[1]} if bounds else {}),
    }


def _score(measure: Measure) -> dict[str, Any]:
    more = {"n": measure.n, "chance": measure.chance, "why_no_interval": measure.why or None}
    found = {"score": measure.value, "details": {key: str(value) for key, value in more.items() if value is not None}}
    if measure.interval is None:
        return found
    low, high = measure.interval
    interval = {"lower": low, "upper": high, "confidence_level": 0.95}
    return found | {"uncertainty": {"confidence_interval": interval, "num_samples": measure.n}}


def _samples(run: Run, cells: list[Cell], row: dict[str, str], out: Path, name: str) -> dict[str, Any] | None:
    """Write a line for each labeled image; what the record says of the file, or None where there is no label."""
    lines, total = hashlib.sha256(), 0
    labeled = [(cell, rows) for cell in cells if (rows := cell.rows().drop_nulls("label")).height]
    if not labeled:
        return None
    with writing(out / name, wanted="room and permission to write", do="make room, or choose another folder") as file:
        for cell, rows in labeled:
            for answer in _answers(run, cell, rows):
                line = f"{json.dumps(row | answer, ensure_ascii=False, allow_nan=False)}\n".encode(
                    errors="backslashreplace"
                )
                file.write(line)
                lines.update(line)
                total += 1
    checksum = {"hash_algorithm": "sha256", "checksum": lines.hexdigest()}
    return {"format": "jsonl", "file_path": name, **checksum, "total_rows": total}


def _answers(run: Run, cell: Cell, rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    names = run.about(cell).classes
    of = {"evaluation_name": cell.instrument, "evaluation_result_id": _key(cell.instrument, "top1", cell.images)}
    for image in rows.iter_rows(named=True):
        label, answer = names[image["label"]], names[image["predicted"]]
        how = {"turn_idx": 0, "source": "output.raw", "extracted_value": answer, "extraction_method": "argmax"}
        yield {
            **of,
            "sample_id": image["id"],
            "sample_hash": hashlib.sha256(f"{image['id']}{label}".encode()).hexdigest(),
            "interaction_type": "single_turn",
            "input": {"raw": image["id"], "reference": [label]},
            "output": {"raw": [answer]},
            "answer_attribution": [{**how, "is_terminal": True}],
            # Classes of equal logits share the first place: a part of 1 is a guess, and not right.
            "evaluation": {"score": image["top1"], "is_correct": image["top1"] == 1},
            "metadata": {"confidence": str(image["confidence"])},
        }
