"""Of these classifiers, on which does a detector of the user's own objects learn best?"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cuescope.core.called import apart
from cuescope.core.errors import CueError, unknown
from cuescope.core.files import check_folder, write_json
from cuescope.core.findings import Finding, Measure, Panel
from cuescope.core.progress import Progress, Say, quiet, silent
from cuescope.core.published.detection import PRESETS
from cuescope.core.verdicts import Verdict
from cuescope.core.wording import counted
from cuescope.runs.options import check_models
from cuescope.training.recipe import Recipe, later
from cuescope.training.settings import DetectionSettings

if TYPE_CHECKING:
    from cuescope.data.images import Skipped
    from cuescope.data.marked import MarkedImages
    from cuescope.runs.detected import Difference, Measured
    from cuescope.training.detect import Detected

SMALL = DetectionSettings(
    epochs=4,
    batch=8,
    optimizer="adamw",
    learning_rate=1e-3,
    schedule="cosine",
    warmup_epochs=0.5,
    weight_decay=0.02,
    decay_all=False,
    size_px=0,
    channels=64,
    width=256,
    rois=64,
    proposals=200,
    frozen=0,
)
"""Minutes on two cores for some hundred images of 128 px, such as the world's."""
SETTINGS = Recipe(
    "detect",
    "A detector on a classifier.",
    DetectionSettings(),
    later("cuescope.training.detect:fit_detector"),
    small=SMALL,
)
HELD_OUT = 5
"""One image of so many is held out where the folder does not say which."""
SHOWN = 6
"""Images that are shown with their boxes."""
FILE = "detection.json"


@dataclass(frozen=True)
class Detection:
    """What `detect` found."""

    findings: tuple[Finding, ...]
    """One a model, that with the highest precision first."""
    differences: tuple[Difference, ...]
    ranks: str
    """The measure that ranks."""
    notes: tuple[str, ...]
    out: Path

    def beats(self, name: str) -> tuple[str, ...]:
        """The models that this one is surely above."""
        signed = [(one.a, one.b, one.measure.value or 0.0) for one in self.differences if one.sure]
        signed += [(b, a, -value) for a, b, value in signed]
        return tuple(b for a, b, value in signed if a == name and value > 0)


def detect(
    *models: str,
    images: str | Path,
    out: str | Path = "detect",
    masks: bool = False,
    preset: str | None = None,
    random: bool = False,
    small: bool = False,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    limit: int | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Detection:
    """Fine-tune a detector on each classifier, and compare them by the mean average precision on images held out.

    Faster R-CNN with a feature pyramid, or with `masks` Mask R-CNN, on a folder in COCO's or VOC's layout. `preset` is
    one of `PRESETS`; without one train and val, or trainval and test, are used, or a fifth of the images is held out.
    `random` adds the same networks with new weights. `small` are settings for minutes on two cores; `settings` are
    fields of `DetectionSettings`. `limit` learns from so many images. In `out` each model has a folder, where it goes
    on when stopped, with `detector.safetensors`; `detection.json` and `report.html` hold what was found. Raises
    CueError for what the user can mend.

    >>> detect("timm/resnet50.a1_in1k", images="VOC2007/", preset="voc07").findings[0]["map50"]     # doctest: +SKIP
    """
    _check_extra("segment" if masks else "detect")
    root = Path(out).expanduser()
    _check_asked(models, root, Path(images).expanduser(), preset, limit)
    known = PRESETS[preset] if preset else None  # type: ignore[index] - it was checked
    recipe = replace(SETTINGS, name="segment") if masks else SETTINGS
    chosen = recipe.configured({**(known.settings if known else {}), **(settings or {})}, seed, small)
    from cuescope.runs.detected import measured
    from cuescope.training.detect import fit_detector, new_detector

    learned, held_out, names, notes = _images(images, known.folds if known else None, masks, seed, limit)
    show, tell = progress or quiet, say or silent
    for note in notes:
        tell(note)
    asked = [*dict.fromkeys([*models, *(_random(model) for model in models if random)])]
    # Before the first is trained, which may take days.
    for model in asked[1:]:
        new_detector(chosen, model, learned, len(names), masks)
    made: dict[str, Detected] = {}
    for model, folder in zip(asked, _folders(asked), strict=True):
        tell(f"{model}:")
        how = {"masks": masks, "out": root / folder, "progress": show, "say": tell}
        made[model] = fit_detector(chosen, model, learned, held_out, names, **how)
    for note in (lost := _lost({one.id: one for of in made.values() for one in of.skipped}.values())):
        tell(note)
    ranks = known.ranks if known and not masks else "map50" if not known else "map"
    of_model, differences = measured(made, names, masks, ranks, known.published if known else {}, tell)
    findings = [
        _finding(model, of, made[model], held_out, masks, ranks, asdict(chosen)) for model, of in of_model.items()
    ]
    findings.sort(key=lambda finding: -(finding[ranks].value or 0.0))
    result = Detection(tuple(findings), differences, ranks, (*notes, *lost), root)
    _write(result, made, dict(zip(asked, _folders(asked), strict=True)), held_out, names, masks)
    return result


def _check_extra(command: str) -> None:
    lacking = [name for name in ("torchmetrics", "pycocotools") if importlib.util.find_spec(name) is None]
    if lacking:
        found = f"cuescope transfer {command} needs {' and '.join(lacking)}"
        raise CueError(found, wanted="the extra detect", do="pip install 'cuescope[detect]'")


def _check_asked(models: Sequence[str], out: Path, images: Path, preset: str | None, limit: int | None) -> None:
    if not models:
        raise CueError("no model was given", wanted="at least one classifier", do="see `cuescope list models`")
    if preset is not None and preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    if limit is not None and limit < 1:
        raise CueError(f"limit is {limit}", wanted="at least 1 image", do="correct --limit")
    if twice := next((model for model in models if models.count(model) > 1), None):
        raise CueError(f"'{twice}' is given twice", wanted="each model once", do="leave one out")
    check_models(models, None, None, None)
    check_folder(out)
    if images.is_dir() and out.resolve().is_relative_to(images.resolve()):
        raise CueError(f"--out {out} lies in --images {images}", wanted="a folder outside", do="choose another --out")


def _random(model: str) -> str:
    """The same network with new weights."""
    from cuescope.classifier.sources import find

    name, found = find(model)
    return f"{found.spec or name.partition('@')[0]}@random"


def _folders(models: Sequence[str]) -> list[str]:
    """A name of a folder for each model."""
    return [re.sub(r"[^A-Za-z0-9_.+-]+", "_", name).strip("._") or "model" for name in apart(list(models))]


def _images(
    images: str | Path, folds: tuple[str, str] | None, masks: bool, seed: int, limit: int | None
) -> tuple[MarkedImages, MarkedImages, tuple[str, ...], tuple[str, ...]]:
    """What is learned from, what is held out, the classes, and what is to be known of them."""
    import numpy as np

    from cuescope.data.marked import names_of
    from cuescope.data.readers.files import spread
    from cuescope.data.readers.marked import read_marked
    from cuescope.training.labeled import held_out as drawn

    learned, apart_, _ = read_marked(images, folds, masks)
    notes = [*learned.notes, *(apart_.notes if apart_ else ())]
    if apart_ is None:
        at = drawn(len(learned), np.random.default_rng(seed), HELD_OUT)
        if not len(at):
            found = f"{learned.name} has {counted(len(learned), 'image')}, none of which can be held out"
            raise CueError(found, wanted=f"at least {HELD_OUT} images", do="add images")
        rest = np.setdiff1d(np.arange(len(learned)), at)
        apart_, learned = learned.only(at.tolist(), f"{learned.name}, held out"), learned.only(rest.tolist())
        of = len(apart_) + len(learned)
        notes.append(f"the folder has no folds: one image of {HELD_OUT} is held out, {len(apart_):,} of {of:,}")
    if limit is not None:
        learned = learned.only(spread(len(learned), limit).tolist())
        notes.append(f"{counted(len(learned), 'image')} to learn from, spread evenly")
    names = names_of(learned)
    if not names:
        found = f"{counted(len(learned), 'image')} to learn from without objects"
        raise CueError(found, wanted="images with boxes", do="raise --limit, or check the folder")
    strange = sorted(set(names_of(apart_)) - set(names))
    if strange:
        told = ", ".join(f"'{name}'" for name in strange[:3])
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        notes.append(f"no image to learn from has an object of {told}{more}: those held out are not counted")
    there = {thing.box.name for entry in apart_.entries for thing in entry.things}
    apart_ = apart_.without(frozenset(there - set(names)))
    if not names_of(apart_):
        found = f"no image held out has an object of the classes of {learned.name}"
        raise CueError(found, wanted="objects of the same classes", do="check the folder")
    notes += _lost([*learned.skipped, *(apart_.skipped if apart_.skipped != learned.skipped else ())])
    return learned, apart_, names, tuple(notes)


def _lost(skipped: Collection[Skipped]) -> list[str]:
    """The first images and objects that could not be used, and why."""
    told = [f"  {one.id}: {one.why}" for one in islice(skipped, SHOWN)]
    return told + ([f"  ... and {len(skipped) - SHOWN:,} more"] if len(skipped) > SHOWN else [])


def _finding(
    model: str,
    numbers: Measured,
    of: Detected,
    held_out: MarkedImages,
    masks: bool,
    ranks: str,
    params: Mapping[str, Any],
) -> Finding:
    from cuescope.report.draw import words

    measures, classes = numbers
    best = next(m for m in measures if m.name == ranks)
    objects, span = sum(row["n"] for row in classes), words.interval(best.interval, "share")
    sentence = (
        f"On {counted(best.n or 0, 'image')} with {counted(objects, 'object')} of "
        f"{len(classes)} {'class' if len(classes) == 1 else 'classes'} its {best.label} is "
        f"{words.value(best.value, 'share')}{f' ({span})' if span else ''}."
    )
    series = {"name": "mAP50", "x": [epoch for epoch, _ in of.epochs], "y": [value for _, value in of.epochs]}
    lines = {"x": "epoch", "y": "mAP at an IoU of .5", "series": [series], "y_ends": [0.0, 1.0]}
    panels = (
        Panel(
            "classes",
            "dots",
            "Precision of each class",
            "At an IoU of .5; n is the number of objects.",
            {"unit": "share", "rows": list(classes)},
        ),
        Panel("epochs", "lines", "While it was fine-tuned", "", lines),
    )
    name = "Mask R-CNN" if masks else "Faster R-CNN"
    references = (f"{name} with a feature pyramid, torchvision's", "COCO's metric, by torchmetrics with pycocotools")
    return Finding(
        *("segment" if masks else "detect", 1, params, model, held_out.name, measures, panels),
        Verdict("yes", sentence),
        of.notes,
        references,
    )


def _write(
    found: Detection,
    made: Mapping[str, Detected],
    folders: Mapping[str, str],
    held_out: MarkedImages,
    names: tuple[str, ...],
    masks: bool,
) -> None:
    """detection.json and report.html."""
    from cuescope.report import detected

    def plain(m: Measure) -> dict[str, Any]:
        return {"value": m.value, "interval": m.interval, "n": m.n, "title": m.label}

    models = []
    for finding in found.findings:
        of = made[finding.classifier]
        told = {"model": finding.classifier, "folder": folders[finding.classifier], "parameters": of.parameters}
        told["measures"] = {m.name: plain(m) for m in finding.measures}
        told["classes"] = next(panel.data["rows"] for panel in finding.panels if panel.name == "classes")
        told |= {"epochs": of.epochs, "assumed": of.notes, "beats": found.beats(finding.classifier)}
        models.append({**told, "skipped": [{"image": one.id, "why": one.why} for one in of.skipped]})
    between = [{"a": d.a, "b": d.b, **plain(d.measure), "p_holm": d.p} for d in found.differences]
    told = {"kind": "segment" if masks else "detect", "held_out": held_out.name, "ranks": found.ranks}
    write_json(found.out / FILE, {**told, "notes": found.notes, "models": models, "differences": between})
    drawn = {model: detected.pictures(held_out, of.tried, names, masks, SHOWN) for model, of in made.items()}
    shown = [replace(one, panels=(drawn[one.classifier], *one.panels)) for one in found.findings]
    lines = [(d.measure.label, d.measure, d.p) for d in found.differences]
    detected.write(found.out / "report.html", shown, lines, found.notes)
