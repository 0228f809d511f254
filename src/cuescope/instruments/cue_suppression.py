"""What is left of its accuracy when one cue is taken away?"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from cuescope.classifier.classifier import Classifier
from cuescope.core import published as known
from cuescope.core import stats
from cuescope.core.chance import agreement_by_chance
from cuescope.core.classes import IMAGENET, SIXTEEN
from cuescope.core.findings import About, Conclusion, Look, Measure, Panel
from cuescope.core.published import suppression as others
from cuescope.core.verdicts import UNSAID, Headline, Sentence, Verdict
from cuescope.core.wording import counted, listed
from cuescope.data.images import Batch
from cuescope.data.ops.suppression import Change
from cuescope.data.ops.tilings import Rule
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, frames, said, typed
from cuescope.methods.suppressed import CONTROLS, CUES, Decision, Frame, Levels, Suppression
from cuescope.methods.suppressed_panels import TITLES, WITHOUT, by_cue, curves, shown, views

MARGIN = 0.1
"""Of what it knows above chance: who surely loses less than this does without the cue; who keeps less has lost all."""
TEXTURE_LEFT = 0.75
"""A filter that leaves more than this of the texture of images has not taken it away."""
CUTS, SEAMS = 0.25, 0.5
"""Cuts, and seams between tiles that do not belong together, cost something without any use of shape. To speak of
shape, cuts cost surely less than CUTS of what is lost, and surely less than SEAMS of what it knows is left."""
CHROMA = 2 / 255
"""An image whose channels are, on average, no farther than this from their mean has no color."""
SHOWN = 3
NOTHING = "no image has a label"
Found = Mapping[str, Measure]


@dataclass(frozen=True)
class CueSuppression(Instrument, version=1, order=35, needs={"logits", "label"}):
    """Accuracy with one cue taken away at a time, over that on the same images as they are (Burgert et al. 2025).

    Global and local shape go when tiles of the image trade places (3 x 3 and 6 x 6), texture under a bilateral filter,
    which keeps edges, color in gray. The clean accuracy is of the same frame, so framing takes no part in it. Curves
    over strength and other transforms of the same cues stand beside: one transform at one strength settles no ranking.

    >>> CueSuppression(rule="full").window_px
    12
    """

    images: int = 256
    """Number of images, spread over the set."""
    levels: Levels = "some"
    """Views of each image: cues and controls alone (named, 10), points of curves too (some, 15), all published (39)."""
    rule: Rule = "published"
    """published: only tiles of equal size trade places (at 224 px 4 of 3 x 3 stay on average); full: all do."""
    frame: Frame = "own"
    """own: as the classifier frames images; squash: resized to its input without a crop, as in the paper."""
    decision: Decision = "own"
    """own: top-1 of its classes; sixteen: the paper's, for ImageNet: a category's summed probability is above .5."""
    window_px: int = 12
    """Window d of the bilateral filter in px of 224: it reaches d // 2 px, and at least one of the input's."""
    sigma_color: float = 170.0
    """Deviation of the filter's color weight in levels of 255: the larger, the stronger the texture that it smooths."""
    seed: int = 0
    """Of chance. Each image has its own, of this, what is done to it and its name."""

    question = "What does it lose when one cue is taken away?"
    headline = Headline(
        "Is it worse without texture?",
        "kept_texture",
        "accuracy kept when texture is smoothed",
        "loses all",
        "keeps all",
    )
    reference = "Burgert, Stoll, Rota & Demir 2025, ImageNet-trained CNNs are not biased towards texture, section 3"
    animates = True
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label predicted"),
        "clean": pl.Boolean,
        "right": pl.List(pl.Boolean),
        **typed(pl.Float64, " ".join(f"lost_{cue}" for cue in CUES) + " texture_left chroma"),
    }
    sentences = {
        "nothing": Sentence("cannot tell", "no image has a label", "No image has a label, so nothing was measured."),
        "unknown": Sentence(
            "cannot tell",
            "the interval of the clean accuracy does not lie above chance, or there is none",
            "It is right about {clean:.1%} of {images} as they are, not surely more than by chance: what it loses "
            "without a cue cannot be said.",
        ),
        "fragile": Sentence(
            "cannot tell",
            "under noise that takes no cue away the interval of what is left lies below 1, and not above 1 - MARGIN",
            "Slight noise, which takes no cue away, costs it {noise:.1f} points of accuracy: what it loses under "
            "stronger changes says nothing about cues.",
        ),
        "all": Sentence(
            "yes",
            "the whole interval of what is left above chance lies below MARGIN; of shape as for relies",
            "Of what it knows hardly anything is left without {losses}.",
            clause="fails without {cues}",
        ),
        "relies": Sentence(
            "yes",
            "the interval of what is left lies below 1, not above 1 - MARGIN, and not below MARGIN; of shape besides "
            "below SEAMS, and surely less than CUTS of the loss comes with cuts alone",
            "It relies on {losses}.",
            clause="loses accuracy without {cues}",
        ),
        "cuts": Sentence(
            "cannot tell",
            "what is left without shape lies below 1, not above 1 - MARGIN; and its interval is not below SEAMS, or "
            "that of the part of the loss that cuts alone cost not below CUTS",
            "Accuracy falls without {losses}, but cutting tiles that hardly move costs {parts} of that, and seams "
            "between others may cost more: whether it needs shape cannot be said.",
        ),
        "does_without": Sentence(
            "no",
            "the whole interval of what is left lies above 1 - MARGIN, and the cue was taken away: surely less than "
            "TEXTURE_LEFT of the texture is left, and surely more than half of the images have color",
            "It does not need {losses}: it surely keeps more than {most:.0%} of what it knows.",
            clause="does not need {cues}",
        ),
        "not_taken": Sentence(
            "cannot tell",
            "what is left lies above 1 - MARGIN, but the texture or the color was not surely taken away",
            "Nothing can be said of {reasons}.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "the interval of what is left holds 1 and reaches below 1 - MARGIN, or there is none",
            "Whether it needs {losses} cannot be said from {images}.",
            "Look at more images.",
            "cuescope audit {models} --images {images} --only cue_suppression "
            "--set cue_suppression.images=1000 --out more",
        ),
    }

    def __post_init__(self) -> None:
        if min(self.images, self.window_px) < 1 or self.sigma_color <= 0:
            raise ValueError("images and window_px must be at least 1, sigma_color above 0")

    @property
    def how(self) -> Suppression:
        """The same parameters, but for the number of images."""
        return Suppression(**{key: value for key, value in asdict(self).items() if key != "images"})

    def start(self, classifier: Classifier) -> Observer:
        """Raises Misfit where the input is too small for the tiles, and for the paper's decision in other classes."""
        side, grid = min(classifier.preprocessing.size), self.how.most_tiles
        if side < 2 * grid:
            raise Misfit(f"its input of {side} px is too small for {grid} tiles along a side")
        if self.decision == "sixteen" and classifier.classes.name != IMAGENET:
            raise Misfit("the paper's decision is among classes of ImageNet, and its classes are others")
        return super().start(classifier)

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per labeled image: whether it is right as it is and under each change, and what is left of its texture."""
        found = self.how.answers(classifier, batch)
        if found is None:
            return self.empty
        columns: dict[str, Any] = found._asdict() | {"right": found.right.tolist()}
        for k, cue in enumerate(CUES):
            columns[f"lost_{cue}"] = found.clean.astype(float) - found.right[:, k]
        return self.table(columns).with_columns(pl.col("texture_left").fill_nan(None))

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        found = {measure.name: measure for measure in self._measures(rows, about)}
        panels = (*by_cue(found), *curves(self._right(rows), found["clean"])) if rows.height else ()
        return Conclusion(tuple(found.values()), panels, self._verdict(found), tuple(self._caveats(about)))

    def _right(self, rows: Rows) -> dict[Change, NDArray[np.float64]]:
        """(images,) of 1 for a right answer, by change."""
        changes = self.how.changes
        table = np.array(rows["right"].to_list(), float).reshape(rows.height, len(changes))
        return dict(zip(changes, table.T, strict=True))

    def _measures(self, rows: Rows, about: About) -> Iterator[Measure]:
        """Of each cue what is left of the accuracy without it; the same of controls; whether cues were taken away."""
        chance, clean = self._chance(rows, about), rows["clean"].to_numpy().astype(float)
        title = "accuracy on the images as they are, in the same frame"
        yield (whole := stats.share("clean", clean, title=title, why=NOTHING, chance=chance))
        above = whole.value is not None and whole.value > chance
        why = "its accuracy on the images as they are is not above chance" if rows.height else NOTHING
        right, named = self._right(rows), self.how.named | CONTROLS
        for name, change in named.items():
            after = right[change]
            cue, title = name in CUES, WITHOUT[name] if name in CONTROLS else f"without {WITHOUT[name]}"
            kept: dict[str, Any] = {"title": f"accuracy kept {title}", "headline": cue, "why": why}
            if above and self._published(name, about):
                values = {who: by_cue[name] for who, by_cue in others.KEPT.items()}
                kept["published"] = known.listed(values, others.SOURCE)
            yield stats.kept(f"kept_{name}", after * above, clean * above, **kept)
            if cue or name == "noise":
                more: dict[str, Any] = {"title": f"accuracy lost {title}", "per_image": f"lost_{name}" if cue else ""}
                yield stats.difference(f"lost_{name}", clean, after, why=NOTHING, **more)
                left: dict[str, Any] = {"title": f"of what it knows above chance, left {title}", "why": why}
                yield stats.kept(f"left_{name}", after * above, clean * above, (chance * above, chance * above), **left)
            if name.endswith("shape"):
                cut = right[CONTROLS[name.replace("shape", "cuts")]]
                part: dict[str, Any] = {"title": f"part of the loss {title} that cuts alone cost", "why": why}
                yield stats.ratio(f"cuts_{name}", (clean - cut) * above, (clean - after) * above, **part)
        known_of, title = rows["texture_left"].drop_nulls(), "texture that smoothing leaves in these images"
        beside = self._published("texture", about) and len(known_of) > 0
        reference = {"800 photographs under a filter of d = 11": others.TEXTURE_LEFT} if beside else {}
        why, published = "no image has fine structure", known.listed(reference, others.SOURCE)
        yield stats.mean("texture_left", known_of, why=why, title=title, published=published)
        yield stats.share("colored", rows["chroma"] > CHROMA, title="images that have color", why=NOTHING)

    def _published(self, name: str, about: About) -> bool:
        """Whether published values are of this condition."""
        same = {"texture": (self.window_px, self.sigma_color) == (12, 170), "color": True}
        return about.space == IMAGENET and name in CUES and same.get(name, self.rule == "published")

    def _chance(self, rows: Rows, about: About) -> float:
        """How often its answers would be right if they were dealt out to the images at random, at least 1 / classes."""
        count = len(SIXTEEN) if self.decision == "sixteen" else max(1, len(about.classes))
        return max(1 / count, agreement_by_chance(rows["label"], rows["predicted"]) or 0.0)

    def _verdict(self, found: Found) -> Verdict:
        clean, noise = found["clean"], found["left_noise"]
        if clean.value is None:
            return self.say("nothing")
        images = counted(clean.n, "image")
        if not clean.above(clean.chance):
            return self.say("unknown", clean=clean.value, images=images)
        if noise.below(1) and not noise.above(1 - MARGIN):
            return self.say("fragile", noise=100 * (found["lost_noise"].value or 0.0))
        said: dict[str, list[str]] = {}
        for cue in CUES:
            said.setdefault(_outcome(cue, found), []).append(cue)
        # Texture comes first: the verdict says yes or no to the headline question, which is about texture.
        order = sorted((name for name in self.sentences if name in said), key=lambda name: "texture" not in said[name])
        verdicts = [self.say(name, **_told(name, said[name], found, images)) for name in order]
        return sum(verdicts, UNSAID)

    def _caveats(self, about: About) -> Iterator[str]:
        where = "as the classifier itself frames them" if self.frame == "own" else "squashed to its input, as published"
        yield f"All accuracies are of images {where}; the paper squashes images to 224 px without a crop."
        tiles = "of equal size in pixels, as published, so that at 224 px 4 of 3 x 3 stay in place on average"
        tiles = tiles if self.rule == "published" else "all, cut to the size of the smallest"
        yield f"Tiles that trade places: {tiles}. Strengths are in px of 224 and reach as large a share of the input."
        yield (
            "A change also leaves seams or blur, which cost something by themselves; smoothing weakens contours too. "
            "Compare cues along their curves: how they rank depends on the transform and its strength."
        )
        if about.space == IMAGENET and self.decision == "own":
            yield "Published values are of 16 categories and of other photographs; here it is top-1 of 1,000 classes."

        if self.decision == "sixteen":
            yield "Right is a probability above .5: that depends on the temperature of the logits, as top-1 does not."

    def examples(self, rows: Rows) -> list[str]:
        """A few images that it is right about, those first that lose it without some cue but not without each."""
        lost = pl.sum_horizontal(f"lost_{cue}" for cue in CUES)
        return rows.filter("clean").sort((lost - 2).abs(), "id")["id"].head(SHOWN).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        yield shown(self.how, classifier, batch)

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        seen = views(self.how, classifier, batch)
        first, *without = frames(classifier, torch.cat([*seen.values()]).float() / 255, seen)
        changed = [f"{frame.caption}: {said(frame)}" for frame in without if frame.answer != first.answer]
        same = [frame.caption.removeprefix("without ") for frame in without if frame.answer == first.answer]
        text = f"It says {said(first)}"
        text += f"; {', '.join(changed)}" if changed else ""
        text += f"; the answer stays without {listed(same)}" if same else ""
        return Look(f"{text}.", frames=(first, *without))


def _outcome(cue: str, found: Found) -> str:
    """The name of the sentence that may be said of a cue."""
    left = found[f"left_{cue}"]
    if left.above(1 - MARGIN):
        taken = {"texture": found["texture_left"].below(TEXTURE_LEFT), "color": found["colored"].above(0.5)}
        return "does_without" if taken.get(cue, True) else "not_taken"
    if left.below(1):
        if cue.endswith("shape") and not (found[f"cuts_{cue}"].below(CUTS) and left.below(SEAMS)):
            return "cuts"
        return "all" if left.below(MARGIN) else "relies"
    return "cannot_tell"


def _told(name: str, cues: list[str], found: Found, images: str) -> dict[str, Any]:
    """What is put into a sentence about some cues."""
    if name == "not_taken":
        left = found["texture_left"].value
        why = {"texture": f"the filter leaves {'too much' if left is None else f'{left:.0%}'} of it in these images"}
        why["color"] = f"{found['colored'].value or 0:.0%} of these images have any"
        return {"reasons": listed(f"{cue} ({why[cue]})" for cue in cues)}
    clean, losses = f"{100 * (found['clean'].value or 0):.1f} points", []
    for cue in cues:
        lost = 100 * (found[f"lost_{cue}"].value or 0)
        losses.append(f"{TITLES[cue]} ({'loses' if lost >= 0 else 'gains'} {abs(lost):.1f} of {clean})")
    more: dict[str, Any] = {"cannot_tell": {"images": images}, "does_without": {"most": 1 - MARGIN}}
    if name == "cuts":
        more["cuts"] = {"parts": listed(f"{found[f'cuts_{cue}'].value or 0:.0%}" for cue in cues)}
    if name in ("all", "relies", "does_without"):
        without = listed(TITLES[cue] for cue in cues)
        more.setdefault(name, {})["cues"] = without.replace(" and ", " or ") if name == "does_without" else without
    return {"losses": listed(losses)} | more.get(name, {})
