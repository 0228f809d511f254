"""What people and networks answered, image by image: the raw trials of Geirhos et al. 2019, and of model-vs-human."""

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from cuescope.core.errors import CueError
from cuescope.data.derived import DerivedSet
from cuescope.data.images import Answer, ImageSet, Sample, Skipped
from cuescope.data.readers.cue_conflict import cues_of
from cuescope.data.readers.cues import category_name
from cuescope.data.readers.tables import read_rows

COLUMNS = ("subj", "session", "trial", "object_response", "category", "condition", "imagename")
NAMES = ("experiment", "subject", "kind", "condition", "image", "shape", "texture", "response")
SCHEMA: dict[str, Any] = dict.fromkeys(NAMES, pl.String)
NO_ANSWER = {"na", "nan", ""}
INSTRUCTED = "guessing"
"""In the name of the experiments whose people were asked to name one cue: they are no free answers."""
LATER = "-trained-CNNs"
"""Ends the folders of the networks that were run later, in PyTorch; those beside the people were run in Caffe."""

LONGEST = 255
"""Characters of a file's name."""

# Images of ImageNet have an underscore of their own: n03041632_8725.png.
_IMAGE = re.compile(r"(n\d{8}_\d+\.\w+|[^_/\\]+)$")
_TRAINED = re.compile(r"-train-\d+-epochs.*")
_NETWORKS = {
    "alexnet": "AlexNet",
    "googlenet": "GoogLeNet",
    "vgg": "VGG-16",
    "vgg16": "VGG-16",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "resnet152": "ResNet-152",
    "densenet121": "DenseNet-121",
    "squeezenet1-1": "SqueezeNet 1.1",
    "oidv2-resnet101": "ResNet-101",
}

_IN_CAFFE = {"alexnet", "googlenet", "vgg"}


@dataclass(frozen=True, eq=False)
class HumanData:
    """Trials as a table: experiment, subject, kind ("human" or "network"), condition, image, shape, texture, response.

    `texture` is null where the image's name has none, `response` where there was no answer in time. A subject is one
    and the same within its experiment only.
    """

    name: str
    trials: pl.DataFrame
    skipped: tuple[Skipped, ...] = ()


def read_human_data(path: Path | str) -> HumanData:
    """Which trials do the CSVs in a folder hold, at any depth?

    The columns are those of the authors' raw data, subj,session,trial,rt,object_response,category,condition,imagename,
    in any case; the stimulus is what follows the last underscore of the image name. The experiment is the folder's
    name, less "-experiment" and "-trained-CNNs". A file that is no table of trials, or repeats trials of another, is
    left out and listed in `skipped`.

    Raises CueError where there is no such folder, or no file with trials in it.
    """
    root = Path(path).expanduser()
    wanted = "a folder of CSVs of trials, as in raw-data/ of rgeirhos/texture-vs-shape"
    if not root.is_dir():
        found = f"'{root}' is a file" if root.exists() else f"no folder '{root}'"
        raise CueError(found, wanted=wanted, do="check the path, or run: cuescope get human-data " + str(root))
    tables: list[pl.DataFrame] = []
    skipped: list[Skipped] = []
    known: dict[tuple[str | None, ...], str] = {}
    for file in sorted(root.rglob("*.csv")):
        name = file.relative_to(root).as_posix()
        try:
            rows = list(_trials(file))
        except CueError as error:
            skipped.append(Skipped(name, error.found))
            continue
        if why := _repeated(rows, name, known):
            skipped.append(Skipped(name, why))
        else:
            tables.append(pl.DataFrame(rows, schema=SCHEMA))
    if not tables:
        why = f": '{skipped[0].id}' is left out, {skipped[0].why}" if skipped else ""
        raise CueError(f"no trials in '{root}'{why}", wanted=wanted, do="check the path")
    return HumanData(root.resolve().name, pl.concat(tables), tuple(skipped))


def _repeated(rows: list[dict[str, str | None]], name: str, known: dict[tuple[str | None, ...], str]) -> str:
    """Why these rows cannot be used, or "": then `known` knows in which file these trials are."""
    own: dict[tuple[str | None, ...], str] = {}
    for row in rows:
        key = (row["experiment"], row["subject"], row["condition"], row["image"])
        if key in known or key in own:
            return f"{key[1]} has answered {key[3]} already, in {known.get(key, name)}"
        own[key] = name
    known.update(own)
    return "" if rows else "it has no row"


def _trials(file: Path) -> Iterator[dict[str, str | None]]:
    folder = file.parent.name
    experiment = folder.removesuffix(LATER).removesuffix("-experiment")
    for line, row in read_rows(file, COLUMNS, "trials", "a CSV with the columns " + ",".join(COLUMNS)):
        match = _IMAGE.search(row["imagename"][-LONGEST:])
        if not match or not row["subj"]:
            raise CueError(f"line {line} has no {'subject' if match else 'image name'}", wanted="both", do="correct it")
        cues, human = cues_of(match[1]), row["subj"].lower().startswith("subject")
        response = category_name(row["object_response"])
        yield {
            "experiment": experiment,
            "subject": row["subj"].lower() if human else _network(row["subj"], folder, experiment),
            "kind": "human" if human else "network",
            "condition": row["condition"],
            "image": _file(match[1]),
            "shape": cues["shape"] if cues else category_name(row["category"]),
            "texture": cues["texture"] if cues else None,
            "response": None if response.lower() in NO_ANSWER else response,
        }


def _network(subject: str, folder: str, experiment: str) -> str:
    """The name of a network of the 2019 paper, which used the same one for two; others keep their name.

    >>> _network("alexnet-train-60-epochs-lr0.001", "edge-experiment-trained-CNNs", "edge")
    'AlexNet (SIN)'
    """
    plain = _TRAINED.sub("", subject)
    if folder == experiment or plain not in _NETWORKS:
        return subject
    by = "Caffe" if plain in _IN_CAFFE and not folder.endswith(LATER) else "torchvision"
    by = "SIN" if plain != subject else "OpenImages" if plain.startswith("oidv2") else by
    return f"{_NETWORKS[plain]} ({by})"


def _file(name: str) -> str:
    """The name of an image's file, in one Unicode form."""
    return unicodedata.normalize("NFC", os.path.basename(name))  # noqa: PTH119 - an id may be no path


def with_answers(images: ImageSet, data: HumanData) -> ImageSet:
    """The same images, those that the trials know with what people and networks answered, in `Sample.answers`.

    A trial's image is found by its file name. Of several experiments with the same images the one with the most
    of them is taken; those in which people were asked to name one cue are not. Raises CueError where none fits.
    """
    names = {_file(images.id(i)) for i in range(len(images))}
    free = data.trials.filter(~pl.col("experiment").str.contains(INSTRUCTED, literal=True))
    shown = free.filter(pl.col("image").is_in(list(names)))
    if not shown.height:
        found = f"'{data.name}' has no free answer to an image of {images.name}"
        if len(images):
            found += f"; its images are named as {data.trials['image'][0]}, those of {images.name} as {images.id(0)}"
        do = "give the raw data of the experiment that showed these images"
        raise CueError(found, wanted="trials on these images", do=do)
    counts = shown.group_by("experiment").agg(pl.col("image").n_unique().alias("n"), pl.len().alias("trials"))
    best = counts.sort("n", "trials", "experiment", descending=[True, True, False])["experiment"][0]
    return _Answered(images, data, shown.filter(pl.col("experiment") == best), best)


class _Answered(DerivedSet):
    def __init__(self, images: ImageSet, data: HumanData, trials: pl.DataFrame, experiment: str) -> None:
        super().__init__(images)
        self.knows = images.knows | {"answers"}
        # People first, so that what is computed of them in this order has them first.
        trials = trials.sort("kind", maintain_order=True)
        self.answers: dict[str, tuple[Answer, ...]] = {}
        for image, who, kind, response in trials.select("image", "subject", "kind", "response").iter_rows():
            self.answers[image] = (*self.answers.get(image, ()), Answer(who, kind, response))
        people, networks = (trials.filter(kind=kind)["subject"].n_unique() for kind in ("human", "network"))
        answered = f"{len(self.answers):,} of {len(images):,} images have answers"
        note = f"{answered} of {people} people and {networks} networks: {experiment}, from {data.name}"
        self.notes = (*images.notes, note)
        self.skipped = (*images.skipped, *(Skipped(f"{data.name}/{s.id}", s.why) for s in data.skipped))

    def changed(self, sample: Sample) -> Sample:
        return sample.but(answers=self.answers.get(_file(sample.id), ()))

    def hashed(self) -> tuple[str, Iterator[object]]:
        return "answers", ((image, [tuple(answer) for answer in self.answers[image]]) for image in sorted(self.answers))
