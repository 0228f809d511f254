"""Among all its classes, how high does it rank the label of the shape, and how high that of the texture?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.classes import IMAGENET, SIXTEEN
from cuescope.core.findings import About, Conclusion, Measure, Panel, dot
from cuescope.core.ranks import Ranks
from cuescope.core.verdicts import UNSAID, Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Rows, typed
from cuescope.methods.cue_conflict import (
    EVEN,
    MORE,
    SHARED,
    TOO_NARROW,
    categories,
    clusters_of,
    instances,
    labels_of,
    recognized,
)

CUES = ("shape", "texture")
MARGIN = 0.05
"""A mean reciprocal rank that is surely less than this above chance shows no use of the cue."""


@dataclass(frozen=True)
class CueSensitivity(Instrument, version=1, order=35, needs={"logits", "shape", "texture"}):
    """Mean reciprocal rank of the label of the shape, and of that of the texture, among all classes of the classifier.

    On cue-conflict images, each cue for itself: shape bias leaves out all classes but a few, and says nothing of how
    well either cue is read (Kim et al. 2026). A category of several classes has the rank of its best. Equal logits have
    the mean over all their orders. Chance is what the same ranks would give if the images' labels were dealt out at
    random, now and then that of the other cue, so it is rather too high; in a random order of K classes it is H(K) / K
    for one class, so values for different numbers of classes are not to be compared. Images count only if both
    originals are recognized, where these are given (`--cues`).

    >>> CueSensitivity()
    CueSensitivity()
    """

    question = "Does it read the shape, and does it read the texture?"
    reference = (
        "Kim et al. 2026, On the reliability of cue conflict and beyond (reciprocal rank among all classes, there of "
        "images of one cue each); Geirhos et al. 2019 (the images)"
    )
    columns = {
        **typed(pl.String, "id shape texture object texture_image"),
        **typed(pl.Float64, "shape_reciprocal texture_reciprocal shape_rank texture_rank shape_first texture_first"),
        "reciprocal_ranks": pl.List(pl.Float64),
        "recognized": pl.Boolean,
    }
    sentences = {
        "nothing": Sentence("cannot tell", "no image counts", "Nothing can be said of its sensitivity: {why}."),
        "reads": Sentence(
            "yes",
            "for each cue listed, the whole interval of its sensitivity lies above chance",
            "Among {classes} it reads {cues}.",
        ),
        "not": Sentence(
            "no",
            "for each cue listed, the whole interval lies less than MARGIN above chance, which is at most EVEN",
            "It does not read {cues}.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "for each cue listed, neither of the two may be said, or there is no interval",
            "Whether it reads {cues} cannot be said from {images}.",
            *MORE,
        ),
    }

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: the ranks of both its labels, the reciprocal ranks of all categories, whether the originals are
        recognized.
        """
        shown = (sample.cues[cue] for sample in batch.samples for cue in CUES)
        members, named = categories(classifier.classes, shown)
        place, ranks = {name: k for k, name in enumerate(members)}, Ranks.of(batch.logits, members)
        columns: dict[str, Any] = {"id": batch.ids, "reciprocal_ranks": ranks.reciprocal.tolist()}
        each = np.arange(len(batch))
        for cue in CUES:
            columns[cue] = [named[sample.cues[cue]] for sample in batch.samples]
            at = each, [place[name] for name in columns[cue]]
            columns[f"{cue}_reciprocal"] = ranks.reciprocal[at]
            columns[f"{cue}_rank"] = ranks.expected[at]
            columns[f"{cue}_first"] = np.where(ranks.greater[at] == 0, ranks.own[at] / ranks.equal[at], 0.0)
        made_of = [instances(sample) for sample in batch.samples]
        columns |= {key: [one[key] for one in made_of] for key in made_of[0]} if made_of else {}
        columns["recognized"] = [recognized(classifier, sample, members, named) for sample in batch.samples]
        return self.table(columns)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        conflict = rows.filter(pl.col("shape") != pl.col("texture"))
        judged = conflict.drop_nulls("recognized")
        counting = conflict.filter(pl.col("recognized").fill_null(True))
        why = "it recognizes both originals of no image" if conflict.height else "no image has cues in conflict"
        found = [*_sensitivities(counting, about, why)]
        title = "images whose two originals it recognizes"
        gate = stats.share("recognized", judged["recognized"], clusters=labels_of(judged), title=title, why=UNKNOWN)
        measures = (*found, *_beside(counting, why), replace(gate, clusters=clusters_of(judged)))
        caveats = _caveats(conflict, judged, counting)
        return Conclusion(measures, tuple(_panels(counting)), self._verdict(found, about), caveats)

    def _verdict(self, found: Sequence[Measure], about: About) -> Verdict:
        if found[0].value is None:
            return self.say("nothing", why=found[0].why)
        said: dict[str, list[Measure]] = {"reads": [], "not": [], "cannot_tell": []}
        for measure in found:
            chance = 1.0 if measure.chance is None else measure.chance
            nothing = "not" if chance <= EVEN and measure.below(chance + MARGIN) else "cannot_tell"
            said["reads" if measure.above(measure.chance) else nothing].append(measure)
        verdicts = []
        for name, some in said.items():
            each = (f"the {m.name.split('_')[0]} ({m.value:.3f}, {m.chance:.3f} by chance)" for m in some)
            more = {
                "reads": {"classes": f"{len(about.classes):,} classes"},
                "cannot_tell": {"images": counted(found[0].n, "image")},
            }
            if some:
                verdicts.append(self.say(name, cues=" and ".join(each), **more.get(name, {})))
        return sum(verdicts, UNSAID)


UNKNOWN = "the originals of the images are not given"


def _sensitivities(rows: pl.DataFrame, about: About, why: str) -> Iterable[Measure]:
    """Mean reciprocal ranks S and T, each with what it would be were the labels dealt out among the images."""
    for cue in CUES:
        title, column = f"reciprocal rank of the label of the {cue}", f"{cue}_reciprocal"
        more: dict[str, Any] = {"title": title, "why": why, "headline": True, "per_image": column}
        more["chance"] = _chance(rows, cue, about) if rows.height else None
        measure = stats.mean(f"{cue}_sensitivity", rows[column], "probability", clusters=labels_of(rows), **more)
        yield replace(measure, clusters=clusters_of(rows))


def _chance(rows: pl.DataFrame, cue: str, about: About) -> float:
    """The mean of the reciprocal rank over all images and the labels of all images: over all permutations."""
    number = len(rows["reciprocal_ranks"][0])
    sixteen = about.space == IMAGENET and number == len(SIXTEEN)
    names = list(SIXTEEN) if sixteen else sorted(set(about.classes))
    every = rows["reciprocal_ranks"].list.to_array(number).to_numpy()
    mean = dict(zip(names, every.mean(0).tolist(), strict=True))
    return float(np.mean([mean[name] for name in rows[cue]]))


def _beside(rows: pl.DataFrame, why: str) -> Iterable[Measure]:
    for cue in CUES:
        more: dict[str, Any] = {"title": f"the label of the {cue} comes first of all classes", "why": why}
        yield stats.mean(f"{cue}_first", rows[f"{cue}_first"], "share", clusters=labels_of(rows), **more)
        title, median = f"median rank of the label of the {cue}", rows[f"{cue}_rank"].median()
        lacking = "the interval is that of the mean reciprocal rank" if rows.height else why
        yield Measure(f"{cue}_rank", median, "", rows.height, why=lacking, title=title)  # type: ignore[arg-type]
    both, title = rows["shape_reciprocal"] + rows["texture_reciprocal"], "shape's part of both sensitivities"
    more = {"clusters": labels_of(rows), "title": title, "why": why}
    yield stats.ratio("preference", rows["shape_reciprocal"], both, **more)


def _panels(rows: pl.DataFrame) -> Iterable[Panel]:
    for cue in CUES:
        parts = rows.partition_by(cue, as_dict=True)
        found = {str(key): parts[key,] for (key,) in sorted(parts)}
        dots = []
        for name, part in found.items():
            m = stats.mean(cue, part[f"{cue}_reciprocal"], "probability", clusters=labels_of(part))
            dots.append(dot(name, m.value, m.interval, m.n))
        if dots:
            caption = f"Mean of 1 / rank of the {cue}'s label among all classes; 1 where it always comes first."
            data = {"unit": "probability", "rows": dots, "marks": []}
            yield Panel(f"by_{cue}", "dots", f"Reciprocal rank by category of the {cue}", caption, data)


def _caveats(conflict: pl.DataFrame, judged: pl.DataFrame, counting: pl.DataFrame) -> tuple[str, ...]:
    if not conflict.height:
        return ()
    caveats = [
        "One class of 1,000 has 0.007 in a random order, a category of many classes more: chance is of these labels. "
        "Compare classifiers of the same classes only, and the two cues with care: each is as hard as these images are."
    ]
    if judged.height < conflict.height:
        caveats.append(
            f"Whether it recognizes the originals is not known of {counted(conflict.height - judged.height, 'image')}: "
            "give them with --cues, or leave misread ones out with `make cue-conflict --judges`."
        )
    if lost := conflict.height - counting.height:
        caveats.append(f"{counted(lost, 'image')} with an original that it does not recognize: left out.")
    caveats.append(SHARED if clusters_of(counting) else TOO_NARROW)
    return tuple(caveats)
