"""What an audit will do: which instrument is asked of which classifier on which images, and what cannot be asked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load, prompts
from cuescope.classifier.sources.known import series
from cuescope.core.alignment import aligned
from cuescope.core.classes import IMAGENET
from cuescope.core.errors import CueError
from cuescope.core.naming import SERIES, network_of
from cuescope.data.images import ImageSet
from cuescope.instruments import registry
from cuescope.instruments.base import Instrument, Misfit, name_of
from cuescope.runs import inputs
from cuescope.runs.options import AuditOptions
from cuescope.runs.runner import none_applies
from cuescope.runs.task import Task

CHECKPOINTS = (
    "the checkpoints of a network, in their order",
    "MODEL@one.safetensors MODEL@two.safetensors, or a training's, as in runs/mine/epochs",
)
"""What to give, and how, for an instrument that needs "checkpoints"."""

OF_MODELS = (
    *("classes", "templates", "preprocessing", "mean", "std", "size", "resize"),
    *("device", "precision", "batch_size", "compile"),
)
"""The options that say how a model is loaded."""


class Plan(NamedTuple):
    tasks: list[Task]
    unmet: list[tuple[Task, str]]
    unasked: list[dict[str, str]]
    classifiers: list[Classifier]
    sets: list[tuple[str, ImageSet]]
    matched: dict[str, list[str]]
    """What matching the labels of the images, by role, with the classes of the classifiers had to assume."""

    @property
    def all_tasks(self) -> list[Task]:
        return [*self.tasks, *(task for task, _ in self.unmet)]


def find_instruments(options: AuditOptions) -> list[Instrument]:
    """The instruments asked for, their parameters set. Raises CueError for unknown names and parameters."""
    return [registry.build(spec, values) for spec, values in options.asked.items()]


def with_series(models: Sequence[Any], asked: Sequence[Instrument]) -> list[Any]:
    """The models, and in place of a training's folder `epochs` the checkpoints in it, in their order.

    The folder of the training itself, such as runs/mine, stands for them too where nothing but them is asked about.
    """
    alone, found = all("checkpoints" in tool.needs for tool in asked), []
    for model in models:
        folder = model if isinstance(model, str | Path) else ""
        found += series(folder) or (series(Path(folder, SERIES)) if alone and folder else []) or [model]
    return found


def find_classifiers(models: Sequence[Any], options: AuditOptions) -> list[Classifier]:
    """The classifiers, loaded. Raises CueError for one that is given twice."""
    how = {name: getattr(options, name) for name in OF_MODELS}
    some = any(map(prompts.reads_text, models))
    found: dict[str, Classifier] = {}
    for model in models:
        # Beside a zero-shot classifier the templates are not for the others.
        templates = None if some and not prompts.reads_text(model) else options.templates
        classifier = load(model, **{**how, "templates": templates})
        if classifier.name in found:
            if isinstance(model, str | Path):
                raise CueError(f"'{classifier.name}' is given twice", wanted="different models", do="name each once")
            # Modules of one class, which have no names of their own: numbered in the order in which they are given.
            number = 2 + sum(name.startswith(f"{classifier.name}-") for name in found)
            classifier = classifier.under(name=f"{classifier.name}-{number}")
        found[classifier.name] = classifier
    return list(found.values())


def plan_of(
    asked: list[Instrument], classifiers: list[Classifier], sets: Mapping[str, ImageSet], options: AuditOptions
) -> Plan:
    """The plan of an audit with these options."""
    labels_given = "labels" in options.inputs
    return make_plan(asked, classifiers, sets, strict=bool(options.only), labels_given=labels_given)


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
    matched: dict[int, dict[str, None]] = {}
    networks = Counter(network_of(classifier.name) for classifier in classifiers)
    of_run = frozenset({"checkpoints"} if max(networks.values(), default=0) > 1 else ())
    own = [source for source in inputs.sources().values() if source.extends != "images"]
    for instrument in asked:
        # The last first: what extends the images of another comes after it.
        source = next((s for s in reversed(own) if instrument.needs & s.provides), own[0])
        images = sets.get(source.extends or source.role, sets["images"])
        around = of_run | (frozenset({"another"}) if len(images) > 1 else frozenset())
        if lacking := instrument.needs & (source.provides | {"checkpoints"}) - images.knows - of_run:
            what, usage = CHECKPOINTS if "checkpoints" in lacking else inputs.wanted(lacking)
            why = f"it needs {what}: give {usage}"
            if strict:
                raise CueError(f"{name_of(instrument)} cannot be measured", wanted=what, do=why)
            unasked.append({"instrument": name_of(instrument), "question": instrument.question, "why": why})
            continue
        for classifier in classifiers[:1] if instrument.about_images else classifiers:
            strictly = labels_given and not source.own_labels
            place, no_labels, assumed = _own(images) if instrument.own_classes else _place(images, classifier, strictly)
            matched.setdefault(id(images), {}).update(dict.fromkeys(f"{classifier.name}: {note}" for note in assumed))
            by_category = "category" in images.knows and classifier.classes.name == IMAGENET
            needs_labels = instrument.needs & images.knows & {"label", "labels"} and not by_category
            why, peers = (no_labels if needs_labels else "") or why_not(instrument, classifier, images, around), ()
            try:
                peers = instrument.peers(classifier, classifiers)
            except Misfit as misfit:
                why = why or str(misfit)
            task = Task(classifier, images, instrument, place, peers)
            if why:
                unmet.append((task, why))
            else:
                tasks.append(task)
    if not tasks:
        raise none_applies([*(why for _, why in unmet), *(question["why"] for question in unasked)])
    used = {id(task.images) for task in [*tasks, *(task for task, _ in unmet)]}
    shown = [(role, s) for role, s in sets.items() if id(s) in used]
    assumed = {role: list(matched.get(id(s), ())) for role, s in shown}
    return Plan(tasks, unmet, unasked, classifiers, shown, assumed)


def why_not(tool: Instrument, classifier: Classifier, images: ImageSet, of_run: frozenset[str] = frozenset()) -> str:
    """Why the instrument does not apply, and which input would help; "" where it does."""
    if not tool.needs - of_run - classifier.capabilities - images.knows:
        return ""
    usage = inputs.wanted({registry.missing(tool, classifier, images)})[1]
    why = registry.unmet(tool, classifier, images)
    return f"{why}; give {usage}" if usage else why


Place = tuple[tuple[int, ...], str, tuple[str, ...]]
"""The logit for each label, or why the labels say nothing about it; what had to be assumed."""


def _own(images: ImageSet) -> Place:
    """Each label as it is: the images' classes are their own, whatever the classifier's are."""
    return tuple(range(len(images.classes))) if images.classes else (), "", ()


def _place(images: ImageSet, classifier: Classifier, labels_given: bool) -> Place:
    """The classifier's logit for each label of the images."""
    if images.classes is None:
        return (), "", ()
    try:
        found = aligned(images.classes, classifier.classes)
        return found.places, "", found.notes
    except CueError as error:
        if labels_given:
            raise
        # Folders may be albums, not classes: then the images are unlabeled, which is said and not an error.
        why = f"{error.found}: {error.do}"
        return (), why, (f"the images are unlabeled: {why}",)
