"""Which layers does it need? Each is removed in turn, and nothing is trained again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Measure, Panel, dot
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, answered, typed, where_labeled
from cuescope.network.layer_removal import Cut, cuts, left_out

NO_ANSWER = -1
"""Stands for the answer where a logit is not a finite number."""


@dataclass(frozen=True)
class Ablation(Instrument, version=2, order=290, needs={"logits", "features"}):
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
    loss: float = 0.05
    """A layer counts as one it can do without where the accuracy falls by less than this."""

    question = "Which layers does it need?"
    reference = (
        "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, table 3; "
        "Veit et al. 2016, Residual networks behave like ensembles of relatively shallow networks, lesion study"
    )
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label predicted"),
        "without": pl.List(pl.Int32),
        **typed(pl.Float64, "right_without kept_without"),
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
        right = where_labeled(batch, (without == batch.labels[:, None]).double().mean(1))
        kept = (without == batch.logits.argmax(1)[:, None]).double().mean(1).numpy()
        found = {"without": without.tolist(), "right_without": right, "kept_without": kept}
        return self.table({**answered(batch), **found})

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        seen = _seen(rows, about)
        none = "" if rows.height else "no image was seen"
        unlabeled = none or ("" if seen.labeled else "no image has a label")
        right, whole = ([], []) if unlabeled else (seen.without.mean(1), seen.intact)
        more = {"headline": seen.labeled, "chance": 1 / max(len(about.classes), 1), "per_image": "right_without"}
        without = stats.mean("accuracy_without", right, title="accuracy without one layer", why=unlabeled, **more)
        more = {"headline": not seen.labeled, "per_image": "kept_without"}
        kept = stats.mean("answers_kept", seen.kept.mean(1), title="answers kept without one layer", why=none, **more)
        spared = self._spared(seen, none)
        accuracy = stats.share("accuracy", whole, title="accuracy of the whole network", why=unlabeled)
        measures = (without, kept, spared, *(_fall(seen, which, none) for which in ("largest", "smallest")), accuracy)
        panels = tuple(_panels(seen, about.facts["weights"])) if rows.height else ()
        sentence = self._sentence(seen, spared, without if seen.labeled else kept)
        return Conclusion(measures, panels, sentence, tuple(self._caveats(rows, seen, about)))

    def _spared(self, seen: "_Seen", why: str) -> Measure:
        title = f"layers whose removal costs less than {100 * self.loss:g} points"
        if why:
            return Measure("spared", None, "share", title=title, why=why, headline=True)
        k, n = int((seen.falls.mean(0) < self.loss).sum()), len(seen.names)
        interval = stats.bootstrap_of_means(seen.falls, lambda means: (means < self.loss).mean(1))
        return Measure("spared", k / n, "share", n, interval, title=title, count=k, headline=True)

    def _sentence(self, seen: "_Seen", spared: Measure, left: Measure) -> str:
        if spared.value is None or left.value is None:
            return f"Which layers it needs is not measured: {spared.why}."
        does, whole = "keeps its answer on", ""
        if seen.labeled:
            does, whole = "is right on", f", in place of {seen.intact.mean():.0%}"
        much, worst = f"{left.value:.0%} of {left.n} image{'s' * (left.n > 1)}", seen.at("largest")
        if len(seen.names) == 1:
            return f"Without {seen.names[0]} it {does} {much}{whole}."
        text = f"Without one of its layers it {does} {much} on average{whole}: on {seen.without[:, worst].mean():.0%} "
        few = f"{spared.count or 'none'} of the {spared.n} tried {'costs' if (spared.count or 0) < 2 else 'cost'}"
        return f"{text}without {seen.names[worst]}, and {few} less than {100 * self.loss:g} points."

    def _caveats(self, rows: Rows, seen: "_Seen", about: About) -> Iterable[str]:
        yield (
            "Nothing was trained again: the layers behind a removed one get inputs that they were not trained on. A "
            "network trained without the layer may do as well."
        )
        yield "The largest and the smallest of several falls are picked on the images that they are measured on."
        if rows.height and not self.names:
            tried = f"{len(seen.names)} of {about.facts['removable']}"
            yield f"Tried: {tried} blocks or layers that keep the shape; the others cannot be removed."
        if unlabeled := rows.height - len(seen.intact):
            yield f"{unlabeled} images without a label count for the answers kept only."


class _Seen(NamedTuple):
    """What became of the images: of the labeled ones whether it is right, or of all whether the answer stays."""

    names: list[str]
    intact: NDArray[np.float64]
    """(n,): whether the whole network is right; all 1 without labels."""
    without: NDArray[np.float64]
    """(n, layers): the same without each layer."""
    kept: NDArray[np.float64]
    """(images, layers): whether the answer stays, of all images."""
    labeled: bool

    @property
    def falls(self) -> NDArray[np.float64]:
        return self.intact[:, None] - self.without

    def at(self, which: str) -> int:
        """The layer of the "largest" or "smallest" fall; the first where several fall alike."""
        means = self.falls.mean(0)
        return int(means.argmax() if which == "largest" else means.argmin())


def _answers(classifier: Classifier, cut: Cut, pixels: Tensor) -> Tensor:
    """(B,) int64: the answers without a layer."""
    assert classifier.network is not None
    with torch.inference_mode(), left_out(classifier.network, cut):
        parts = classifier.executor.parts(len(pixels), lambda a, b: (classifier.forward(pixels[a:b]).cpu(),))
    logits = parts[0]
    return torch.where(logits.isfinite().all(1), logits.argmax(1), NO_ANSWER)


def _seen(rows: Rows, about: About) -> "_Seen":
    names = about.facts["layers"]
    without = np.array(rows["without"].to_list(), int).reshape(rows.height, len(names))
    kept = (without == rows["predicted"].to_numpy()[:, None]).astype(float)
    known = rows["label"].is_not_null().to_numpy()
    if not known.any():
        return _Seen(names, np.ones(rows.height), kept, kept, labeled=False)
    labels = rows["label"].fill_null(NO_ANSWER - 1).to_numpy()
    intact, right = rows["predicted"].to_numpy() == labels, without == labels[:, None]
    return _Seen(names, intact[known] * 1.0, right[known] * 1.0, kept, labeled=True)


def _fall(seen: "_Seen", which: str, why: str) -> Measure:
    title = f"{which} fall of {'accuracy' if seen.labeled else 'the answers kept'} without one layer"
    without = [] if why else seen.without[:, seen.at(which)]
    return stats.difference(f"{which}_fall", seen.intact, without, title=title, why=why)


def _panels(seen: "_Seen", weights: Sequence[float]) -> Iterable[Panel]:
    n, layers = len(seen.intact), list(zip(seen.names, seen.without.T, strict=True))
    counts = [(name, int(answers.sum())) for name, answers in layers]
    dots = [dot(name, k / n, stats.wilson(k, n), n) for name, k in counts]
    marks = [{"who": "the whole network", "values": [float(seen.intact.mean())] * len(dots)}] if seen.labeled else []
    title = "Accuracy without each layer" if seen.labeled else "Answers kept without each layer"
    caption = "In the order of the network. The bars are 95% intervals over images."
    yield Panel("without", "dots", title, caption, {"unit": "share", "rows": dots, "marks": marks})
    if seen.labeled:
        falls = [dot(name, *stats.paired_difference(seen.intact, answers)) for name, answers in layers]
        caption = (
            "By how much the accuracy falls on the same images. Where the bar crosses 0, these images do not show "
        )
        caption += "whether the layer is needed at all."
        yield Panel("falls", "dots", "What each layer is worth", caption, {"unit": "difference", "rows": falls})
    kept = seen.kept.mean(0)
    table = [[name, f"{w:.1%}", f"{k:.1%}"] for name, w, k in zip(seen.names, weights, kept, strict=True)]
    data = {"columns": ["layer", "of all weights", "answers kept without it"], "rows": table}
    yield Panel("layers", "table", "The layers", "How much of the network each layer is.", data)
