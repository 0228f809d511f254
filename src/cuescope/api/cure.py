"""A weak model and labeled images in; a better model out, and one report of what got better and what got worse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cuescope.api.cure_options import ABOUT, CureOptions
from cuescope.classifier.sources import known
from cuescope.core.errors import CueError, StoppedError
from cuescope.core.files import read_json, write_json
from cuescope.core.progress import Progress, Say, quiet, silent
from cuescope.core.provenance import now, versions
from cuescope.core.wording import counted
from cuescope.runs.inputs import WORLD
from cuescope.training.cures import find

if TYPE_CHECKING:
    from cuescope.data.images import ImageSet
    from cuescope.runs.comparisons.changes import Changes
    from cuescope.runs.store import Run
    from cuescope.training.cure import Cure, Stage
    from cuescope.training.settings import NetworkSettings

CURED, CONTROL = "cured", "control"
HELD_OUT = 5
"""One of so many images of each class is judged on, and never learned from."""
LEAST = 10
"""Images that each class must have."""
APART = 1
"""Seed of the built-in world's images that no model has learned from, and of its textures."""
CONFLICTS, TEXTURES, MOST_CONFLICTS = 960, 256, 10_000
"""Cue-conflict images to judge by; textures to learn from; the most conflicts that are made."""


class Cured(NamedTuple):
    """What a cure left: its folder, what `load` calls the model, and what changed."""

    path: Path
    model: str
    run: Run
    """The audit of the model before, the cured one and the control, on images held out."""
    changes: tuple[Changes, ...]
    """From the model before to the cured one, and from the control to it."""
    sentences: tuple[str, ...]
    """Whether it worked, and what it cost."""
    report: Path


def cure(
    model: str,
    remedy: str,
    *,
    command: str = "",
    progress: Progress | None = None,
    say: Say | None = None,
    **options: Any,
) -> Cured:
    """What helps this model, and did it help? Makes the data, fine-tunes, audits on images held out, and reports.

    `remedy` is "shape_bias", "shift" or "labels"; the options are the fields of CureOptions. Of each class one image in
    five is held out before anything is made or learned. In the folder `out`: `cured.safetensors`, the model;
    `control.safetensors`, one trained as long on the same images without the remedy; `report.html`. A cure that was
    stopped goes on where it was.

    Raises CueError for anything the user can mend, before the first image where that is possible.

    >>> cure("timm/resnet50.a1_in1k", "shape_bias", images="photos/", out="cures/mine").sentences  # doctest: +SKIP
    """
    asked = CureOptions(**options)
    chosen = find(remedy)
    asked.check(model, chosen)
    doing = _Doing(chosen, model, asked, progress or quiet, say or silent)
    try:
        return doing.all(command or f"cuescope.cure({model!r}, {remedy!r}, ...)")
    except KeyboardInterrupt:
        do = "run the same command again: it goes on where it stopped"
        raise StoppedError("interrupted", do=do) from None


class _Doing:
    """A cure under way. Only here torch is imported."""

    def __init__(self, cure: Cure, model: str, asked: CureOptions, progress: Progress, say: Say) -> None:
        from cuescope.runs.inputs import find_images

        self.model, self.asked, self.progress, self.say = model, asked, progress, say
        self.path, self.step = Path(asked.out).expanduser(), 0
        say(f"loading {model} and the images")
        self.images = find_images(asked.images, labels=asked.labels, limit=asked.limit)
        self.world = str(asked.images).startswith(WORLD)
        self.learned, self.held_out = _parted(self.images, model, asked.seed)
        self.cure = (cure.seen_whole if _seen_whole(self.learned) else cure).with_settings(asked.settings or {})
        self.makes_conflict = not self.world and asked.cue_conflict is None and "shape_bias" in cure.judges
        self.trained, note = _suffixed(model, cure.suffix)
        if note:
            say(note)

    def all(self, command: str) -> Cured:
        self._begin(command)
        learned, held = len(self.learned), len(self.held_out)
        self.say(f"{self.images.name}: {learned:,} images to learn from, {held:,} held out to judge by")
        made = self._make()
        conflict = self._conflict()
        notes = {"what it does": self.cure.what}
        notes["images"] = f"{learned:,} to learn from, {held:,} held out, of {self.images.name}"
        notes["remedy"] = self._train(CURED, self.cure.stages, self.trained, made)
        if self.asked.control:
            notes["control"] = self._train(CONTROL, [stage.control for stage in self.cure.stages], self.model, "")
        run = self._audit(conflict, command)
        from cuescope.report.cured import write

        names = [self.model, *(f"{self.path}/{name}" for name in (CURED, CONTROL)[: 1 + self.asked.control])]
        written = write(run, self.cure.goal, names, self.path / "report.html", notes)
        write_json(self.path / ABOUT, {**read_json(self.path / ABOUT), "finished": now()})
        return Cured(self.path, names[1], run, written.changes, written.sentences, written.path)

    def _next(self, what: str) -> None:
        self.step += 1
        made = self.cure.times * bool(self.cure.makes) + self.makes_conflict
        trained = len(self.cure.stages) * (1 + self.asked.control)
        self.say(f"{self.step} of {made + trained + 1}: {what}")

    def _begin(self, command: str) -> None:
        """Say what the folder is for; go on with the same cure only."""
        asked, file = self.asked, self.path / ABOUT
        about = {
            "cure": self.cure.name,
            "model": self.model,
            "images": {"name": self.images.name, "count": len(self.images), "digest": self.images.digest},
            **{name: _plain(getattr(asked, name)) for name in ("styles", "cue_conflict", "annotator", "seed")},
            "control": asked.control,
            "settings": {key: str(value) for key, value in (asked.settings or {}).items()},
        }
        if file.is_file():
            there = read_json(file).get("about", {})
            for key, value in about.items():
                if there.get(key) != value:
                    found = f"'{self.path}' holds a cure with {key} {there.get(key)}, not {value}"
                    do = "choose another --out, or give what it was begun with"
                    raise CueError(found, wanted="the cure that was begun there", do=do)
            return
        facts = {**versions("cuescope", "torch"), "command": command, "created": now(), "finished": None}
        write_json(file, {**facts, "about": about})

    def _make(self) -> str:
        """What is learned from beside the images, as folders; "" for nothing."""
        if self.cure.makes == "stylized":
            styles, seeds = self._styles(), range(self.asked.seed, self.asked.seed + self.cure.times)
            made = [self._made("stylized", self.learned, i, styles=styles, seed=seed) for i, seed in enumerate(seeds)]
            return ",".join(made)
        if self.cure.makes:
            return self._made(self.cure.makes, self.learned, model=self.asked.annotator or self.model)
        return ""

    def _styles(self) -> Any:
        from cuescope.data.readers.files import subset
        from cuescope.world.images import WorldImages

        if self.asked.styles is not None:
            return str(self.asked.styles)
        return WorldImages("texture-only", count=TEXTURES, seed=APART) if self.world else subset(self.learned, TEXTURES)

    def _conflict(self) -> Any:
        """Images to judge shape bias by, none of them made of what was learned from; None where there are none."""
        from cuescope.world.images import WorldImages

        if self.asked.cue_conflict is not None:
            return self.asked.cue_conflict
        if self.world:
            return WorldImages("conflict", count=CONFLICTS, seed=APART)
        if not self.makes_conflict:
            return None
        pairs = len(self.held_out.classes or ()) ** 2
        if pairs > MOST_CONFLICTS:
            found = f"{pairs:,} pairs of classes, too many to make images of each"
            raise CueError(found, wanted="cue-conflict images to judge by", do="give --cue-conflict DIR")
        settings = {"textures": self.held_out, "pairs": max(1, round(CONFLICTS / pairs)), "seed": self.asked.seed}
        return self._made("cue-conflict", self.held_out, **settings)

    def _made(self, maker: str, images: ImageSet, number: int = 0, **settings: Any) -> str:
        from cuescope.api.make import make

        folder = self.path / "data" / (f"{maker}-{number + 1}" if number else maker)
        self._next(f"making {maker} of {len(images):,} images: {folder}")
        make(maker, images, folder, device=self.asked.device, progress=self.progress, **settings)
        return str(folder)

    def _train(self, name: str, stages: Sequence[Stage], model: str, made: str) -> str:
        """Fine-tune stage by stage, and keep the last weights of each; what was done, in words."""
        from cuescope.training.kept import Kept
        from cuescope.training.stages import fine_tuned

        told, images, done = [], Kept(self.learned), (self.path / f"{name}.safetensors").is_file()
        for number, stage in enumerate(stages):
            last = number == len(stages) - 1
            file = self.path / (f"{name}.safetensors" if last else f"training/{stage.name}.safetensors")
            more = {stage.made: made} if stage.made else {}
            settings = stage.configured(model=model, seed=self.asked.seed, device=self.asked.device, **more)
            what = f"{stage.recipe}, {counted(settings.epochs, 'epoch')}, learning rate {settings.learning_rate:g}, "
            what += _seen(settings)
            what += "" if number else f", from {model}"
            told.append(what)
            self._next(f"training {stage.name}: {what}")
            if not (done or file.is_file()):
                fine_tuned(stage, settings, images, self.path / "training" / stage.name, file, self.progress)
            model = str(file.with_suffix(""))
        return "; then ".join(told)

    def _audit(self, conflict: Any, command: str) -> Run:
        from cuescope.api.audit import perform
        from cuescope.runs.options import AuditOptions

        inputs: dict[str, Any] = {"images": self.held_out}
        judges = [name for name in self.cure.judges if name != "multi_label" or "labels" in self.held_out.knows]
        if conflict is not None:
            inputs["cue-conflict"] = conflict
            judges = list(dict.fromkeys([*judges, "shape_bias"]))
        models = [self.model, *([f"{self.path}/{CONTROL}"] if self.asked.control else []), f"{self.path}/{CURED}"]
        settings = {k: v for k, v in self.cure.settings.items() if k.partition(".")[0] in judges}
        out = self.path / "audit"
        options = AuditOptions(inputs=inputs, only=judges, settings=settings, out=out, device=self.asked.device)
        options.check(models)
        self._next("auditing on the images held out")
        result = perform(models, options, command, self.progress, self.say)
        if result.failed:
            cell = result.failed[0]
            found = f"{cell.instrument} of {cell.classifier} failed: {cell.why}"
            raise CueError(found, do=f"see {cell.folder / 'error.txt'}, and run the same command again")
        return result.run


def _parted(images: ImageSet, model: str, seed: int) -> tuple[ImageSet, ImageSet]:
    """The images to learn from, and those held out: one of five in each class.

    Raises CueError for images without labels, with too few of a class, or of classes that the model does not know,
    and for a model that cannot be trained.
    """
    import numpy as np

    from cuescope.classifier.sources import load
    from cuescope.core.alignment import aligned
    from cuescope.data.derived import Subset
    from cuescope.training.images import labels_of
    from cuescope.training.labeled import check_labels, labeled_classes, split
    from cuescope.training.network import network_of

    space, labels = labeled_classes(images), labels_of(images)
    check_labels(images, space, labels[labels >= 0], "no labeled image")
    found, counts = np.unique(labels[labels >= 0], return_counts=True)
    if counts.min() < LEAST:
        few = space.names[found[counts.argmin()]]
        wrong = f"the class '{few}' of {images.name} has {counts.min()} images"
        do = "add images, leave the class out, or raise --limit"
        raise CueError(wrong, wanted=f"at least {LEAST} images of each class", do=do)
    network_of(model, space, 0)
    places = aligned(space, load(model, device="cpu").classes).places
    if unknown := [space.names[i] for i in found if places[i] < 0]:
        wrong = f"{model} does not know the class '{unknown[0]}'"
        do = "leave the class out, or first train the model on these images (cuescope train)"
        raise CueError(wrong, wanted="images of classes that the model tells apart", do=do)
    learned, back = split(labels, np.random.default_rng(seed), HELD_OUT)
    return Subset(images, learned.tolist(), "to learn from"), Subset(images, back.tolist(), "held out")


def _seen(settings: NetworkSettings) -> str:
    """What is seen of each image, in words."""
    if settings.least == 1:
        return "whole images"
    half = f", {settings.whole:.0%} of them whole" if settings.whole else ""
    return f"crops of {settings.least:g} to {settings.most:g}{half}"


def _seen_whole(images: ImageSet) -> bool:
    """Whether classifiers see these images whole, by the first that can be read."""
    from cuescope.data.images import UnreadableError

    for index in range(len(images)):
        try:
            return images.read(index).framing == "stimulus"
        except UnreadableError:
            continue
    return False


def _suffixed(model: str, suffix: str) -> tuple[str, str]:
    """The model under this suffix where it can have it, else itself and why."""
    from cuescope.classifier.sources import find as find_model

    if not suffix:
        return model, ""
    network, at, weights = model.partition("@")
    if spec := find_model(model)[1].spec:
        network, at, weights = spec, "@", known.trained_file(model)
    if network.endswith(suffix):
        return model, f"{network} has {suffix} already"
    asked = f"{network}{suffix}{at}{weights}"
    try:
        find_model(asked)
    except CueError as error:
        return model, f"without {suffix}: {error.found}"
    return asked, ""


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
