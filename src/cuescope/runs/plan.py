"""What an audit will do: which instrument is asked of which classifier on which images, and what cannot be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.classes import IMAGENET, align
from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet
from cuescope.instruments import names, registry
from cuescope.instruments.base import Instrument
from cuescope.instruments.registry import name_of
from cuescope.runs import inputs
from cuescope.runs.inputs import Source
from cuescope.runs.options import AuditOptions
from cuescope.runs.runner import Task


@dataclass(frozen=True)
class Plan:
    tasks: list[Task]
    unmet: list[tuple[Task, str]]
    unasked: list[dict[str, str]]
    classifiers: list[Classifier]
    sets: list[tuple[str, ImageSet]]


def find_instruments(only: Sequence[str], also: Sequence[str], settings: Mapping[str, Any]) -> list[Instrument]:
    """The instruments asked for, their parameters set. Raises CueError for unknown names and parameters."""
    return [registry.build(spec, values) for spec, values in names.asked(only, also, settings).items()]


def find_classifiers(models: Sequence[Any], options: AuditOptions) -> list[Classifier]:
    """The classifiers, loaded. Raises CueError for one that is given twice."""
    how = {name: getattr(options, name) for name in ("classes", "device", "precision", "batch_size", "compile")}
    found: list[Classifier] = []
    for model in models:
        classifier = load(model, **how)
        if any(classifier.name == other.name for other in found):
            raise CueError(f"'{classifier.name}' is given twice", wanted="different models", do="name each once")
        found.append(classifier)
    return found


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
        source = _source(instrument)
        images = sets.get(source.extends or source.role, sets["images"])
        if lacking := instrument.needs & source.provides - images.knows:
            what, usage = inputs.wanted(lacking)
            why = f"it needs {what}: give {usage}"
            if strict:
                raise CueError(f"{name_of(instrument)} cannot be measured", wanted=what, do=why)
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
            place, why = _place(images, classifier, labels_given and not source.own_labels)
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
    return why_not(task.instrument, task.classifier, task.images)


def why_not(instrument: Instrument, classifier: Classifier, images: ImageSet) -> str:
    """Why the instrument does not apply, and which input would help; "" where it does."""
    usage = inputs.wanted({registry.missing(instrument, classifier, images)})[1]
    why = registry.unmet(instrument, classifier, images)
    return f"{why}; give {usage}" if usage else why


def _source(instrument: Instrument) -> Source:
    """The input whose images the instrument is asked on: the one that provides what it needs, or "images"."""
    own = [source for source in inputs.sources().values() if source.extends != "images"]
    # The last first: what extends the images of another comes after it.
    return next((source for source in reversed(own) if instrument.needs & source.provides), own[0])


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
