"""Which layers does it need? Each is removed in turn, and nothing is trained again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import polars as pl
import torch
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Measure, Panel, dot, short_names
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted, listed
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, answered, typed
from cuescope.methods.layer_losses import LayerLosses
from cuescope.network.layer_removal import Cut, cuts, left_out

NO_ANSWER = -1
"""Stands for the answer where a logit is not a finite number."""
ALIKE = 0.05
"""Two networks whose mean falls surely differ by less than this need their layers alike."""


@dataclass(frozen=True)
class Ablation(Instrument, version=3, order=290, needs={"logits", "features"}):
    """Which layers does it need?

    Each layer whose output has the shape of its input is replaced by the identity, one at a time; the images that are
    still answered correctly are counted, or without labels the answers that stay. A residual block thereby loses its
    branch (Veit et al. 2016). Blocks are taken where there are several, else single convolutions and linear layers, and
    stretches of layers that restore the shape, with the batch norms folded into them. Zeiler & Fergus 2014 train
    networks anew without the layers, which shows what is needed to learn the task, not what this one relies on.

    >>> Ablation(names=("layer1.1", "layer2.1")).images
    64
    """

    images: int = 64
    """How many images are looked at, spread evenly over the set; each goes once through the network for each layer."""
    layers: int = 12
    """The most layers that are tried: the outermost first, evenly spread over the network."""
    names: tuple[str, ...] = ()
    """Layers to try in place of those, by their names in the network, as in layer1.1 or blocks.3."""
    loss: float = 0.1
    """It can do without a layer where the accuracy surely falls by less than this."""

    question = "Which layers does it need?"
    reference = (
        "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, table 3; "
        "Veit et al. 2016, Residual networks behave like ensembles of relatively shallow networks, lesion study"
    )
    columns = {"id": pl.String, **typed(pl.Int32, "label predicted"), "without": pl.List(pl.Int32)}
    compares = True
    sentences = {
        "nothing": Sentence("cannot tell", "no image was seen", "Which layers it needs is not measured: {why}."),
        "chance": Sentence(
            "cannot tell",
            "the whole network's accuracy, or without labels the agreement of its answers, is not surely above chance",
            "The whole network {does} {value:.0%} of {images}, and {chance:.0%} by chance: what its layers are worth "
            "cannot be told.",
        ),
        "average": Sentence(
            "yes",
            "the whole network is above chance",
            "Without {loss} it {does} {left:.0%} of {images}, in place of {value:.0%}.",
        ),
        "needs": Sentence(
            "yes",
            "without each layer counted more images are lost than won (sign test, Holm over all layers), the whole "
            "interval of the fall lies above 0, and not below `loss`",
            "It needs {needed}.",
        ),
        "spares": Sentence(
            "no",
            "without each layer counted the whole interval of the fall lies below `loss`",
            "It can do without any one of {spared}: that costs surely less than {loss:g} points.",
        ),
        "unsure": Sentence(
            "cannot tell",
            "each layer counted is neither needed nor spared",
            "Of {unsure} neither can be told from {images}.",
        ),
        "more": Sentence(
            "yes",
            "both have the same layers and are above chance, and the whole interval of the difference lies off 0",
            "The loss of one of the {layers} layers costs {first} {difference:.1%} more than {second}.",
        ),
        "alike": Sentence(
            "no",
            "both have the same layers and are above chance, and that interval lies within ALIKE of 0",
            "The loss of one of the {layers} layers costs {first} and {second} alike, to within {margin:g} points.",
        ),
        "compare_unsure": Sentence(
            "cannot tell",
            "both have the same layers, and that interval is neither, or one of the two is not surely above chance",
            "Which of {first} and {second} needs its layers more cannot be told from {images}.",
        ),
    }

    def __post_init__(self) -> None:
        if self.images < 1 or self.layers < 1 or not 0 < self.loss <= 1:
            raise ValueError("images and layers must be at least 1, loss above 0 and at most 1")

    def start(self, classifier: Classifier) -> Observer:
        """Facts: the layers that are tried, their shares of all weights, and how many can be removed in all.

        Raises CueError for `names` that are no layers, or cannot be removed.
        """
        network = classifier.network
        assert network is not None, "a black box has no features, which are needed"
        image = torch.rand(1, 3, *classifier.preprocessing.size, generator=torch.Generator().manual_seed(0))
        found = cuts(network, classifier.normalize(image))
        chosen = found.named(self.names) if self.names else found.most(self.layers)
        if not chosen:
            raise Misfit(f"no layer of {classifier.name} gives the shape it takes, so none can be removed as it stands")
        total = sum(p.numel() for p in network.parameters())
        weights = [cut.parameters / total for cut in chosen]
        facts = {"layers": [cut.name for cut in chosen], "weights": weights, "removable": len(found.usual)}
        return Observer(partial(self._observe, classifier, chosen), facts=facts)

    def _observe(self, classifier: Classifier, chosen: Sequence[Cut], batch: Batch) -> Rows:
        """Per image: the answer, and the answer without each layer."""
        without = torch.stack([_answers(classifier, cut, batch.pixels) for cut in chosen], 1)
        return self.table({**answered(batch), "without": without.tolist()})

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        seen = LayerLosses.of(rows, about.facts["layers"])
        none = "" if rows.height else "no image was seen"
        unlabeled = none or ("" if seen.labeled else "no image has a label")
        whole = seen.whole
        right = [] if unlabeled else seen.without.mean(1)
        title = "accuracy without one layer, on average over its own layers"
        without = stats.mean("accuracy_without", right, title=title, why=unlabeled, headline=seen.labeled)
        title = "answers kept without one layer, on average over its own layers"
        kept = stats.mean("answers_kept", seen.kept.mean(1), title=title, why=none, headline=not seen.labeled)
        accuracy = replace(whole, value=None, interval=None, n=0, count=None, why=unlabeled) if unlabeled else whole
        counts = self._counts(seen, none)
        falls = (seen.extreme(which) for which in ("largest", "smallest"))
        panels = tuple(_panels(seen, about.facts["weights"])) if rows.height else ()
        verdict = self._verdict(seen, without if seen.labeled else kept, none)
        caveats = tuple(self._caveats(rows, seen, about))
        return Conclusion((without, kept, *counts, *falls, accuracy), panels, verdict, caveats)

    def sort(self, seen: LayerLosses) -> list[str]:
        """What is to be said of each layer: "needed", "spared" or "unsure"."""
        return [
            "spared" if fall.below(self.loss) else "needed" if lost else "unsure"
            for fall, lost in zip(seen.each, seen.lost, strict=True)
        ]

    def _counts(self, seen: LayerLosses, why: str) -> Iterable[Measure]:
        judged = self.sort(seen)
        for name, title in (
            ("needed", "layers that it needs"),
            ("spared", f"layers whose loss costs surely less than {100 * self.loss:g} points"),
        ):
            if why or not seen.above_chance:
                lacking = why or "the whole network is not surely above chance"
                yield Measure(name, None, "share", why=lacking, title=title, headline=True)
                continue
            k, n = judged.count(name), len(judged)
            # The layers tried are no sample of others; each is judged by its own interval, over images.
            own = "each layer is judged by its own interval"
            yield Measure(name, k / n, "share", n, None, own, title, count=k, headline=True)

    def _verdict(self, seen: LayerLosses, left: Measure, why: str) -> Verdict:
        if why or left.value is None:
            return self.say("nothing", why=why)
        does, value = "is right on" if seen.labeled else "keeps its answer on", seen.whole.value
        images = counted(left.n, "image")
        if not seen.above_chance:
            return self.say("chance", does=does, value=value, images=images, chance=seen.whole.chance)
        count = len(seen.names)
        loss = f"one of its {count} layers" if count > 1 else seen.names[0]
        said = self.say("average", loss=loss, does=does, left=left.value, images=images, value=value)
        by_kind: dict[str, list[str]] = {"needed": [], "spared": [], "unsure": []}
        for name, kind in zip(seen.names, self.sort(seen), strict=True):
            by_kind[kind].append(name)
        for kind, sentence in (("needed", "needs"), ("spared", "spares"), ("unsure", "unsure")):
            if names := by_kind[kind]:
                more = {"needed": {}, "spared": {"loss": 100 * self.loss}, "unsure": {"images": images}}[kind]
                said += self.say(sentence, **{kind: _listed(names, count)}, **more)
        return said

    def compare(self, first: Rows, second: Rows, about: tuple[About, About]) -> Conclusion:
        layers = [one.facts["layers"] for one in about]
        if layers[0] != layers[1]:
            raise Misfit("their layers have other names, and a mean over other layers is another thing")
        common = first.select("id").join(second.select("id"), on="id", how="semi")
        a, b = (
            LayerLosses.of(common.join(rows, on="id", how="left", maintain_order="left"), names)
            for rows, names in zip((first, second), layers, strict=True)
        )
        if a.labeled != b.labeled or len(a.intact) != len(b.intact) or not len(a.intact):
            raise Misfit("they have no labeled images in common")
        title = "fall without one layer, on average over the layers: the first less the second"
        differences = a.falls.mean(1) - b.falls.mean(1)
        more = stats.mean("falls_more", differences, "difference", title=title, headline=True)
        names, sure = short_names(about), a.above_chance and b.above_chance
        if sure and (more.above(0) or more.below(0)):
            order = names if more.above(0) else names[::-1]
            said = {"first": order[0], "second": order[1], "difference": abs(more.value or 0.0)}
            verdict = self.say("more", layers=len(layers[0]), **said)
        elif sure and more.within(-ALIKE, ALIKE):
            said = {"first": names[0], "second": names[1], "margin": 100 * ALIKE}
            verdict = self.say("alike", layers=len(layers[0]), **said)
        else:
            verdict = self.say(
                "compare_unsure", first=names[0], second=names[1], images=counted(len(a.intact), "image")
            )
        series = [(name, one.each) for name, one in zip(names, (a, b), strict=True)]
        columns = ["layer", *(f"fall of {name}" for name in names)]
        table = [[layer, *(f"{falls[i].value:.1%}" for _, falls in series)] for i, layer in enumerate(layers[0])]
        panel = Panel("falls", "table", "What each layer is worth to the two", "", {"columns": columns, "rows": table})
        return Conclusion((more,), (panel,), verdict)

    def _caveats(self, rows: Rows, seen: LayerLosses, about: About) -> Iterable[str]:
        yield (
            "Nothing was trained again: the layers behind a removed one get inputs that they were not trained on. A "
            "network trained without the layer may do as well."
        )
        yield "A mean over the layers of one network says nothing beside that over the other layers of another one."
        yield "Layers are needed after a correction for how many were tried (Holm); each is spared by its own interval."
        if rows.height and not self.names:
            tried = f"{len(seen.names)} of {about.facts['removable']}"
            yield f"Tried: {tried} blocks or layers that keep the shape; the others cannot be removed."
        if unlabeled := rows.height - len(seen.intact):
            yield f"{unlabeled} images without a label count for the answers kept only."


def _answers(classifier: Classifier, cut: Cut, pixels: Tensor) -> Tensor:
    """(B,) int64: the answers without a layer."""
    assert classifier.network is not None
    with torch.inference_mode(), left_out(classifier.network, cut):
        parts = classifier.executor.parts(len(pixels), lambda a, b: (classifier.forward(pixels[a:b]).cpu(),))
    logits = parts[0]
    return torch.where(logits.isfinite().all(1), logits.argmax(1), NO_ANSWER)


def _panels(seen: LayerLosses, weights: Sequence[float]) -> Iterable[Panel]:
    falls = [dot(fall.label, fall.value, fall.interval, fall.n) for fall in seen.each]
    lost = "accuracy" if seen.labeled else "answers kept"
    title, caption = (
        f"Loss of {lost} without each layer, in points",
        "In the network's order; 95% intervals over images.",
    )
    yield Panel("falls", "dots", title, caption, {"unit": "difference", "rows": falls})
    columns, shares = ["layer", "weights", "answers kept"], [seen.kept.mean(0)]
    if seen.labeled:
        columns, shares = [*columns, "accuracy"], [*shares, seen.without.mean(0)]
    each = zip(seen.names, weights, *shares, strict=True)
    table = [[name, *(f"{share:.1%}" for share in of_layer)] for name, *of_layer in each]
    yield Panel("layers", "table", "The layers", "What is left without each.", {"columns": columns, "rows": table})


def _listed(names: Sequence[str], tried: int) -> str:
    """Few layers by name, many by number."""
    if len(names) > 3:
        return f"{len(names)} of the {tried} layers tried" if len(names) < tried else f"all {tried} layers tried"
    return listed(names)
