"""Does a change too small to see take the right answer away?"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Inset, Map, Measure, Panel
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.instruments.base import Instrument, Rows, by_id, typed, where_labeled
from cuescope.methods.attacks import KINDS, attacked

LOST = 0.5
"""Who loses surely more than this share of its right answers is not robust; who loses surely less is."""
NAMES = {"fgsm": "one step (FGSM)", "pgd": "many steps (PGD)"}
SHOWN = 4


@dataclass(frozen=True)
class Attack(Instrument, version=1, order=38, needs={"logits", "gradients", "label"}):
    """How much accuracy is left where each pixel may change by a budget, against the label and by the gradient?

    One step of the gradient's sign (FGSM), and many (PGD), on pixels in [0, 1] as the classifier sees them, after its
    resize and before its normalization; budgets are in 255ths. At a budget of 0 the images are as they are.

    >>> Attack(budgets=(0, 1, 4), images=50).steps
    20
    """

    images: int = 100
    """How many images to look at, spread over the folder."""
    budgets: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
    """By how much a pixel may change, in 255ths; the verdict is that of 1, or of the least one beyond 0."""
    steps: int = 20
    """Of PGD."""

    question = "Does a change too small to see take the right answer away?"
    reference = (
        "Goodfellow, Shlens and Szegedy 2015, Explaining and Harnessing Adversarial Examples (FGSM); Madry et al. "
        "2018, Towards Deep Learning Models Resistant to Adversarial Attacks (PGD)"
    )
    columns = {
        "id": pl.String,
        "label": pl.Int32,
        "clean": pl.Boolean,
        **typed(pl.List(pl.Boolean), "fgsm pgd"),
        "right": pl.Boolean,
    }
    sentences = {
        "nothing": Sentence(
            "cannot tell", "there is no labeled image, or no budget beyond 0", "Nothing is told: {why}."
        ),
        "never_right": Sentence(
            "cannot tell",
            "the interval of the accuracy without a change does not lie above chance",
            "It is right on {clean:.1%} of {n} images as they are, {chance:.1%} by chance: there is nothing to lose.",
        ),
        "breaks": Sentence(
            "yes",
            "at the budget of the verdict the whole interval of the right answers that are lost lies above LOST",
            "A change of {budget}/255 of each pixel takes {lost:.1%} of the right answers away: it is right on "
            "{right:.1%} of {n} images, {clean:.1%} as they are.",
            clause="loses {lost:.0%} of its right answers to a change of {budget}/255",
        ),
        "stands": Sentence(
            "no",
            "that interval lies below LOST",
            "A change of {budget}/255 of each pixel takes {lost:.1%} of the right answers away: it is right on "
            "{right:.1%} of {n} images, {clean:.1%} as they are.",
        ),
        "unsure": Sentence(
            "cannot tell",
            "that interval is neither",
            "A change of {budget}/255 of each pixel takes {lost:.1%} of the right answers away; whether most are lost "
            "cannot be said from {n} images.",
        ),
    }

    def __post_init__(self) -> None:
        if not self.budgets or min(self.budgets) < 0 or list(self.budgets) != sorted(set(self.budgets)):
            raise ValueError("budgets must be numbers from 0, in increasing order")
        if self.images < 1 or self.steps < 1:
            raise ValueError("images and steps must be at least 1")

    @property
    def asked(self) -> int:
        """Which of the budgets the verdict is of."""
        beyond = [i for i, budget in enumerate(self.budgets) if budget > 0]
        return next((i for i in beyond if self.budgets[i] == 1), beyond[0] if beyond else 0)

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image whether its label is the answer, as it is and at each budget, of either attack."""
        labels = batch.labels.clamp_min(0)
        found: dict[str, list[list[bool]]] = {kind: [] for kind in KINDS}
        for kind in KINDS:
            at = []
            for budget in self.budgets:
                changed = attacked(classifier, batch.pixels, labels, budget / 255, kind, self.steps)
                logits = classifier.logits(changed) if budget else batch.logits
                at.append((logits.argmax(1) == labels).tolist())
            found[kind] = [list(row) for row in zip(*at, strict=True)]
        clean = (batch.logits.argmax(1) == labels).tolist()
        rows = {"id": batch.ids, "label": where_labeled(batch, batch.labels), "clean": where_labeled(batch, clean)}
        rows |= {kind: where_labeled(batch, found[kind]) for kind in KINDS}
        # An image that either attack turns is not right.
        both = [all(one[self.asked] for one in pair) for pair in zip(*found.values(), strict=True)]
        return self.table(rows | {"right": where_labeled(batch, both)})

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        known = rows.drop_nulls("label")
        title, why = f"right answers under {self._named(self.asked)}", ""
        if not known.height or not self.budgets[self.asked]:
            why = "no image has a label" if not known.height else "no budget is beyond 0"
            none = Measure("right", None, "share", why=why, title=title, headline=True)
            return Conclusion((none,), verdict=self.say("nothing", why=why))
        clean = known["clean"].to_numpy()
        labels = known["label"].to_numpy()
        chance = float(np.bincount(labels).max() / len(labels))
        at = {kind: known[kind].explode().to_numpy().reshape(known.height, -1) for kind in KINDS}
        right = known["right"].to_numpy()
        more = {"title": title, "headline": True, "better": "higher", "per_image": "right"}
        main = stats.share("right", right, **more)  # type: ignore[arg-type]
        before = stats.share("clean", clean, title="right answers as it is", headline=True, chance=chance)
        lost = stats.share(
            "lost", ~right[clean], why="none is right", title="of the right answers, lost", better="lower"
        )
        each = list(self._each(at, right.shape[0]))
        curves = tuple(self._panels(at))
        caveats = (
            "An attack by gradients alone shows what can be lost, not what cannot: stronger ones take more.",
            f"Many steps are {self.steps}, from the image itself; of its steps the worst counts.",
        )
        return Conclusion((main, before, lost, *each), curves, self._verdict(main, before, lost), caveats)

    def _named(self, at: int) -> str:
        return f"a change of {self.budgets[at]:g}/255"

    def _each(self, at: Mapping[str, np.ndarray], n: int) -> Iterator[Measure]:
        for kind, right in at.items():
            for i, budget in enumerate(self.budgets):
                name = f"{kind}_{f'{budget:g}'.replace('.', '_')}"
                yield stats.share(
                    name, right[:, i], title=f"right under {self._named(i)}, {NAMES[kind]}", better="higher"
                )

    def _verdict(self, main: Measure, before: Measure, lost: Measure) -> Verdict:
        if not before.above(before.chance):
            return self.say("never_right", clean=before.value, n=before.n, chance=before.chance)
        how = {"budget": f"{self.budgets[self.asked]:g}", "lost": lost.value, "n": main.n}
        whole = how | {"right": main.value, "clean": before.value}
        if lost.above(LOST):
            return self.say("breaks", **whole)
        return self.say("stands", **whole) if lost.below(LOST) else self.say("unsure", **how)

    def _panels(self, at: Mapping[str, np.ndarray]) -> Iterator[Panel]:
        series, x = [], list(self.budgets)
        for kind, right in at.items():
            found = [stats.share(kind, right[:, i]) for i in range(len(x))]
            low, high = zip(*(m.interval or (m.value, m.value) for m in found), strict=True)
            y = [m.value for m in found]
            series.append({"name": NAMES[kind], "x": x, "y": y, "low": list(low), "high": list(high)})
        data = {"x": "change of a pixel, in 255ths", "y": "right answers", "series": series, "y_ends": [0, 1]}
        caption = "How often it is right where each pixel may change so much, against its label."
        yield Panel("by_budget", "lines", "Accuracy by budget", caption, data)

    def examples(self, rows: Rows) -> list[str]:
        """Some images that it was right on."""
        return rows.filter(pl.col("clean"))["id"].head(SHOWN).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        label_of, places = by_id(rows), {name: i for i, name in enumerate(batch.ids)}
        figures = []
        for name in (name for name in self.examples(rows) if name in places):
            one = batch.select([places[name]])
            label = one.labels.new_tensor([label_of[name]["label"]])
            changed = attacked(classifier, one.pixels, label, self.budgets[self.asked] / 255, "pgd", self.steps)
            said = classifier.classes.names[int(classifier.logits(changed)[0].argmax())]
            shown = Inset(f"changed: {said}", to_image(changed[0]))
            change = (changed - one.pixels)[0].mean(0).cpu() * 255
            over = Map("signed", change.round(decimals=2).tolist(), "change", "255ths", alone=True)
            caption = f"{classifier.classes.names[int(label)]}, changed by {self.budgets[self.asked]:g}/255"
            figures.append(Figure(caption, to_image(one.pixels[0]), maps=(over,), insets=(shown,)))
        if figures:
            yield Panel("changed", "images", "What the change looks like", "Many steps.", figures=tuple(figures))
