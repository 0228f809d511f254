"""Which visual words does it read, and for which class does each speak?"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Look, Map, Measure, Panel, Unit
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted, interval_text
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.instruments.base import Instrument, Observer, Rows, answer, typed
from cuescope.methods.relative_logits import relative

EXAMPLES = 12
"""Images whose patches are shown, and patches of a word."""
SILENT = 1e-6
"""A word whose logits differ by less than this share of the largest speaks for no class."""
MAPPED, TINT = 8, 0.7
"""The strongest words of one image that have a color each, and how strongly it is laid on."""
PATCH_PX = 48
"""Side of a patch as it is shown, at least; gaps between them are 4 px."""


@dataclass(frozen=True)
class VisualWords(Instrument, version=3, order=210, needs={"words", "patch_logits"}):
    """The words that a bag of visual words sorts patches into, and what each says for the class of the image.

    A word's evidence is the logit that its patches give the class (the label where it is known, else the answer),
    less the mean over all classes; times the share of the patches that are this word, it is the word's part of the
    answer. Entropy says how many words an image consists of: ln n where n words are equally frequent. How much of the
    evidence the strongest words hold stands beside what they would hold if all that speak for the class said the same.

    >>> VisualWords(top=5).top
    5
    """

    images: int = 128
    """Images to look at, spread evenly over the set."""
    top: int = 10
    """The strongest words of an image whose part of all evidence for its class is stated."""
    shown: int = 6
    """Words to show the patches of."""

    question = "Which visual words does it read, and for which class does each speak?"
    reference = "Csurka et al. 2004, Visual categorization with bags of keypoints; Sivic & Zisserman 2003, Video Google"
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "target patches"),
        **typed(pl.List(pl.Int32), "words counts speaks_for"),
        "evidence": pl.List(pl.Float32),
        **typed(pl.Float64, "entropy sum top_part even_part"),
    }
    sentences = {
        "nothing": Sentence("cannot tell", "no image was seen", "No image was seen, so no word was read."),
        "consists": Sentence(
            "yes",
            "images were seen",
            "An image consists of {kinds:.0f} different words (median of {images}), as varied as {even:.0f} equally "
            "frequent ones.",
        ),
        "strongest": Sentence(
            "yes",
            "some image has words with evidence for its class",
            "Its {top} strongest hold {part:.0%} of the evidence for its class ({interval}); if all that speak for it "
            "said the same, they would hold {alike:.0%}.",
        ),
        "silent": Sentence(
            "no", "no word of any image has evidence for its class", "No word speaks for the class of its image."
        ),
        "occur": Sentence(
            "yes", "the size of the codebook is known", "Of {vocabulary:,} words {count:,} occur in these images."
        ),
    }

    def __post_init__(self) -> None:
        if min(self.images, self.top, self.shown) < 1:
            raise ValueError("images, top and shown must be at least 1")

    def start(self, classifier: Classifier) -> Observer:
        """The fact: how many words there are ("vocabulary"), None where the network does not say."""
        vocabulary = getattr(classifier.network, "vocabulary", None)
        return Observer(partial(self.observe, classifier), facts={"vocabulary": vocabulary})

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: its words, how often each occurs, its evidence, the class it speaks for."""
        words, logits = classifier.words(batch.pixels), classifier.patch_logits(batch.pixels)
        targets = torch.where(batch.labels >= 0, batch.labels, batch.logits.argmax(1)).tolist()
        images = zip(batch.ids, targets, words, logits, strict=True)
        rows = [{"id": name, "target": k, **self._read(found, maps, k)} for name, k, found, maps in images]
        return pl.DataFrame(rows, schema=dict(self.columns))

    def _read(self, words: Tensor, logits: Tensor, target: int) -> dict[str, Any]:
        """What one image says: its words (h, w) and the logits of its patches (K, h, w)."""
        found, which, counts = words.flatten().unique(return_inverse=True, return_counts=True)
        says = torch.zeros(len(found), len(logits)).index_add_(0, which, logits.flatten(1).T) / counts[:, None]
        evidence, share = relative(says)[:, target], counts.double() / len(which)
        parts = (evidence * counts / len(which)).double()
        spread = says.max(1).values - says.min(1).values
        silent = spread <= SILENT * says.abs().max()
        parts = parts.where(~silent, 0)
        positive = parts.clamp(min=0).sort(descending=True).values
        return {
            "patches": len(which),
            "words": found.tolist(),
            "counts": counts.tolist(),
            "evidence": evidence.tolist(),
            "speaks_for": [None if mute else k for k, mute in zip(says.argmax(1).tolist(), silent, strict=True)],
            "entropy": float(-(share * share.log()).sum()),
            "sum": float(parts.sum()),
            "top_part": float(positive[: self.top].sum() / positive.sum()) if positive.sum() > 0 else None,
            "even_part": min(1.0, self.top / int((positive > 0).sum())) if positive.sum() > 0 else None,
        }

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        table = _by_word(rows)
        title = f"evidence for its class that an image's {self.top} strongest words hold"
        beside = rows["even_part"].drop_nulls().to_numpy()
        chance: dict[str, Any] = {"chance": float(beside.mean())} if len(beside) else {}
        top = _mean("top_words", rows, "top_part", title=title, headline=True, **chance)
        entropy = _mean("entropy", rows, "entropy", "nats", title="entropy of the words of an image")
        used = _used(table, about.facts["vocabulary"])
        caveats = ("A word speaks by being counted: where in the image it stands plays no part.",)
        if not rows.height:
            return Conclusion((top, used, entropy), (), self.say("nothing"), caveats)
        panel = _classes_panel(table, rows, about.classes)
        return Conclusion((top, used, entropy), (panel,), self._verdict(rows, top, used), caveats)

    def _verdict(self, rows: Rows, top: Measure, used: Measure) -> Verdict:
        kinds, entropy = (float(np.median(rows["words"].list.len())), float(rows["entropy"].to_numpy().mean()))
        images = counted(rows.height, "image")
        verdict = self.say("consists", kinds=kinds, images=images, even=math.exp(entropy))
        if top.value is None:
            verdict += self.say("silent")
        else:
            values = {"part": top.value, "interval": interval_text(top), "alike": top.chance}
            verdict += self.say("strongest", top=self.top, **values)
        return verdict if used.value is None else verdict + self.say("occur", vocabulary=used.n, count=used.count)

    def examples(self, rows: Rows) -> list[str]:
        """Of each class the images that its words speak for most, a dozen in all."""
        each = max(1, EXAMPLES // max(1, rows["target"].n_unique()))
        ranked = rows.sort("sum", descending=True, maintain_order=True).group_by("target", maintain_order=True)
        return ranked.head(each)["id"].head(EXAMPLES).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        """The strongest words of the examples, each as a row of the patches that are this word."""
        words, (side, stride), figures = classifier.words(batch.pixels), classifier.patch_geometry, []
        by_word = _by_word(rows).group_by("word", maintain_order=True)
        sums = by_word.agg(pl.sum("part", "count"), pl.col("speaks_for").mode().first(), n=pl.len())
        for row in (
            sums.filter(pl.col("part") > 0)
            .sort("part", "word", descending=[True, False])
            .head(self.shown)
            .iter_rows(named=True)
        ):
            corners = [(b, i * stride, j * stride) for b, i, j in _places(words == row["word"], EXAMPLES)]
            patches = [batch.pixels[b, :, top : top + side, left : left + side] for b, top, left in corners]
            name = classifier.classes.names[row["speaks_for"]]
            caption = f"word {row['word']}, for {name}: {row['count']} patches in {row['n']} of {len(batch)} images"
            figures.append(Figure(caption, _strip(patches)))
        caption = "Each row is a word: patches that count as the same."
        yield Panel("visual_words", "images", "The strongest visual words", caption, figures=tuple(figures))

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        row, dense, words = rows.row(0, named=True), classifier.dense, classifier.words(batch.pixels)[0]
        assert dense is not None
        shape, name = tuple(words.shape), classifier.classes.names[row["target"]]
        parts = _by_word(rows).filter(pl.col("part") > 0).sort("part", "word", descending=[True, False])
        strongest = parts["word"].head(MAPPED).to_list()
        says, code = (
            dict(zip(row["words"], row["evidence"], strict=True)),
            {word: k for k, word in enumerate(strongest)},
        )
        extent, read = dense.place(shape, batch.pixels.shape[2:]).extent, words.tolist()
        evidence = [[round(says[word], 4) for word in line] for line in read]
        codes: list[list[int | float | None]] = [[code.get(word) for word in line] for line in read]
        legend = tuple(f"word {word} ({says[word]:+.2f})" for word in strongest)
        strength = np.full(shape, TINT).tolist()
        maps = [Map("signed", evidence, f"what each word says for {name} (logits)", extent=extent)]
        if strongest:
            what = f"its {len(strongest)} strongest words (logits)"
            maps.append(Map("labels", codes, what, legend=legend, extent=extent, strength=strength))
        said = f"It says {answer(classifier, batch.logits[0])}, and reads {len(row['words'])} different words"
        if row["top_part"] is not None:
            said += f", of which the {self.top} strongest hold {row['top_part']:.0%} of the evidence for {name}"
        figure = Figure("", to_image(batch.pixels[0]), maps=tuple(maps))
        return Look(f"{said}.", (Panel("words", "images", "", figures=(figure,)),))


def _by_word(rows: Rows) -> pl.DataFrame:
    """A row for each word of each image; `part` is the word's part of the image's evidence."""
    lists = ["words", "counts", "evidence", "speaks_for"]
    table = rows.select("id", "target", "patches", *lists).explode(lists).rename({"words": "word", "counts": "count"})
    return table.with_columns(part=pl.col("evidence") * pl.col("count") / pl.col("patches"))


def _mean(name: str, rows: Rows, column: str, unit: Unit = "share", **more: Any) -> Measure:
    values = rows[column].drop_nulls()
    if not len(values):
        why = "no word speaks for the class of its image" if rows.height else "no image was seen"
        return Measure(name, None, unit, why=why, per_image=column, **more)
    return stats.mean(name, values, unit, per_image=column, **more)


def _used(table: pl.DataFrame, vocabulary: int | None) -> Measure:
    """The share of all words that occur: the whole of these images is counted, so that it has no interval."""
    name, title = "words_in_use", "words of the codebook that occur in these images"
    why = "the network does not say how many words it has" if table.height else "no image was seen"
    if not vocabulary or not table.height:
        return Measure(name, None, "share", title=title, why=why)
    count = table["word"].n_unique()
    return Measure(name, count / vocabulary, "share", vocabulary, title=title, count=count)


def _classes_panel(table: pl.DataFrame, rows: Rows, names: tuple[str, ...]) -> Panel:
    """For each class the words that are most of its evidence, over the images of the class."""
    images = rows.group_by("target").len().sort("len", "target", descending=[True, False]).head(24).sort("target")
    sums = table.group_by("target", "word").agg(pl.sum("part", "count"), pl.mean("evidence"))
    patches, cells = dict(rows.group_by("target").agg(pl.sum("patches")).iter_rows()), []
    for k, n in images.iter_rows():
        best = sums.filter((pl.col("target") == k) & (pl.col("part") > 0)).sort(
            "part", "word", descending=[True, False]
        )
        each = best.select("word", "evidence", "count").head(3).iter_rows()
        strongest = [f"word {w}: {evidence:+.1f} in {count / patches[k]:.1%} of patches" for w, evidence, count in each]
        cells.append([names[k], n, *strongest, *[""] * (3 - len(strongest))])
    caption = "In logits that a patch of the word would give by itself, against the mean over all classes."
    data = {"columns": ["class", "images", "strongest word", "second", "third"], "rows": cells}
    return Panel("words_of_classes", "table", "What speaks for each class", caption, data)


def _places(here: Tensor, most: int) -> list[tuple[int, int, int]]:
    """(image, row, column) of at most so many places: the first of each image, then the second of each, and so on."""
    seen, ranked = Counter[int](), []
    for image, i, j in here.nonzero().tolist():
        ranked.append((seen[image], image, i, j))
        seen[image] += 1
    return [(image, i, j) for _, image, i, j in sorted(ranked)[:most]]


def _strip(patches: list[Tensor]) -> np.ndarray[Any, Any]:
    """(H, W, 3) uint8: patches side by side on white, each pixel as a square; of any number of them as wide."""
    scale = -(-PATCH_PX // patches[0].shape[-1])
    large = [to_image(F.interpolate(p[None].float(), scale_factor=scale, mode="nearest")[0]) for p in patches]
    row = np.concatenate([np.pad(p, ((0, 0), (0, 4), (0, 0)), constant_values=255) for p in large], 1)
    room = EXAMPLES * (large[0].shape[1] + 4) - row.shape[1]
    return np.pad(row, ((0, 0), (0, room), (0, 0)), constant_values=255)
