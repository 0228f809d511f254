"""What an audit will do: which instrument is asked of which classifier on which images, and what cannot be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.classes import IMAGENET, align
from cuescope.core.errors import CueError, unknown
from cuescope.data.images import ImageSet
from cuescope.instruments import registry
from cuescope.instruments.base import Instrument
from cuescope.instruments.registry import name_of
from cuescope.runs.runner import Task

NOTHING: frozenset[str] = frozenset()
ROLES = {
    "human-data": frozenset({"answers"}),
    "cue-conflict": frozenset({"shape", "texture"}),
    "cues": frozenset({"shown"}),
    "texturized": frozenset({"texturized"}),
    "distortions": frozenset({"distortion"}),
    "parts": frozenset({"parts"}),
    "label-maps": frozenset({"labels", "regions"}),
}
"""Image sets of their own, by what an instrument must need to be asked on them; all others look at the images."""
WANTED = {
    "label-maps": (
        "label maps of the images, boxes of their objects, or ReaL's labels",
        "--label-maps DIR, --boxes DIR",
    ),
    "parts": ("a CSV of the parts of the images, file,part,x0,y0,x1,y1", "--parts FILE"),
    "distortions": ("a folder of distorted images (`cuescope make distorted`)", "--distortions DIR"),
    "cues": ("folders of silhouettes, edges and textures", "--cues DIR"),
    "human-data": ("answers of people to cue-conflict images", "--cue-conflict DIR --human-data DIR"),
}
"""What to give for a role that is not images alone, and how."""
SHARED = {"human-data": "cue-conflict"}
"""Roles whose images are those of another: then one pass over them serves both."""


@dataclass(frozen=True)
class Plan:
    tasks: list[Task]
    unmet: list[tuple[Task, str]]
    unasked: list[dict[str, str]]
    classifiers: list[Classifier]
    sets: list[tuple[str, ImageSet]]


def find_instruments(only: Sequence[str], also: Sequence[str], settings: Mapping[str, Any]) -> list[Instrument]:
    """The instruments asked for, their parameters set. Raises CueError for unknown names and parameters."""
    chosen = list(dict.fromkeys([*(only or registry.names()), *also]))
    names = [Path(name).stem if name.endswith(".py") else name for name in chosen]
    for name in chosen:
        registry.find(name)
    grouped: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in settings.items():
        name, _, parameter = key.partition(".")
        if not parameter:
            raise CueError(f"setting '{key}'", wanted="instrument.parameter=value", do="as in occlusion.images=4")
        if name not in grouped:
            raise unknown("instrument", name, grouped)
        grouped[name][parameter] = value
    return [registry.build(spec, grouped[name]) for spec, name in zip(chosen, names, strict=True)]


def find_classifiers(
    models: Sequence[Any], classes: Any, device: str, precision: str, batch_size: int, compile: bool
) -> list[Classifier]:
    made: list[Classifier] = []
    for model in models:
        classifier = load(
            model, classes=classes, device=device, precision=precision, batch_size=batch_size, compile=compile
        )
        if any(classifier.name == other.name for other in made):
            raise CueError(f"'{classifier.name}' is given twice", wanted="different models", do="name each once")
        made.append(classifier)
    return made


def make_plan(
    asked: list[Instrument],
    classifiers: list[Classifier],
    sets: Mapping[str, ImageSet],
    *,
    strict: bool,
    labels_given: bool,
) -> Plan:
    """Which instrument goes with which classifier and images; what cannot be asked, and why."""
    tasks, unmet, unasked = [], [], []
    for instrument in asked:
        role = next((role for role, known in ROLES.items() if instrument.needs & known), "images")
        images = sets.get(SHARED.get(role, role), sets["images"])
        if not images.knows >= instrument.needs & ROLES.get(role, NOTHING):
            wanted, given = WANTED.get(role, (f"{role} images", f"--{role} DIR"))
            why = f"it needs {wanted}: give {given}"
            if strict:
                raise CueError(f"{name_of(instrument)} cannot be measured", wanted=wanted, do=why)
            unasked.append({"instrument": name_of(instrument), "question": instrument.question, "why": why})
            continue
        if getattr(instrument, "peers", "") == "series" and not any(
            len(_series(c, classifiers)) > 1 for c in classifiers
        ):
            why = "it needs the checkpoints of a network, in their order: MODEL@one.safetensors MODEL@two.safetensors"
            if strict:
                raise CueError(f"{name_of(instrument)} cannot be measured", wanted="two checkpoints or more", do=why)
            unasked.append({"instrument": name_of(instrument), "question": instrument.question, "why": why})
            continue
        for classifier in classifiers:
            # The labels that were given are those of the images, not of the distorted ones nor of an annotator.
            place, why = _place(images, classifier, labels_given and role not in ("distortions", "label-maps"))
            task = Task(classifier, images, instrument, place, _peers(instrument, classifier, classifiers))
            by_category = "category" in images.knows and classifier.classes.name == IMAGENET
            if instrument.needs & images.knows & {"label", "labels"} and why and not by_category:
                unmet.append((task, why))
            elif reason := _unmet(task, classifiers):
                unmet.append((task, reason))
            else:
                tasks.append(task)
    if not tasks:
        reasons = sorted({why for _, why in unmet} | {u["why"] for u in unasked})
        raise CueError(
            "none of the instruments asked for applies here: " + "; ".join(reasons),
            wanted="at least one that does",
            do="see `cuescope list instruments` for what each needs",
        )
    used = {id(task.images) for task in tasks} | {id(task.images) for task, _ in unmet}
    return Plan(tasks, unmet, unasked, classifiers, [(role, s) for role, s in sets.items() if id(s) in used])


def _peers(instrument: Instrument, classifier: Classifier, classifiers: Sequence[Classifier]) -> tuple[Classifier, ...]:
    """The other classifiers of the run that the instrument asks for."""
    kind = getattr(instrument, "peers", "")
    others = [c for c in classifiers if c is not classifier and c.classes == classifier.classes]
    if kind == "patches":
        return tuple(c for c in others if "patch_logits" in c.capabilities)
    if kind == "series" and _series(classifier, classifiers)[-1] is classifier:
        return tuple(_series(classifier, classifiers)[:-1])
    return ()


def _series(classifier: Classifier, classifiers: Sequence[Classifier]) -> list[Classifier]:
    """The checkpoints of the same network, in the order they were given."""
    network = classifier.name.partition("@")[0]
    return [c for c in classifiers if c.name.partition("@")[0] == network and c.classes == classifier.classes]


def _unmet(task: Task, classifiers: Sequence[Classifier]) -> str:
    if getattr(task.instrument, "peers", "") == "series" and not task.peers:
        series = _series(task.classifier, classifiers)
        if len(series) < 2:
            return f"{task.classifier.name} is one checkpoint alone"
        return f"it is an earlier checkpoint of {series[-1].name}, where the series is told"
    return registry.unmet(task.instrument, task.classifier, task.images)


def _place(images: ImageSet, classifier: Classifier, labels_given: bool) -> tuple[tuple[int, ...], str]:
    """The classifier's logit for each label, or why the labels say nothing about this classifier."""
    if images.classes is None:
        return (), ""
    try:
        return align(images.classes, classifier.classes), ""
    except CueError as error:
        if labels_given:
            raise
        # Folders may be albums, not classes: then the images are unlabeled, which is said and not an error.
        return (), error.found
