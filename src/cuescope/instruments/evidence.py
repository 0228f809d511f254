"""Which patches of the image add up to the answer?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Finding, Look, Map, Measure, Panel
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted, interval_text
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.data.preprocessing import objects_in
from cuescope.instruments.base import Instrument, Observer, Rows, answer, by_id, typed
from cuescope.methods.relative_logits import relative
from cuescope.network.place import Place

MARGIN = 0.05
"""A pointing game that is surely won by less than this more often than by chance is won by chance."""
MOST_SHOWN = 4
CAM = "Zhou et al. 2016, Learning deep features for discriminative localization, section 2"


@dataclass(frozen=True)
class Evidence(Instrument, version=4, order=150, needs={"dense_logits"}):
    """The map of class evidence: the class logit of each position of the last map, laid over the image.

    For a BagNet it is exact: position (i, j) holds the logit that the patch of q x q pixels starting at (stride i,
    stride j) gives by itself, and the mean of the map is the logit of the whole image (Brendel & Bethge 2019,
    section 2). For any other network that pools globally it is its class activation map (Zhou et al. 2016), whose
    positions have seen far more than their place. Where a map should add up to the logit, that is checked on every
    call. The class is the label where it is known, else the answer. Evidence for it is its logit less the mean over all
    classes, so that what is added to all logits of a patch, its brightness perhaps, counts for no class.

    >>> Evidence(images=4).images
    4
    """

    images: int = 128
    """Images to look at, spread evenly over the set."""
    top_share: float = 0.1
    """The strongest positions whose part of all positive evidence is stated, as a share of the positions."""
    raw: bool = False
    """Whether the map is of the class logit as it is, as in the paper, not against the mean of all classes."""
    display: int = 4
    """Images shown also with the display heatmap, the map at stride 1; for BagNets only."""

    question = "Which patches add up to the answer?"
    reference = "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models, section 2"
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "target predicted height width"),
        **typed(pl.Boolean, "is_label hit"),
        **typed(pl.Float64, "logit gap top_part by_chance beyond_chance"),
        **typed(pl.List(pl.Float64), "extent map"),
    }
    sentences = {
        "nothing": Sentence("cannot tell", "no image was seen", "No image gave evidence to map."),
        "adds_up": Sentence(
            "yes",
            "each position sees a local patch, and the mean of the map was checked to be the logits",
            "Its answer is exactly the mean of what patches of {seen} say by themselves.",
        ),
        "not_local": Sentence(
            "no",
            "the positions of its map see more than local patches",
            "Its answer is no sum of local patches: each position of its map sees {seen}.",
        ),
        "strongest": Sentence(
            "yes",
            "some image has positive evidence for its class",
            "The strongest {share:.0%} of them hold {top:.0%} of the evidence for the class ({interval}; {images}).",
        ),
        "on_object": Sentence(
            "yes",
            "the whole interval of hits beyond chance lies above 0",
            "The strongest one lies on the object in {hits:.0%} of {images}, a position at random in {chance:.0%}.",
        ),
        "not_on_object": Sentence(
            "no",
            f"the whole interval of hits beyond chance lies below {MARGIN}",
            "The strongest one lies on the object no more often than a position at random: in {hits:.0%} of {images}, "
            "that in {chance:.0%}.",
        ),
        "object_cannot_tell": Sentence(
            "cannot tell",
            f"the interval of hits beyond chance holds 0 and reaches {MARGIN}, or there is none",
            "Whether the strongest one lies on the object cannot be said from {images}: it does in {hits:.0%}, a "
            "position at random in {chance:.0%}.",
        ),
    }

    def __post_init__(self) -> None:
        if self.images < 1 or not 0 < self.top_share <= 1 or self.display < 0:
            raise ValueError("images must be at least 1, 0 < top_share <= 1, display at least 0")

    def start(self, classifier: Classifier) -> Observer:
        dense = classifier.dense
        assert dense is not None, "it needs dense logits"
        return Observer(partial(self.observe, classifier), facts={"local": dense.local, "field_px": dense.field_px})

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: the class, its logit, the map, and how far the map's mean is from the logit."""
        dense, maps = classifier.dense, classifier.dense_logits(batch.pixels)
        assert dense is not None
        if dense.additive or dense.local:
            _check_identity(maps.mean((2, 3)), batch.logits, classifier)
        maps, logits = relative(maps, self.raw), relative(batch.logits, self.raw)
        means = maps.mean((2, 3))
        predicted = batch.logits.argmax(1)
        target = torch.where(batch.labels >= 0, batch.labels, predicted)
        rows = []
        for i, (sample, k) in enumerate(zip(batch.samples, target.tolist(), strict=True)):
            evidence, logit, known = maps[i, k].numpy(), logits[i, k], bool(batch.labels[i] >= 0)
            place = dense.place(evidence.shape, batch.pixels.shape[2:])
            gap = float((means[i, k] - logit).abs()) if dense.additive else None
            row = {"id": sample.id, "target": k, "predicted": int(predicted[i]), "logit": float(logit), "gap": gap}
            row |= {"is_label": known, "height": evidence.shape[0], "width": evidence.shape[1]}
            row |= {"top_part": _top_part(evidence, self.top_share), "map": evidence.astype(float).ravel().tolist()}
            objects = objects_in(sample, classifier.preprocessing, of_label=known)
            if objects is not None:
                on = _on_object(objects, place, evidence.shape)
                hit, chance = bool(on.flat[evidence.argmax()]), float(on.mean())
                row |= {"hit": hit, "by_chance": chance, "beyond_chance": hit - chance}
            rows.append(row | {"extent": list(place.extent)})
        return pl.DataFrame(rows, schema=dict(self.columns))

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        local, field = (about.facts["local"], about.facts["field_px"]) if rows.height else (False, None)
        part, parts = ("patch", "patches") if local else ("position", "positions")
        why, title = (
            "no image has a mask or a box of which the network sees a part",
            f"strongest {part} lies on the object (pointing game)",
        )
        pointed = rows.drop_nulls("hit")
        more: dict[str, Any] = {"why": why, "better": "higher", "per_image": "hit"}
        more |= {"chance": float(pointed["by_chance"].to_numpy().mean())} if pointed.height else {}
        pointing = stats.share("pointing_game", pointed["hit"], title=title, **more)
        title, name = "the same, more often than a position at random", "beyond_chance"
        beyond = stats.mean(name, pointed[name], "difference", why=why, title=title, per_image=name)
        title = f"positive evidence that the strongest {self.top_share:.0%} of {parts} hold"
        more = {"why": "no map with evidence", "title": title, "chance": self.top_share, "per_image": "top_part"}
        top = stats.mean("top_patches", rows["top_part"].drop_nulls(), **more)
        gaps, title = rows["gap"].drop_nulls().to_list(), "largest distance of the map's mean from the logit"
        why = "" if gaps else "the head after the pooling is not linear: the map does not add up to the logit"
        gap = Measure("identity_gap", max(gaps, default=None), n=len(gaps), title=title, why=why)
        side, title = float(field) if field else None, "side of the patch that one position sees"
        why = "" if field else "every position sees the whole image" if rows.height else "no image was seen"
        size = Measure("receptive_field", side, "px", rows.height, title=title, why=why)
        first, second = (top, pointing) if pointing.value is None else (pointing, top)
        seen = f"{field} x {field} pixels" if field else "the whole image"
        against = "as it is, not yet against the others" if self.raw else "against the mean of all classes"
        caveats = [f"The map is in logits: evidence for the class, {against}."]
        if rows.height and not local:
            caveats.insert(0, f"Not local: each position of this class activation map sees {seen}.")
        verdict = self._verdict(rows.height, local, seen, top, pointing, beyond)
        return Conclusion((replace(first, headline=True), second, beyond, size, gap), (), verdict, tuple(caveats))

    def _verdict(self, n: int, local: bool, seen: str, top: Measure, pointing: Measure, beyond: Measure) -> Verdict:
        if not n:
            return self.say("nothing")
        verdict = self.say("adds_up" if local else "not_local", seen=seen)
        if top.value is not None:
            values = {"share": self.top_share, "top": top.value, "interval": interval_text(top)}
            verdict += self.say("strongest", **values, images=counted(top.n, "image"))
        if pointing.value is not None:
            name = "on_object" if beyond.above(0) else "not_on_object" if beyond.below(MARGIN) else "object_cannot_tell"
            values = {"hits": pointing.value, "chance": pointing.chance, "images": counted(pointing.n, "image")}
            verdict += self.say(name, **values)
        return verdict

    def finding(self, said: Conclusion, about: About) -> Finding:
        found = super().finding(said, about)
        return found if about.facts.get("local", True) else replace(found, references=(self.reference, CAM))

    def examples(self, rows: Rows) -> list[str]:
        """Images spread over the set: the first of each of some classes."""
        return rows.unique("target", keep="first", maintain_order=True)["id"].head(MOST_SHOWN).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        row_of, figures = by_id(rows), []
        for number, (name, pixels) in enumerate(zip(batch.ids, batch.pixels, strict=True)):
            row = row_of[name]
            what, mean = "logit" if self.raw else "evidence", ", the mean of the map" if row["gap"] is not None else ""
            caption = f"{classifier.classes.names[row['target']]}: {what} {row['logit']:.2f}{mean}"
            maps = self._maps(classifier, pixels, row, number < self.display)
            figures.append(Figure(caption, to_image(pixels), maps=maps))
        title, caption = "Where the evidence for the class lies", "Red speaks for the class, blue against it."
        yield Panel("evidence", "images", title, caption, figures=tuple(figures))

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        row, dense, pixels = rows.row(0, named=True), classifier.dense, batch.pixels[0]
        assert dense is not None
        name, field = classifier.classes.names[row["target"]], dense.field_px
        whole = field is None or field >= min(pixels.shape[1:])
        seen = "the whole image" if whole else f"{field} x {field} px"
        said, positions = f"It says {answer(classifier, batch.logits[0])}", "the positions of its map"
        if dense.local:
            said, positions = f"{said}, the mean of what patches of {seen} say by themselves", "them"
        else:
            positions += f", each of which has seen {seen},"
        held = "no position of its map has evidence for"
        if row["top_part"] is not None:
            held = f"the strongest {self.top_share:.0%} of {positions} hold {row['top_part']:.0%} of the evidence for"
        figure = Figure("", to_image(pixels), maps=self._maps(classifier, pixels, row, self.display > 0))
        return Look(f"{said}; {held} {name}.", (Panel("evidence", "images", "", figures=(figure,)),))

    def _maps(
        self, classifier: Classifier, pixels: torch.Tensor, row: Mapping[str, Any], display: bool
    ) -> tuple[Map, ...]:
        """The map of the class, and for a BagNet the display heatmap, the map at stride 1."""
        dense, name = classifier.dense, classifier.classes.names[row["target"]]
        title = f"{'evidence' if dense is not None and dense.local else 'class activation'} for {name} (logits)"
        evidence = np.asarray(row["map"]).reshape(row["height"], row["width"]).round(4).tolist()
        own = Map("signed", evidence, title, extent=tuple(row["extent"]))
        if (
            not display
            or "patch_logits" not in classifier.capabilities
            or not hasattr(classifier.network, "display_logits")
        ):
            return (own,)
        values = classifier.display_logits(pixels[None], [row["target"]])[0].numpy().astype(float).round(3).tolist()
        return own, Map("signed", values, "the same around every pixel (raw logits)")


def _check_identity(means: torch.Tensor, logits: torch.Tensor, classifier: Classifier) -> None:
    """The map must be a decomposition of the prediction, or it must not be shown."""
    gap, scale = float((means - logits).abs().max()), max(1.0, float(logits.abs().max()))
    tolerance = 0.05 if classifier.precision == "bfloat16" else 1e-3
    if gap > tolerance * scale:
        away = f"{gap:.3g} away from its logits: not an evidence map"
        raise RuntimeError(f"the mean of {classifier.name}'s patch logits is {away}")


def _top_part(evidence: np.ndarray[Any, Any], share: float) -> float | None:
    positive = np.sort(evidence.clip(min=0), axis=None)[::-1]
    total = positive.sum()
    return float(positive[: max(1, round(share * positive.size))].sum() / total) if total > 0 else None


def _on_object(objects: NDArray[Any], place: Place, shape: tuple[int, ...]) -> NDArray[Any]:
    """(h, w): whether the middle of what each position of a map of `shape` sees lies on an object of (H, W)."""
    middles = [[place.middle(i, j, shape) for j in range(shape[1])] for i in range(shape[0])]
    columns, rows = np.array(middles).transpose(2, 0, 1)
    height, width = objects.shape
    rows, columns = (rows * height).astype(int).clip(0, height - 1), (columns * width).astype(int).clip(0, width - 1)
    return objects[rows, columns]
