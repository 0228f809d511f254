"""Does a patch of another image, pasted anywhere, decide the answer?"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Measure, Panel, dot
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted, interval_text
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.occlude import Rectangle
from cuescope.instruments.base import Instrument, Observer, Rows, by_id, typed
from cuescope.methods.stickers import blank, pasted, top_squares

MARGIN = 0.1
"""A share of places that is surely below this is hardly any; two that surely differ by less are the same."""
KINDS = {"top": "its strongest patch", "random": "a random patch of it", "blank": "a patch of the mean color"}


@dataclass(frozen=True)
class Stickers(Instrument, version=1, order=205, needs={"logits", "another"}):
    """How often does a patch of another image take the answer to that image's class, wherever it is pasted?

    Of another image the square that speaks most for the answer to it is pasted at random places of an image with
    another answer. A classifier that adds up local signals says what the sticker says (source: the account of Brendel &
    Bethge 2019 of why stickers fool networks). Beside it, at the same places: a square from a random place of the same
    other image, and one of the mean color. The strongest square is the one with the most evidence where the head
    averages a map; for other networks the one that takes most evidence away when covered.

    >>> Stickers(side=0.15, places=8).images
    48
    """

    images: int = 48
    """How many images are looked at, spread evenly over the set."""
    side: float = 0.25
    """Side of a sticker, as a share of the input's shorter side."""
    places: int = 4
    """Random places in each image; the share of them counts."""
    seed: int = 0
    """Of the places."""
    shown: int = 4
    """Images to show with their sticker."""

    question = "Does a patch of another image decide the answer, wherever it is pasted?"
    reference = (
        "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models, and the authors' account of it; "
        "Brown et al. 2017, Adversarial patch"
    )
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "answer sticker"),
        "another": pl.String,
        **typed(pl.Float64, "top random blank gain"),
        **typed(pl.List(pl.Int32), "cut place"),
    }
    sentences = {
        "nothing": Sentence(
            "cannot tell",
            "no image has another one beside it with another answer",
            "No sticker was tried: no two images have different answers.",
        ),
        "hardly": Sentence(
            "no",
            f"the whole interval of the flips by the strongest patch lies below {MARGIN:.0%} of places",
            "Hardly any patch of another image decides: its strongest {px} px square takes the answer to its class at "
            "{top:.0%} of places ({interval}; {images}).",
        ),
        "chosen": Sentence(
            "yes",
            "there are surely more flips by the strongest patch than by a random one, and not surely hardly any",
            "A patch of another image can decide: its strongest {px} px square, pasted anywhere, takes the answer to "
            "its class at {top:.0%} of places ({interval}; {images}), a random square of it at {random:.0%}.",
        ),
        "any": Sentence(
            "yes",
            f"the flips by the strongest and by a random patch surely differ by less than {MARGIN:.0%} of places, and "
            "by a random one there are surely more than by a blank one",
            "Any patch of another image can decide: its strongest {px} px square takes the answer to its class at "
            "{top:.0%} of places ({interval}; {images}), a random square of it at {random:.0%}, a blank one at "
            "{blank:.0%}.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "none of the others is so",
            "Whether a patch of another image decides cannot be said from {images}: its strongest {px} px square takes "
            "the answer to its class at {top:.0%} of places, a random square of it at {random:.0%}.",
        ),
    }

    def __post_init__(self) -> None:
        if min(self.images, self.places) < 1 or not 0 < self.side <= 0.5 or self.shown < 0:
            raise ValueError("images and places must be at least 1, 0 < side <= 0.5, shown at least 0")

    def start(self, classifier: Classifier) -> Observer:
        """The facts: the side of a sticker in px ("side_px"), and by what its strongest square is found ("by")."""
        side_px = max(1, round(self.side * min(classifier.preprocessing.size)))
        local = classifier.dense is not None and classifier.dense.local
        by = "the logits of its patches" if local else "its class map" if classifier.dense else "covering squares"
        return Observer(partial(self._rows, classifier, side_px), facts={"side_px": side_px, "by": by})

    def _rows(self, classifier: Classifier, side_px: int, batch: Batch) -> Rows:
        """Per image: at what share of places it is taken for the sticker's class."""
        answers = batch.logits.argmax(1).tolist()
        rows: list[dict[str, Any]] = [{"id": s.id, "answer": k} for s, k in zip(batch.samples, answers, strict=True)]
        with_one = [(i, s.another) for i, s in enumerate(batch.samples) if s.another is not None]
        others = classifier.prepare([other for _, other in with_one])
        said = classifier.logits(others).argmax(1).tolist()
        tried = [at for at, (i, _) in enumerate(with_one) if said[at] != answers[i]]
        stickers = top_squares(classifier, others[tried], [said[at] for at in tried], side_px) if tried else []
        for at, best in zip(tried, stickers, strict=True):
            i, other = with_one[at]
            rows[i] |= {"sticker": said[at], "another": other.id, "cut": list(best)}
            rows[i] |= self._flips(classifier, batch, i, others[at], best, said[at])
        return pl.DataFrame(rows, schema=dict(self.columns))

    def _flips(
        self, classifier: Classifier, batch: Batch, i: int, other: torch.Tensor, best: Rectangle, target: int
    ) -> Mapping[str, Any]:
        random = np.random.default_rng([self.seed, zlib.crc32(batch.ids[i].encode())])
        height, width = other.shape[1:]
        side = best.bottom - best.top

        def anywhere() -> Rectangle:
            top, left = (int(random.integers(0, length - side + 1)) for length in (height, width))
            return Rectangle(top, left, top + side, left + side)

        places, drawn = [anywhere() for _ in range(self.places)], anywhere()
        cuts = [other[:, r.top : r.bottom, r.left : r.right] for r in (best, drawn)]
        stickers = [*cuts, blank(cuts[0], classifier.preprocessing.mean)]
        seen = torch.cat([pasted(batch.pixels[i], places, sticker) for sticker in stickers])
        taken = (classifier.logits(seen).argmax(1) == target).view(3, -1).double().mean(1).tolist()
        return {**dict(zip(KINDS, taken, strict=True)), "gain": taken[0] - taken[1], "place": list(places[0])}

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        known = rows.drop_nulls("top")
        more: dict[str, Any] = {"why": "no image has another one beside it with another answer"}
        # Images that get a patch of the same other image are not independent.
        more |= {"clusters": [known["another"]]} if known.height else {}
        shares = {
            kind: stats.mean_share(kind, known[kind], title=f"places where {what} flips the answer", **more)
            for kind, what in KINDS.items()
        }
        top = replace(shares["top"], per_image="top", headline=True, clusters=("another",))
        title = "the same, beyond a random patch"
        gain = stats.difference("gain", known["top"], known["random"], title=title, per_image="gain", **more)
        title = "a random patch, beyond a blank one"
        beyond = stats.difference("beyond_blank", known["random"], known["blank"], title=title, **more)
        caveats = [f"The strongest square is found by {about.facts['by']}."] if rows.height else []
        if same := rows.height - known.height:
            caveats.append(f"{counted(same, 'image')} left out: the other image has the same answer.")
        measures = (top, shares["random"], shares["blank"], gain, beyond)
        if not known.height:
            return Conclusion(measures, (), self.say("nothing"), tuple(caveats))
        data = {"unit": "share", "rows": [dot(KINDS[k], m.value, m.interval, m.n) for k, m in shares.items()]}
        caption = "At what share of random places the answer becomes that of the image that the sticker is cut out of."
        panel = Panel("flips", "dots", "What a sticker does", caption, data)
        verdict = self._verdict(about.facts["side_px"], shares, gain, beyond)
        return Conclusion(measures, (panel,), verdict, tuple(caveats))

    def _verdict(self, px: int, shares: Mapping[str, Measure], gain: Measure, beyond: Measure) -> Verdict:
        top, random = shares["top"], shares["random"]
        values = {"px": px, "top": top.value, "images": counted(top.n, "image")}
        if top.below(MARGIN):
            return self.say("hardly", **values, interval=interval_text(top))
        values |= {"random": random.value}
        if gain.above(0):
            return self.say("chosen", **values, interval=interval_text(top))
        if gain.within(-MARGIN, MARGIN) and beyond.above(0):
            return self.say("any", **values, blank=shares["blank"].value, interval=interval_text(top))
        return self.say("cannot_tell", **values)

    def examples(self, rows: Rows) -> list[str]:
        """The images that the sticker takes at most places, each with the image that it is cut out of."""
        known = rows.drop_nulls("top").sort("top", "id", descending=[True, False])
        return list(dict.fromkeys(i for pair in known.head(self.shown).select("id", "another").rows() for i in pair))

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        row_of, names, figures = by_id(rows), classifier.classes.names, []
        pixels = dict(zip(batch.ids, batch.pixels, strict=True))
        for name in batch.ids:
            row = row_of[name]
            if row["top"] is None or row["another"] not in pixels:
                continue
            cut, place = Rectangle(*row["cut"]), Rectangle(*row["place"])
            sticker = pixels[row["another"]][:, cut.top : cut.bottom, cut.left : cut.right]
            seen = pasted(pixels[name], [place], sticker)
            says = names[int(classifier.logits(seen).argmax())]
            figures.append(
                Figure(f"{names[row['answer']]}, with a patch of {names[row['sticker']]}: {says}", to_image(seen[0]))
            )
        caption = "Each image with the strongest patch of another at one of the places, and what the classifier says."
        yield Panel("stickers", "images", "Images with a sticker", caption, figures=tuple(figures[: self.shown]))
